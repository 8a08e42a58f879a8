//! Why a command ends with another code than 0.

use std::path::PathBuf;
use std::process::ExitCode;

use thiserror::Error;

/// What went wrong, in one or two sentences: expected, found, what to do.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// It ran, and the answer is no: exit code 1.
    #[error("{0}")]
    Differs(String),
    /// It could not run: exit code 2.
    #[error("{0}")]
    CouldNotRun(String),
    /// A file: exit code 2.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Failure {
    /// Any error that means that the command could not run.
    pub(crate) fn could_not_run(error: impl std::fmt::Display) -> Self {
        Self::CouldNotRun(error.to_string())
    }

    /// An error of a file.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// 1 for a "no", 2 for everything else.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Differs(_) => ExitCode::from(1),
            Self::CouldNotRun(_) | Self::File { .. } => ExitCode::from(2),
        }
    }
}
