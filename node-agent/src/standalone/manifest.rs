//! Reads WasmRule YAML as `kubectl apply` would take it, but for `source.file`.
//!
//! There is no API server here, so its checks are made here: unknown keys, ranges, exactly one source.

use portcullis_crds::wasm_rule::{
    BODY_CEILING, BODY_FLOOR, DEADLINE_CEILING, DEADLINE_FLOOR, Limits, MEMORY_CEILING, MEMORY_FLOOR,
    WasmRule, WasmRuleSpec,
};
use portcullis_crds::{GROUP, RuleKey, VERSION};
use serde::{Deserialize, Deserializer};
use thiserror::Error;

/// One rule of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Namespace and name; the namespace is `default` where none is given.
    pub key: RuleKey,
    /// As written.
    pub spec: WasmRuleSpec,
    /// `source.file`.
    pub file: String,
}

/// Why a file was not taken.
#[derive(Debug, Error, PartialEq)]
pub enum ManifestError {
    /// Not YAML, or not of this shape.
    #[error("{0}")]
    Yaml(String),
    /// Another kind.
    #[error("expected apiVersion {GROUP}/{VERSION} and kind WasmRule, found {api_version} and {kind}")]
    Kind {
        /// As written.
        api_version: String,
        /// As written.
        kind: String,
    },
    /// A key that a WasmRule does not have.
    #[error("rule {rule}: unknown field {}; correct or remove it", .fields.join(", "))]
    UnknownFields {
        /// Which rule.
        rule: String,
        /// Their paths.
        fields: Vec<String>,
    },
    /// A value that the API server would refuse.
    #[error("rule {rule}: {message}")]
    Invalid {
        /// Which rule.
        rule: String,
        /// What was expected, what was found.
        message: String,
    },
}

/// Reads all documents of a file.
pub fn read(yaml: &str) -> Result<Vec<Manifest>, ManifestError> {
    let heads: Vec<Head> = documents(yaml)?;
    for Head { api_version, kind } in heads {
        if api_version != format!("{GROUP}/{VERSION}") || kind != "WasmRule" {
            return Err(ManifestError::Kind { api_version, kind });
        }
    }
    documents::<Strict>(yaml)?.into_iter().map(check).collect()
}

fn documents<'de, T: Deserialize<'de>>(yaml: &'de str) -> Result<Vec<T>, ManifestError> {
    serde_yaml::from_multiple(yaml).map_err(|e| ManifestError::Yaml(e.to_string()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
}

/// A rule, and what in its document no type knows.
struct Strict {
    rule: WasmRule,
    unknown: Vec<String>,
}

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut unknown = Vec::new();
        let rule = serde_ignored::deserialize(deserializer, |path| unknown.push(path.to_string()))?;
        // Read by `Head`; the type has them in its name.
        unknown.retain(|path| path != "apiVersion" && path != "kind");
        Ok(Self { rule, unknown })
    }
}

fn check(Strict { rule, unknown }: Strict) -> Result<Manifest, ManifestError> {
    let name = rule.metadata.name.unwrap_or_default();
    let namespace = rule.metadata.namespace.unwrap_or_else(|| "default".to_owned());
    if !unknown.is_empty() {
        return Err(ManifestError::UnknownFields { rule: name, fields: unknown });
    }
    let spec = rule.spec;
    let invalid = |message: String| ManifestError::Invalid { rule: name.clone(), message };
    if name.is_empty() {
        return Err(invalid("expected metadata.name, found nothing".to_owned()));
    }
    if spec.source.oci.is_some() {
        let hint = "source.oci needs a cluster; pull the module (`portcullis pull`) and set source.file";
        return Err(invalid(hint.to_owned()));
    }
    let Some(file) = spec.source.file.clone() else {
        return Err(invalid(
            "expected source.file, the module's path beside this file, found nothing".to_owned(),
        ));
    };
    ranges(&spec).map_err(invalid)?;
    Ok(Manifest { key: RuleKey::namespaced(namespace, name), spec, file })
}

/// The ranges of the CustomResourceDefinition.
fn ranges(spec: &WasmRuleSpec) -> Result<(), String> {
    let Limits { fuel, fuel_per_byte, memory, deadline, body_bytes } = &spec.limits;
    let between = |holds: bool, field: &str, range: &str, found: String| {
        if holds { Ok(()) } else { Err(format!("expected {field} between {range}, found {found}")) }
    };
    between(
        (0..=1_000_000).contains(&spec.priority),
        "priority",
        "0 and 1000000",
        spec.priority.to_string(),
    )?;
    between((1_000..=1_000_000).contains(fuel), "limits.fuel", "1000 and 1000000", fuel.to_string())?;
    between(*fuel_per_byte <= 1_000, "limits.fuelPerByte", "0 and 1000", fuel_per_byte.to_string())?;
    between(
        (MEMORY_FLOOR..=MEMORY_CEILING).contains(memory),
        "limits.memory",
        &format!("{MEMORY_FLOOR} and {MEMORY_CEILING}"),
        memory.to_string(),
    )?;
    between(
        (DEADLINE_FLOOR..=DEADLINE_CEILING).contains(deadline),
        "limits.deadline",
        &format!("{DEADLINE_FLOOR} and {DEADLINE_CEILING}"),
        deadline.to_string(),
    )?;
    if let Some(bytes) = body_bytes {
        between(
            (BODY_FLOOR..=BODY_CEILING).contains(bytes),
            "limits.bodyBytes",
            &format!("{BODY_FLOOR} and {BODY_CEILING}"),
            bytes.to_string(),
        )?;
    }
    if let Some(config) = &spec.config {
        config.canonical().check_size().map_err(|error| error.to_string())?;
    }
    between(
        (400..=599).contains(&spec.block.status),
        "block.status",
        "400 and 599",
        spec.block.status.to_string(),
    )
}

#[cfg(test)]
mod tests {
    use portcullis_crds::ByteSize;

    use super::*;

    const RULE: &str = "
apiVersion: portcullis.dev/v1alpha1
kind: WasmRule
metadata:
  name: bad-bot-blocker
  labels: {team: shop}
spec:
  source:
    file: bad-bot-blocker.wasm
  limits:
    memory: 2Mi
";

    #[test]
    fn a_rule_is_read_with_the_defaults_of_the_cluster() {
        let rules = read(RULE).unwrap();
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0].key, RuleKey::namespaced("default", "bad-bot-blocker"));
        assert_eq!(rules[0].file, "bad-bot-blocker.wasm");
        assert_eq!(rules[0].spec.limits, Limits { memory: ByteSize::mib(2), ..Limits::default() });
    }

    #[test]
    fn a_file_may_hold_several_rules() {
        let second = RULE.replace("name: bad-bot-blocker", "name: other");
        assert_eq!(read(&format!("{RULE}---{second}")).unwrap().len(), 2);
    }

    #[test]
    fn unknown_keys_are_refused_by_their_path() {
        for (key, path) in
            [("memory", "spec.limits.memmory"), ("source", "spec.sauce"), ("labels", "metadata.label")]
        {
            let wrong = path.rsplit('.').next().unwrap();
            let yaml = if key == "source" {
                RULE.replace("spec:\n", "spec:\n  sauce: 1\n")
            } else {
                RULE.replace(&format!("{key}:"), &format!("{wrong}:"))
            };
            let error = read(&yaml).unwrap_err().to_string();
            assert!(error.contains(path), "{error}");
        }
    }

    #[test]
    fn a_configuration_is_free_json_up_to_its_ceiling() {
        let with = |config: &str| read(&RULE.replace("spec:\n", &format!("spec:\n  config: {config}\n")));
        let rules = with("{deny: [sqlmap, nikto], depth: 2, share: 0.5, strict: true, note: null}").unwrap();
        let config = rules[0].spec.config.as_ref().unwrap().canonical();
        assert_eq!(
            String::from(config),
            r#"{"deny":["sqlmap","nikto"],"depth":2,"note":null,"share":0.5,"strict":true}"#
        );
        let error = with(&format!("{{deny: [{}]}}", "x".repeat(70_000))).unwrap_err().to_string();
        assert!(error.contains("spec.config of at most 64Ki"), "{error}");
        assert!(with("[sqlmap]").is_err());
    }

    #[test]
    fn what_the_api_server_refuses_is_refused_with_the_reason() {
        for (from, to, reason) in [
            ("memory: 2Mi", "memory: 64Mi", "limits.memory between 64Ki and 16Mi, found 64Mi"),
            ("memory: 2Mi", "deadline: 1s", "limits.deadline between 100us and 10ms, found 1s"),
            ("memory: 2Mi", "fuel: 1", "limits.fuel between"),
            ("    file: bad-bot-blocker.wasm", "    oci: {reference: r.example/a:1}", "needs a cluster"),
            ("kind: WasmRule", "kind: Rule", "found portcullis.dev/v1alpha1 and Rule"),
            ("name: bad-bot-blocker\n", "namespace: a\n", "metadata.name"),
        ] {
            let error = read(&RULE.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let error = read(&RULE.replace("memory: 2Mi", "memory: lots")).unwrap_err().to_string();
        assert!(error.contains("expected a size such as 4Mi"), "{error}");
    }
}
