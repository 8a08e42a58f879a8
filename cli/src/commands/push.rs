//! `portcullis push`

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use clap::Args;
use portcullis_artifact::Reference;
use serde::Serialize;

use crate::failure::Failure;
use crate::module_file;
use crate::output::OutputArgs;
use crate::registry_access::RegistryArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  portcullis push bad-bot-blocker.wasm registry.example/rules/bad-bot-blocker:1.0.0

Exit code 1 if it is not pushed because no node can run it.")]
pub(crate) struct PushArgs {
    /// The module
    file: PathBuf,
    /// Where to: registry/repository:tag
    reference: Reference,
    /// An annotation of the artifact, for example org.opencontainers.image.source=https://git.example/rules
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = annotation)]
    annotations: Vec<(String, String)>,
    /// Push a module that no node can run, too
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    output: OutputArgs,
}

fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// What is in the registry now.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pushed {
    reference: String,
    manifest_digest: String,
    module_digest: String,
    size: u64,
}

impl fmt::Display for Pushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "pushed    {}", self.reference)?;
        writeln!(f, "manifest  {}", self.manifest_digest)?;
        writeln!(f, "module    {} ({} bytes)", self.module_digest, self.size)
    }
}

pub(crate) async fn run(args: &PushArgs) -> Result<(), Failure> {
    let wasm = module_file::read(&args.file)?;
    let file = args.file.display().to_string();
    let problems = module_file::summary(&file, &wasm)?.problems;
    if !problems.is_empty() && !args.force {
        return Err(Failure::AnswerIsNo(format!(
            "{file}: no node can run this module: {}; correct that (`portcullis inspect {file}` says more), or push \
             it all the same with --force",
            problems.join("; ")
        )));
    }
    let annotations: BTreeMap<String, String> = args.annotations.iter().cloned().collect();
    let registry = args.registry.registry(&args.reference)?;
    let credentials = args.registry.credentials(&args.reference)?;
    let pushed = registry
        .push(&args.reference, &credentials, wasm, &annotations)
        .await
        .map_err(|error| args.registry.explain(&args.reference, error))?;
    args.output.print(&Pushed {
        reference: pushed.reference.to_string(),
        manifest_digest: pushed.manifest_digest.to_string(),
        module_digest: pushed.module_digest.to_string(),
        size: pushed.size,
    })
}
