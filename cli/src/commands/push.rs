//! `portcullis push`

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use portcullis_artifact::Reference;
use serde_json::json;

use crate::command_line::{Output, OutputArgs};
use crate::failure::Failure;
use crate::registry_access::RegistryArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  portcullis push bad-bot-blocker.wasm registry.example/rules/bad-bot-blocker:1.0.0")]
pub(crate) struct PushArgs {
    /// The module.
    file: PathBuf,
    /// Where to: registry/repository:tag.
    reference: Reference,
    /// An annotation of the artifact, for example org.opencontainers.image.source=https://git.example/rules.
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = annotation)]
    annotations: Vec<(String, String)>,
    /// Push a module that no node can run, too.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    output: OutputArgs,
}

fn annotation(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("expected KEY=VALUE, found {text:?}"))?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(crate) async fn run(args: &PushArgs) -> Result<(), Failure> {
    let wasm = std::fs::read(&args.file).map_err(Failure::file(&args.file))?;
    let file = args.file.display();
    let summary = portcullis_artifact::inspect(&wasm).map_err(|error| {
        Failure::CouldNotRun(format!("{file}: {error}; build it for wasm32-unknown-unknown"))
    })?;
    if !summary.problems.is_empty() && !args.force {
        return Err(Failure::CouldNotRun(format!(
            "{file}: no node can run this module: {}; see `portcullis inspect {file}`, or push it all the same with --force",
            summary.problems.join("; ")
        )));
    }
    let annotations: BTreeMap<String, String> = args.annotations.iter().cloned().collect();
    let registry = args.registry.registry(&args.reference)?;
    let credentials = args.registry.credentials(&args.reference)?;
    let pushed = registry
        .push(&args.reference, &credentials, wasm, &annotations)
        .await
        .map_err(Failure::could_not_run)?;
    match args.output.format {
        Output::Text => {
            println!("pushed    {}", pushed.reference);
            println!("manifest  {}", pushed.manifest_digest);
            println!("module    {} ({} bytes)", pushed.module_digest, pushed.size);
        }
        Output::Json => println!(
            "{}",
            json!({
                "reference": pushed.reference.to_string(),
                "manifestDigest": pushed.manifest_digest.to_string(),
                "moduleDigest": pushed.module_digest.to_string(),
                "size": pushed.size,
            })
        ),
    }
    Ok(())
}
