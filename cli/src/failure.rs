//! Why a command ends with another code than 0.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use thiserror::Error;

use crate::printable::printable;

/// What went wrong, in one or two sentences: expected, found, what to do.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// It ran, and the answer is no: exit code 1.
    #[error("{0}")]
    AnswerIsNo(String),
    /// It could not run: exit code 2.
    #[error("{0}")]
    CouldNotRun(String),
    /// What has been said already.
    #[error("{0}")]
    Said(Box<Failure>),
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

    /// Writes it to standard error, unless it has been said.
    pub(crate) fn say(&self) {
        if !matches!(self, Self::Said(_)) {
            eprintln!("error: {}", printable(&self.to_string()));
        }
    }

    /// The same, said.
    pub(crate) fn said(self) -> Self {
        Self::Said(Box::new(self))
    }

    /// 1 for a "no", 2 for everything else.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Said(failure) => failure.exit_code(),
            Self::AnswerIsNo(_) => ExitCode::from(1),
            Self::CouldNotRun(_) => ExitCode::from(2),
        }
    }
}
