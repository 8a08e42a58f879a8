//! What a command says: text for a person, JSON for a program, from one value.

use std::fmt::Display;
use std::io::Write;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::failure::Failure;
use crate::printable::printable;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// How output is written.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputArgs {
    /// Form of the output: text for a person, json for a program
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl OutputArgs {
    /// Writes a result to standard output.
    pub(crate) fn print(self, result: &(impl Display + Serialize)) -> Result<(), Failure> {
        let text = match self.format {
            Format::Text => printable(&result.to_string()),
            Format::Json => {
                let json = serde_json::to_string_pretty(result).map_err(Failure::could_not_run)?;
                format!("{json}\n")
            }
        };
        // Not println!, which panics when the reader has gone.
        std::io::stdout().write_all(text.as_bytes()).map_err(Failure::writing("standard output"))
    }
}
