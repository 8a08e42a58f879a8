//! `portcullis build`

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use serde::Deserialize;

use crate::failure::Failure;

const TARGET: &str = "wasm32-unknown-unknown";

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  portcullis build rules/bad-bot-blocker -o bad-bot-blocker.wasm")]
pub(crate) struct BuildArgs {
    /// Folder of the rule's Cargo.toml.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// File to write. Default: the crate's name and .wasm, in this folder.
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    file: Option<PathBuf>,
}

/// What cargo says of a file it made (`--message-format=json`).
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

pub(crate) fn run(args: &BuildArgs) -> Result<(), Failure> {
    let manifest = args.folder.join("Cargo.toml");
    if !manifest.exists() {
        return Err(Failure::CouldNotRun(format!(
            "expected {}, found no such file; name the folder of a rule written in Rust",
            manifest.display()
        )));
    }
    // In the rule's own folder, so that its own .cargo/config.toml counts and this one's does not.
    let built = Command::new("cargo")
        .args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"])
        .current_dir(&args.folder)
        .env_remove("CARGO_BUILD_TARGET")
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| {
            Failure::CouldNotRun(format!("cargo cannot be run: {error}; install Rust (https://rustup.rs)"))
        })?;
    if !built.status.success() {
        return Err(Failure::CouldNotRun(format!(
            "cargo could not build {}; what it said is above. If the target is missing: `rustup target add {TARGET}`",
            args.folder.display()
        )));
    }
    let module = String::from_utf8_lossy(&built.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact")
        .flat_map(|message| message.filenames)
        .rfind(|file| file.extension().is_some_and(|e| e == "wasm"))
        .ok_or_else(|| {
            Failure::CouldNotRun(format!(
                "{} gave no .wasm: add [lib] crate-type = [\"cdylib\"]",
                manifest.display()
            ))
        })?;
    let file = match &args.file {
        Some(file) => file.clone(),
        None => PathBuf::from(module.file_name().unwrap_or_default()),
    };
    std::fs::copy(&module, &file).map_err(Failure::file(&file))?;
    describe(&file)
}

fn describe(file: &Path) -> Result<(), Failure> {
    let wasm = std::fs::read(file).map_err(Failure::file(file))?;
    let shown = file.display();
    let summary = portcullis_artifact::inspect(&wasm)
        .map_err(|error| Failure::CouldNotRun(format!("{shown}: {error}")))?;
    println!("built     {shown} ({} bytes)", summary.size);
    println!("module    {}", summary.digest);
    for advice in &summary.advice {
        println!("advice    {advice}");
    }
    if summary.problems.is_empty() {
        println!("next      portcullis push {shown} REGISTRY/REPOSITORY:TAG");
        Ok(())
    } else {
        Err(Failure::Differs(format!("no node can run {shown}: {}", summary.problems.join("; "))))
    }
}
