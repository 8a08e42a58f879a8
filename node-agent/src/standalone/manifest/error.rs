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
        "expected apiVersion {GROUP}/{VERSION} and kind WasmRule or WafRoute, or a List of them, found {api_version} and {kind}"
    )]
    Kind {
        /// As written.
        api_version: String,
        /// As written.
        kind: String,
    },
    /// A key that the kind does not have.
    #[error("{object}: unknown field {}; correct or remove it", .fields.join(", "))]
    UnknownFields {
        /// Which rule or route.
        object: String,
        /// Their paths.
        fields: Vec<String>,
    },
    /// A value that the API server would refuse.
    #[error("{object}: {message}")]
    Invalid {
        /// Which rule or route.
        object: String,
        /// What was expected, what was found.
        message: String,
    },
}
