//! Documents of a file: rules, routes, and lists of them as `kubectl get -o yaml` writes them.

use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use portcullis_crds::{GROUP, VERSION, WafRouteSpec, WasmRuleSpec};
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::error::ManifestError;

const RULE: &str = "WasmRule";
const ROUTE: &str = "WafRoute";

/// A rule or route as it is written. Its status is the API server's, and nothing here.
pub(super) struct Object {
    pub(super) kind: String,
    pub(super) metadata: ObjectMeta,
    pub(super) spec: Option<Spec>,
}

/// What is wanted.
pub(super) enum Spec {
    Rule(Box<WasmRuleSpec>),
    Route(WafRouteSpec),
}

/// What was read, and the paths of what no type knows.
pub(super) struct Strict<T> {
    pub(super) read: T,
    pub(super) unknown: Vec<String>,
}

/// The objects of all documents, in their order.
pub(super) fn read(yaml: &str) -> Result<Vec<Strict<Object>>, ManifestError> {
    for head in documents::<Head>(yaml)? {
        head.check()?;
    }
    let mut objects = Vec::new();
    for document in documents::<Strict<Document<Items>>>(yaml)? {
        objects.extend(document.objects()?);
    }
    Ok(objects)
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
        let is_typed_list = self.is_ours("WasmRuleList") || self.is_ours("WafRouteList");
        if is_typed_list || (self.api_version == "v1" && self.kind == "List") {
            return self.items.into_iter().try_for_each(Self::check_object);
        }
        self.check_object()
    }

    fn check_object(self) -> Result<(), ManifestError> {
        if self.is_ours(RULE) || self.is_ours(ROUTE) {
            return Ok(());
        }
        Err(ManifestError::Kind { api_version: self.api_version, kind: self.kind })
    }

    fn is_ours(&self, kind: &str) -> bool {
        self.api_version == format!("{GROUP}/{VERSION}") && self.kind == kind
    }
}

/// An object or a list of objects.
struct Document<I> {
    kind: String,
    metadata: ObjectMeta,
    spec: Option<Spec>,
    items: Option<I>,
}

/// Those of a list. None of them is a list.
type Items = Vec<Strict<Item>>;
type Item = Document<IgnoredAny>;

impl<'de, I: Deserialize<'de>> Deserialize<'de> for Document<I> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DocumentVisitor(PhantomData))
    }
}

/// Reads a spec as that of the kind that comes before it.
struct DocumentVisitor<I>(PhantomData<I>);

impl<'de, I: Deserialize<'de>> Visitor<'de> for DocumentVisitor<I> {
    type Value = Document<I>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {RULE}, a {ROUTE}, or a List of them")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document<I>, A::Error> {
        let mut document =
            Document { kind: String::new(), metadata: ObjectMeta::default(), spec: None, items: None };
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "kind" => document.kind = map.next_value()?,
                "metadata" => document.metadata = map.next_value()?,
                "items" => document.items = Some(map.next_value()?),
                "spec" => {
                    document.spec = match document.kind.as_str() {
                        RULE => Some(Spec::Rule(Box::new(map.next_value()?))),
                        ROUTE => Some(Spec::Route(map.next_value()?)),
                        "" => return Err(A::Error::custom("expected kind before spec, found spec first")),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            None
                        }
                    }
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(document)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Strict<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut unknown = Vec::new();
        let read = serde_ignored::deserialize(deserializer, |path| {
            // A field that may be left out is a step of its own, `spec.?.sauce`.
            unknown.push(path.to_string().replace(".?", ""));
        })?;
        // The first is read by `Head`; each item has a list of its own.
        unknown.retain(|path| !matches!(path.as_str(), "apiVersion" | "status"));
        unknown.retain(|path| !path.starts_with("items."));
        Ok(Self { read, unknown })
    }
}

impl Strict<Document<Items>> {
    fn objects(self) -> Result<Vec<Strict<Object>>, ManifestError> {
        let Self { read: Document { kind, metadata, spec, items }, mut unknown } = self;
        if matches!(kind.as_str(), RULE | ROUTE) {
            unknown.extend(items.map(|_| "items".to_owned()));
            return Ok(vec![Strict { read: Object { kind, metadata, spec }, unknown }]);
        }
        // The metadata of a list is another type's, and says nothing about objects.
        unknown.retain(|path| !path.starts_with("metadata."));
        if !unknown.is_empty() {
            return Err(ManifestError::UnknownFields { object: kind, fields: unknown });
        }
        let message = "expected items, found nothing".to_owned();
        let items = items.ok_or(ManifestError::Invalid { object: kind, message })?;
        Ok(items.into_iter().map(Strict::object).collect())
    }
}

impl Strict<Item> {
    fn object(self) -> Strict<Object> {
        let Self { read: Document { kind, metadata, spec, .. }, unknown } = self;
        Strict { read: Object { kind, metadata, spec }, unknown }
    }
}
