//! What a registry says in the body of an error.

use serde::Deserialize;

use crate::untrusted::{excerpt, excerpt_bytes};

/// The error list of OCI distribution-spec 1.1 "Error Codes", or whatever text came instead.
#[derive(Debug, Default)]
pub(crate) struct ErrorBody {
    codes: Vec<String>,
    text: String,
}

impl ErrorBody {
    pub(crate) fn parse(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Envelope {
            errors: Vec<Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            code: String,
            #[serde(default)]
            message: String,
        }
        let Ok(Envelope { errors }) = serde_json::from_slice(body) else {
            return Self { codes: Vec::new(), text: excerpt_bytes(body) };
        };
        let text: Vec<String> =
            errors.iter().map(|error| format!("{} {}", error.code, error.message)).collect();
        Self { text: excerpt(&text.join("; ")), codes: errors.into_iter().map(|error| error.code).collect() }
    }

    pub(crate) fn has_code(&self, code: &str) -> bool {
        self.codes.iter().any(|found| found == code)
    }

    /// Whether it is in the form that registries use, so that its author is one.
    pub(crate) fn is_a_registrys(&self) -> bool {
        !self.codes.is_empty()
    }

    /// `(CODE message)` or nothing.
    pub(crate) fn shown(&self) -> String {
        if self.text.is_empty() { String::new() } else { format!("({})", self.text) }
    }

    /// `HTTP 403 (CODE message)`.
    pub(crate) fn answer(&self, status: u16) -> String {
        format!("HTTP {status} {}", self.shown()).trim_end().to_owned()
    }
}
