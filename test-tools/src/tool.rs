//! Programs that tests run as child processes.

use std::env;
use std::path::PathBuf;

/// The path of a program that `make tools-check` builds (those of the cluster: `make setup`).
///
/// # Panics
/// When it is not there; the message says what to do.
pub fn tool(name: &str) -> PathBuf {
    let folder = |name: &str| env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    // The Makefile's rule.
    let cache = folder("PORTCULLIS_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("portcullis")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/portcullis")))
        .expect("HOME is set");
    let path = cache.join("bin").join(name);
    assert!(path.is_file(), "the test needs {}, which is missing: run `make tools-check`", path.display());
    path
}
