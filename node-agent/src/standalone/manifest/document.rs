//! Documents of a file: rules, and lists of rules as `kubectl get -o yaml` writes them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use portcullis_crds::wasm_rule::WasmRuleSpec;
use portcullis_crds::{GROUP, VERSION};
use serde::{Deserialize, Deserializer};

use super::error::ManifestError;

/// A rule as it is written. Its status is the API server's, and nothing here.
#[derive(Deserialize)]
pub(super) struct Rule {
    #[serde(default)]
    pub(super) metadata: ObjectMeta,
    pub(super) spec: Option<WasmRuleSpec>,
}

/// What was read, and the paths of what no type knows.
pub(super) struct Strict<T> {
    pub(super) read: T,
    pub(super) unknown: Vec<String>,
}

/// The rules of all documents, in their order.
pub(super) fn read(yaml: &str) -> Result<Vec<Strict<Rule>>, ManifestError> {
    for head in documents::<Head>(yaml)? {
        head.check()?;
    }
    let mut rules = Vec::new();
    for document in documents::<Strict<Document>>(yaml)? {
        rules.extend(document.rules()?);
    }
    Ok(rules)
}

fn documents<'de, T: Deserialize<'de>>(yaml: &'de str) -> Result<Vec<T>, ManifestError> {
    serde_yaml::from_multiple(yaml).map_err(|e| ManifestError::Yaml(e.to_string()))
}

/// What a document says it is: read first, so that another kind is named rather than its fields.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    items: Vec<Head>,
}

impl Head {
    fn check(self) -> Result<(), ManifestError> {
        if self.is_ours("WasmRuleList") || (self.api_version == "v1" && self.kind == "List") {
            return self.items.into_iter().try_for_each(Self::check_rule);
        }
        self.check_rule()
    }

    fn check_rule(self) -> Result<(), ManifestError> {
        if self.is_ours("WasmRule") {
            return Ok(());
        }
        Err(ManifestError::Kind { api_version: self.api_version, kind: self.kind })
    }

    fn is_ours(&self, kind: &str) -> bool {
        self.api_version == format!("{GROUP}/{VERSION}") && self.kind == kind
    }
}

/// A rule or a list of rules.
#[derive(Deserialize)]
struct Document {
    kind: String,
    #[serde(default)]
    metadata: ObjectMeta,
    spec: Option<WasmRuleSpec>,
    items: Option<Vec<Strict<Rule>>>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Strict<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut unknown = Vec::new();
        let read = serde_ignored::deserialize(deserializer, |path| {
            // A field that may be left out is a step of its own, `spec.?.sauce`.
            unknown.push(path.to_string().replace(".?", ""));
        })?;
        // The first two are read by `Head`; each item has a list of its own.
        unknown.retain(|path| !matches!(path.as_str(), "apiVersion" | "kind" | "status"));
        unknown.retain(|path| !path.starts_with("items."));
        Ok(Self { read, unknown })
    }
}

impl Strict<Document> {
    fn rules(self) -> Result<Vec<Strict<Rule>>, ManifestError> {
        let Self { read: Document { kind, metadata, spec, items }, mut unknown } = self;
        if kind == "WasmRule" {
            unknown.extend(items.map(|_| "items".to_owned()));
            return Ok(vec![Strict { read: Rule { metadata, spec }, unknown }]);
        }
        // The metadata of a list is another type's, and says nothing about rules.
        unknown.retain(|path| !path.starts_with("metadata."));
        unknown.extend(spec.map(|_| "spec".to_owned()));
        if !unknown.is_empty() {
            return Err(ManifestError::UnknownFields { rule: kind, fields: unknown });
        }
        let message = "expected items, found nothing".to_owned();
        items.ok_or(ManifestError::Invalid { rule: kind, message })
    }
}
