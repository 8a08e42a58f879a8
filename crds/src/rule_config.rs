//! `spec.config`: JSON that only the module understands.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::quantity::ByteSize;

/// Largest `spec.config`, as [`CanonicalConfig`].
pub const CONFIG_CEILING: ByteSize = ByteSize::kib(64);

/// A JSON object of the module's own schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleConfig(Map<String, Value>);

/// A [`RuleConfig`] as a module takes it: JSON with sorted keys and without white space between them.
///
/// It travels as text, so that every node hands its module the very bytes that the operator tried out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct CanonicalConfig(Arc<str>);

/// A configuration that no module is given.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "expected spec.config of at most {CONFIG_CEILING} as JSON without white space, found {0} bytes: shorten it"
)]
pub struct ConfigTooLarge(usize);

impl RuleConfig {
    /// The bytes for the module. Equal configurations have equal ones.
    pub fn canonical(&self) -> CanonicalConfig {
        let mut value = Value::Object(self.0.clone());
        // They are sorted already, unless some crate of the build has serde_json keep the order of insertion.
        value.sort_all_objects();
        CanonicalConfig(value.to_string().into())
    }
}

impl JsonSchema for RuleConfig {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RuleConfig".into()
    }

    // An API server cannot measure it: the operator does.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
    }
}

impl CanonicalConfig {
    /// JSON in UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether it is small enough for a module.
    pub fn check_size(&self) -> Result<(), ConfigTooLarge> {
        if self.0.len() as u64 <= CONFIG_CEILING.get() { Ok(()) } else { Err(ConfigTooLarge(self.0.len())) }
    }
}

impl From<String> for CanonicalConfig {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<CanonicalConfig> for String {
    fn from(config: CanonicalConfig) -> Self {
        config.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(json: &str) -> CanonicalConfig {
        serde_json::from_str::<RuleConfig>(json).unwrap().canonical()
    }

    #[test]
    fn equal_configurations_are_equal_bytes_however_they_are_written() {
        let one = canonical(r#"{"deny": ["sqlmap", "nikto"], "at": {"b": 1, "a": null}}"#);
        let other = canonical("{\"at\":{\"a\":null,\n\"b\":1},\"deny\":[\"sqlmap\",\"nikto\"]}");
        assert_eq!(one, other);
        assert_eq!(one.as_bytes(), br#"{"at":{"a":null,"b":1},"deny":["sqlmap","nikto"]}"#);
        assert_ne!(one, canonical(r#"{"deny": ["nikto", "sqlmap"], "at": {"b": 1, "a": null}}"#));
    }

    #[test]
    fn a_number_comes_to_the_module_as_it_was_written() {
        let config = canonical(r#"{"share": 0.1, "most": 18446744073709551615, "least": -1, "one": 1.0}"#);
        let sent = serde_json::to_string(&config).unwrap();
        let received: CanonicalConfig = serde_json::from_str(&sent).unwrap();
        assert_eq!(received, config);
        assert_eq!(received.as_bytes(), br#"{"least":-1,"most":18446744073709551615,"one":1.0,"share":0.1}"#);
    }

    #[test]
    fn only_an_object_is_a_configuration() {
        for other in ["[]", "1", "\"text\"", "null"] {
            assert!(serde_json::from_str::<RuleConfig>(other).is_err(), "{other}");
        }
    }

    #[test]
    fn the_ceiling_counts_the_bytes_that_the_module_is_given() {
        let of = |length: usize| canonical(&format!("{{ \"a\" :  \"{}\" }}", "x".repeat(length)));
        let around = r#"{"a":""}"#.len();
        assert_eq!(of(65_536 - around).check_size(), Ok(()));
        assert_eq!(of(65_537 - around).check_size(), Err(ConfigTooLarge(65_537)));
        let message = ConfigTooLarge(65_537).to_string();
        assert!(message.contains("at most 64Ki") && message.contains("found 65537 bytes"), "{message}");
    }
}
