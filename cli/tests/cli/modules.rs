//! The modules that `make rules` builds.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A module of rules/dist, `bad-bot-blocker-1.0.0` for example.
#[track_caller]
pub(crate) fn dist(name: &str) -> PathBuf {
    let path = repository().join("rules/dist").join(format!("{name}.wasm"));
    assert!(path.exists(), "the test needs {}, which is missing: run `make rules`", path.display());
    path
}

/// Its path as an argument.
#[track_caller]
pub(crate) fn dist_arg(name: &str) -> String {
    dist(name).to_str().unwrap().to_owned()
}

/// Its bytes.
#[track_caller]
pub(crate) fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(dist(name)).unwrap()
}
