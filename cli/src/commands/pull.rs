//! `portcullis pull`

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use clap::Args;
use portcullis_artifact::{PulledModule, Reference};
use serde::Serialize;

use crate::failure::Failure;
use crate::module_file;
use crate::output::OutputArgs;
use crate::registry_access::RegistryArgs;

/// Largest module that is downloaded: more than any node accepts.
const MODULE_MAX: u64 = 64 << 20;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  portcullis pull registry.example/rules/bad-bot-blocker:1.0.0 -o bad-bot-blocker.wasm")]
pub(crate) struct PullArgs {
    /// What: registry/repository:tag or registry/repository@sha256:...
    reference: Reference,
    /// File to write [default: the repository's last part and .wasm, in this folder]
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What was written, and where from.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pulled {
    reference: String,
    manifest_digest: String,
    module_digest: String,
    size: u64,
    file: String,
    annotations: BTreeMap<String, String>,
}

impl fmt::Display for Pulled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "pulled    {}", self.reference)?;
        writeln!(f, "manifest  {}", self.manifest_digest)?;
        writeln!(f, "module    {} ({} bytes)", self.module_digest, self.size)?;
        writeln!(f, "file      {}", self.file)
    }
}

pub(crate) async fn run(args: &PullArgs) -> Result<(), Failure> {
    let pulled = fetch(&args.reference, &args.registry).await?;
    let name = args.reference.repository().rsplit('/').next().unwrap_or("rule");
    let file = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.wasm")));
    module_file::write(&file, &pulled.wasm)?;
    args.output.print(&Pulled {
        reference: pulled.reference.to_string(),
        manifest_digest: pulled.manifest_digest.to_string(),
        module_digest: pulled.module_digest.to_string(),
        size: pulled.size,
        file: file.display().to_string(),
        annotations: pulled.annotations,
    })
}

/// The module behind a reference, checked against its digest.
pub(crate) async fn fetch(reference: &Reference, access: &RegistryArgs) -> Result<PulledModule, Failure> {
    let registry = access.registry(reference)?;
    let credentials = access.credentials(reference)?;
    let resolved =
        registry.resolve(reference, &credentials).await.map_err(|error| access.explain(reference, error))?;
    registry.pull(&resolved, &credentials, MODULE_MAX).await.map_err(|error| access.explain(reference, error))
}
