//! The registry beside the cluster: one address from this machine, another from pods.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::cluster::run;

/// Address from this machine.
pub const HOST: &str = "localhost:5001";
/// Address from pods: what rules reference.
pub const IN_CLUSTER: &str = "registry.portcullis-e2e.svc:5000";
/// The registry that asks for a password, from this machine.
pub const AUTH_HOST: &str = "localhost:5002";
/// The registry that asks for a password, from pods.
pub const AUTH_IN_CLUSTER: &str = "registry-auth.portcullis-e2e.svc:5000";

/// A module that `make rules` built.
pub fn built(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../rules/dist").join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is missing: run `make rules`", path.display());
    path
}

/// Pushes a file with the command line tool, as its users do. Returns the reference from within the cluster.
pub fn push(file: &std::path::Path, repository: &str) -> Result<String> {
    push_to(HOST, IN_CLUSTER, file, repository)
}

/// Pushes to one of the two registries.
pub fn push_to(host: &str, in_cluster: &str, file: &std::path::Path, repository: &str) -> Result<String> {
    run(Command::new(portcullis())
        .arg("push")
        .arg("--plain-http")
        .arg(file)
        .arg(format!("{host}/{repository}")))?;
    Ok(format!("{in_cluster}/{repository}"))
}

/// The command line tool, built beside this test.
pub fn portcullis() -> PathBuf {
    let mut path = std::env::current_exe().expect("a test knows its own path");
    // target/TRIPLE/debug/deps/TEST or target/TRIPLE/debug/BIN
    while path.file_name().is_some_and(|name| name != "debug" && name != "release") {
        path.pop();
    }
    let path = path.join("portcullis");
    assert!(path.exists(), "{} is missing: run `make build`", path.display());
    path
}
