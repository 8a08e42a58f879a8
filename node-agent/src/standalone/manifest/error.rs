//! Why a file was not taken.

use portcullis_crds::{GROUP, VERSION};
use thiserror::Error;

/// Why a file was not taken.
#[derive(Debug, Error, PartialEq)]
pub enum ManifestError {
    /// Not YAML, or not of this shape.
    #[error("{0}")]
    Yaml(String),
    /// Another kind.
    #[error(
        "expected apiVersion {GROUP}/{VERSION} and kind WasmRule, or a List of them, found {api_version} and {kind}"
    )]
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
