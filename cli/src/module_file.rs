//! Modules on disk.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use portcullis_artifact::{ModuleSummary, NotAModule};

use crate::failure::Failure;

/// Reads a file that should be a module.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "; `portcullis build FOLDER` makes a module, `portcullis pull` gets one"
            }
            _ => "",
        };
        Failure::CouldNotRun(format!("cannot read {}: {error}{hint}", file.display()))
    })
}

/// What the bytes of a file are; that they are no module is an answer, not a breakdown.
pub(crate) fn summary(file: &str, wasm: &[u8]) -> Result<ModuleSummary, Failure> {
    portcullis_artifact::inspect(wasm).map_err(|error| {
        let advice = match error {
            NotAModule::OtherContent { .. } => {
                "name the .wasm file that the build wrote; `portcullis build` makes one from a rule written in Rust"
            }
            NotAModule::Invalid { .. } => "build it again, or copy it again if it was cut off on its way",
        };
        Failure::AnswerIsNo(format!("{file}: {error}; {advice}"))
    })
}

/// Whole or not at all: who follows the file (`portcullis serve`) never sees half a module.
pub(crate) fn write(file: &Path, wasm: &[u8]) -> Result<(), Failure> {
    let failed = |error| {
        let file = file.display();
        Failure::CouldNotRun(format!("cannot write {file}: {error}; name another file with -o"))
    };
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // As any file that a program makes: the umask decides. tempfile alone would let nobody else read it.
    let readable = Permissions::from_mode(0o666);
    let mut new = tempfile::Builder::new().permissions(readable).tempfile_in(folder).map_err(failed)?;
    new.write_all(wasm).map_err(failed)?;
    new.as_file().sync_all().map_err(failed)?;
    new.persist(file).map_err(|error| failed(error.error))?;
    Ok(())
}
