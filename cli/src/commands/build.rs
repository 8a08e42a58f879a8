//! `portcullis build`

mod cargo;

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::failure::Failure;
use crate::module_file;
use crate::output::OutputArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
It is `cargo build --release --target wasm32-unknown-unknown` in that folder: with the rule's own Cargo.toml,
.cargo/config.toml and rust-toolchain.toml.

Example:
  portcullis build rules/bad-bot-blocker -o bad-bot-blocker.wasm

Exit code 1 if it was built and no node can run it.")]
pub(crate) struct BuildArgs {
    /// Folder of the rule's Cargo.toml
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// File to write [default: the crate's name, with dashes, and .wasm, in this folder]
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// What was written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Built {
    file: String,
    module_digest: String,
    size: u64,
    problems: Vec<String>,
    advice: Vec<String>,
}

impl fmt::Display for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "built     {} ({} bytes)", self.file, self.size)?;
        writeln!(f, "module    {}", self.module_digest)?;
        self.advice.iter().try_for_each(|advice| writeln!(f, "advice    {advice}"))?;
        if self.problems.is_empty() {
            writeln!(f, "next      portcullis push {} REGISTRY/REPOSITORY:TAG", self.file)?;
        }
        Ok(())
    }
}

pub(crate) fn run(args: &BuildArgs) -> Result<(), Failure> {
    let module = cargo::build(&args.folder)?;
    let wasm = module_file::read(&module.path)?;
    let file = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{}.wasm", module.name)));
    module_file::write(&file, &wasm)?;
    let file = file.display().to_string();
    let summary = module_file::summary(&file, &wasm)?;
    let module_digest = summary.digest.to_string();
    let built =
        Built { file, module_digest, size: summary.size, problems: summary.problems, advice: summary.advice };
    if built.problems.is_empty() {
        return args.output.print(&built);
    }
    // What is wrong comes before what was made.
    let failure =
        Failure::AnswerIsNo(format!("no node can run {}: {}", built.file, built.problems.join("; ")));
    failure.say();
    args.output.print(&built)?;
    Err(failure.said())
}
