//! A load on a node, as a process of its own.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use portcullis_test_tools::load::Tally;
use tokio::process::{Child, Command};

use crate::probe::{NODE_PORT, node_loopback};

/// A load on one node, which ends when its standard input does.
pub struct NodeLoad {
    node: &'static str,
    child: Child,
}

impl NodeLoad {
    /// Sends what `version-probe` in its two versions tells apart.
    pub fn start(node: &'static str) -> Result<Self> {
        // Of another crate, so cargo does not say where; `make build` puts it beside the folder of this test.
        let test = std::env::current_exe()?;
        let load = test.ancestors().nth(2).context("the test has no folder")?.join("load");
        ensure!(load.is_file(), "expected the load generator at {}: run `make build`", load.display());
        let child = Command::new(load)
            .args([&format!("{}:{NODE_PORT}", node_loopback(node)), "--rate", "200", "--seconds", "900"])
            .args(["--probe", "=Mozilla/5.0", "--probe", "v1,v2=portcullis-probe-any"])
            .args(["--probe", "v1=portcullis-probe-v1", "--probe", "v2=portcullis-probe-v2"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the load cannot be started")?;
        Ok(Self { node, child })
    }

    /// Ends it. What came of it is printed, too.
    pub async fn finish(mut self) -> Result<Tally> {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output().await?;
        let tally = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{}: {}", self.node, String::from_utf8_lossy(&output.stdout)))?;
        println!("{}: {tally:?}", self.node);
        Ok(tally)
    }
}
