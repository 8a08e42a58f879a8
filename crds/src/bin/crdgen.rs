//! Writes what is generated from the types into the repository: `make generate`.

use std::path::Path;
use std::process::ExitCode;

use portcullis_crds::generated::files;

fn main() -> ExitCode {
    let Some(root) = std::env::args_os().nth(1) else {
        eprintln!("usage: crdgen ROOT (the repository's folder; `make generate` does it)");
        return ExitCode::from(2);
    };
    for (path, content) in files() {
        let path = Path::new(&root).join(path);
        if let Err(error) = std::fs::write(&path, content) {
            eprintln!("{} cannot be written: {error}", path.display());
            return ExitCode::FAILURE;
        }
        println!("{}", path.display());
    }
    ExitCode::SUCCESS
}
