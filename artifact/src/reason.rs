//! One word per kind of failure, for conditions, metrics labels and exit messages.

use std::fmt;

/// What kind of failure an error is. The names are CamelCase, as condition reasons are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No usable answer: DNS, connection, TLS, timeout, 5xx, 429, or a transfer that broke off.
    RegistryUnreachable,
    /// 401 or 403: credentials are missing, wrong, or not allowed to do this.
    Unauthorized,
    /// The tag, digest, repository or module does not exist.
    NotFound,
    /// The manifest or the module is larger than allowed; it was not downloaded.
    TooLarge,
    /// The layer is called `application/wasm` but does not hold a core WebAssembly module.
    NotWasm,
    /// The bytes are not the ones the digest or the declared size promised.
    DigestMismatch,
    /// The artifact has another layout than the ones accepted.
    UnsupportedArtifact,
    /// The registry answered something the distribution specification does not provide for.
    UnexpectedAnswer,
    /// The request makes no sense, whatever the registry: it was not sent.
    InvalidRequest,
}

impl Reason {
    /// The name as it appears in a condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RegistryUnreachable => "RegistryUnreachable",
            Self::Unauthorized => "Unauthorized",
            Self::NotFound => "NotFound",
            Self::TooLarge => "TooLarge",
            Self::NotWasm => "NotWasm",
            Self::DigestMismatch => "DigestMismatch",
            Self::UnsupportedArtifact => "UnsupportedArtifact",
            Self::UnexpectedAnswer => "UnexpectedAnswer",
            Self::InvalidRequest => "InvalidRequest",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
