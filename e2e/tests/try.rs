//! The first command of the README.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use portcullis_e2e::cluster::run;

#[test]
fn make_try_shows_a_block_a_swap_without_a_loss_and_a_broken_version_refused() -> Result<()> {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("try"));
    // What cargo tells a test of its package; build scripts look at it too, and dependencies would be compiled anew.
    for (name, _) in std::env::vars() {
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    let said = run(&mut command)?;
    for line in
        ["200 Hello from the application.", "403 Blocked by WASM rule: bad-bot-blocker", "lost: 0", "v2"]
    {
        assert!(said.contains(line), "expected {line:?} in\n{said}");
    }
    Ok(())
}
