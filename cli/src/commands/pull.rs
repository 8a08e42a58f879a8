//! `portcullis pull`

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use portcullis_artifact::{PulledModule, Reference};
use serde_json::json;

use crate::command_line::{Output, OutputArgs};
use crate::failure::Failure;
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
    /// File to write. Default: the repository's last part and .wasm, in this folder.
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(args: &PullArgs) -> Result<(), Failure> {
    let pulled = fetch(&args.reference, &args.registry).await?;
    let name = args.reference.repository().rsplit('/').next().unwrap_or("rule");
    let file = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.wasm")));
    write(&file, &pulled.wasm)?;
    match args.output.format {
        Output::Text => {
            println!("pulled    {}", pulled.reference);
            println!("manifest  {}", pulled.manifest_digest);
            println!("module    {} ({} bytes)", pulled.module_digest, pulled.size);
            println!("file      {}", file.display());
        }
        Output::Json => println!(
            "{}",
            json!({
                "reference": pulled.reference.to_string(),
                "manifestDigest": pulled.manifest_digest.to_string(),
                "moduleDigest": pulled.module_digest.to_string(),
                "size": pulled.size,
                "file": file,
                "annotations": pulled.annotations,
            })
        ),
    }
    Ok(())
}

/// The module behind a reference, checked against its digest.
pub(crate) async fn fetch(reference: &Reference, access: &RegistryArgs) -> Result<PulledModule, Failure> {
    let registry = access.registry(reference)?;
    let credentials = access.credentials(reference)?;
    let resolved = registry.resolve(reference, &credentials).await.map_err(Failure::could_not_run)?;
    registry.pull(&resolved, &credentials, MODULE_MAX).await.map_err(Failure::could_not_run)
}

/// Whole or not at all: a reader never sees half a module.
fn write(file: &Path, wasm: &[u8]) -> Result<(), Failure> {
    let failed = |e| Failure::file(file)(e);
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut new = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    new.write_all(wasm).map_err(failed)?;
    new.as_file().sync_all().map_err(failed)?;
    new.persist(file).map_err(|e| failed(e.error))?;
    Ok(())
}
