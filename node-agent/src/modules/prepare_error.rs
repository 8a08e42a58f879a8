//! Why a rule's module cannot run here.

use portcullis_bus::FetchError;
use portcullis_crds::bus::ExceptionState;
use portcullis_crds::revision::ModuleDigest;
use portcullis_engine::{CompileError, InspectError, LimitsError};
use thiserror::Error;

/// Why a rule's module cannot run here.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// Neither on disk nor from the bus, which is not connected.
    #[error(
        "module {0} is not on this node and the bus is not connected; it is fetched when the bus is back"
    )]
    NoBus(ModuleDigest),
    /// The bus does not have it.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A rule from a folder or from the disk, of which no bus has said what it requires.
    #[error("the rule needs what this version lacks ({}): upgrade, or leave it out", .0.join(", "))]
    Unsupported(Vec<String>),
    /// The sandbox refused it.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// Its limits do not let it judge every request.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// It cannot judge a harmless request within its limits.
    #[error("the module failed on a harmless request: {0}")]
    Probe(InspectError),
    /// The node could not try it.
    #[error("this node could not try the module: {0}; it is tried again")]
    Host(String),
}

impl PrepareError {
    /// As the report says it.
    pub fn state(&self) -> ExceptionState {
        match self {
            Self::Fetch(FetchError::DigestMismatch { .. }) => ExceptionState::DigestMismatch,
            Self::NoBus(_) | Self::Fetch(_) => ExceptionState::ModuleUnavailable,
            Self::Unsupported(_) => ExceptionState::Unsupported,
            Self::Compile(error) if error.is_host_fault() => ExceptionState::Progressing,
            Self::Compile(error) if error.is_about_config() => ExceptionState::ConfigInvalid,
            Self::Compile(_) => ExceptionState::CompileFailed,
            Self::Limits(_) | Self::Probe(_) => ExceptionState::ProbeFailed,
            Self::Host(_) => ExceptionState::Progressing,
        }
    }

    /// Whether the same bytes may do better later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoBus(_) | Self::Fetch(_) | Self::Host(_) => true,
            // On a machine that is short of memory or caches, a rule that is just quick enough is not.
            Self::Probe(error) => matches!(error, InspectError::DeadlineExceeded { .. }),
            Self::Compile(error) => error.is_host_fault(),
            Self::Unsupported(_) | Self::Limits(_) => false,
        }
    }
}
