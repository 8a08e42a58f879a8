//! Why a command ends with another code than 0.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use thiserror::Error;

/// What went wrong, in one or two sentences: expected, found, what to do.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// It ran, and the answer is no: exit code 1.
    #[error("{0}")]
    AnswerIsNo(String),
    /// It could not run: exit code 2.
    #[error("{0}")]
    CouldNotRun(String),
}

impl Failure {
    /// Any error that means that the command could not run.
    pub(crate) fn could_not_run(error: impl Display) -> Self {
        Self::CouldNotRun(error.to_string())
    }

    /// A file that cannot be read.
    pub(crate) fn reading(path: impl AsRef<Path>) -> impl Fn(io::Error) -> Self {
        move |error| Self::CouldNotRun(format!("cannot read {}: {error}", path.as_ref().display()))
    }

    /// A file that cannot be written.
    pub(crate) fn writing(path: impl AsRef<Path>) -> impl Fn(io::Error) -> Self {
        move |error| Self::CouldNotRun(format!("cannot write {}: {error}", path.as_ref().display()))
    }

    /// 1 for a "no", 2 for everything else.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::AnswerIsNo(_) => ExitCode::from(1),
            Self::CouldNotRun(_) => ExitCode::from(2),
        }
    }
}
