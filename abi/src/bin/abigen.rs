//! Writes what is generated from the table of module ABI 2: `make generate`.

use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let Some(root) = std::env::args_os().nth(1) else {
        return Err(io::Error::other(
            "usage: abigen ROOT (the repository's folder; `make generate` does it)",
        ));
    };
    for (path, content) in portcullis_abi::files(Path::new(&root))? {
        std::fs::write(Path::new(&root).join(path), content)?;
        println!("{path}");
    }
    Ok(())
}
