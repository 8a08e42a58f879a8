//! `portcullis inspect`

use std::fmt;
use std::path::Path;

use clap::Args;
use portcullis_artifact::{Abi, ModuleSummary, Reference};
use portcullis_engine::{Engine, EngineConfig};
use serde::Serialize;

use crate::commands::pull;
use crate::described::Described;
use crate::failure::Failure;
use crate::module_file;
use crate::output::OutputArgs;
use crate::registry_access::RegistryArgs;
use crate::sample::{self, Sample};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  portcullis inspect bad-bot-blocker.wasm
  portcullis inspect registry.example/rules/bad-bot-blocker:1.0.0 --format json

Exit code 1 if it is no module, or fails on a browser's request under the default limits of a WasmRule.")]
pub(crate) struct InspectArgs {
    /// A file, or a reference in a registry
    module: String,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a module is, and what it does with a request.
#[derive(Debug, Serialize)]
struct Inspected {
    #[serde(flatten)]
    summary: ModuleSummary,
    #[serde(rename = "rule", skip_serializing_if = "Option::is_none")]
    described: Option<Described>,
    sample: Sample,
}

pub(crate) async fn run(args: &InspectArgs) -> Result<(), Failure> {
    let wasm = if Path::new(&args.module).exists() {
        module_file::read(Path::new(&args.module))?
    } else {
        let reference: Reference = args.module.parse().map_err(|error| {
            Failure::CouldNotRun(format!(
                "expected a file or a reference in a registry: there is no file {}, and as a reference: {error}",
                args.module
            ))
        })?;
        pull::fetch(&reference, &args.registry).await?.wasm.to_vec()
    };
    let summary = module_file::summary(&args.module, &wasm)?;
    let engine = Engine::new(&EngineConfig { workers: 1, ..EngineConfig::default() })
        .map_err(|error| Failure::CouldNotRun(error.to_string()))?;
    let (described, sample) = sample::judge(&engine, &wasm);
    let inspected = Inspected { summary, described, sample };
    let answer = answer(&args.module, &inspected);
    // What is wrong comes before what the module is: that is long.
    if let Err(failure) = &answer {
        failure.say();
    }
    args.output.print(&inspected)?;
    answer.map_err(Failure::said)
}

fn answer(module: &str, inspected: &Inspected) -> Result<(), Failure> {
    match (&inspected.summary.problems[..], &inspected.sample) {
        ([], Sample::Judged { .. }) => Ok(()),
        ([], Sample::Failed { error }) => Err(Failure::AnswerIsNo(format!(
            "{module} fails on a browser's GET under the default limits: {error}"
        ))),
        (problems, _) => {
            Err(Failure::AnswerIsNo(format!("no node can run {module}: {}", problems.join("; "))))
        }
    }
}

impl fmt::Display for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { summary, described, sample } = self;
        writeln!(f, "digest     {}", summary.digest)?;
        writeln!(
            f,
            "size       {} bytes: code {}, data {}, {} functions",
            summary.size, summary.code_size, summary.data_size, summary.functions
        )?;
        let abi = |abi: &Abi| match abi {
            Abi::V1 => "1",
            Abi::V2 => "2",
        };
        writeln!(f, "abi        {}", list(summary.abi.iter().map(abi)))?;
        if let Some(memory) = &summary.memory {
            let most = match memory.max_pages {
                Some(pages) => format!("at most {} KiB", kib(pages)),
                None => "no maximum".to_owned(),
            };
            writeln!(f, "memory     {} KiB at the start, {most}", kib(memory.min_pages))?;
        }
        if let Some(stack) = summary.stack {
            writeln!(f, "stack      {} KiB", stack >> 10)?;
        }
        if let Some(described) = described {
            write!(f, "{described}")?;
        }
        writeln!(f, "exports    {}", list(summary.exports.iter().map(|e| &*e.name)))?;
        writeln!(
            f,
            "imports    {}",
            list(summary.imports.iter().map(|i| format!("{}.{}", i.module, i.name)))
        )?;
        writeln!(f, "custom     {}", list(summary.custom_sections.iter().map(|s| &*s.name)))?;
        writeln!(f, "made by    {}", list(summary.producers.iter()))?;
        if let Sample::Judged { verdict, fuel_used, fuel_limit } = sample {
            writeln!(f, "sample     a browser's GET: {verdict}, {fuel_used} of {fuel_limit} fuel")?;
        }
        summary.advice.iter().try_for_each(|advice| writeln!(f, "advice     {advice}"))
    }
}

/// Pages of Wasm memory have 64 KiB. A module may declare any number of them.
fn kib(pages: u64) -> u64 {
    pages.saturating_mul(64)
}

fn list(names: impl Iterator<Item = impl AsRef<str>>) -> String {
    // A line break in a name must not look like a line of ours.
    let names: Vec<String> = names.map(|name| name.as_ref().escape_debug().to_string()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
