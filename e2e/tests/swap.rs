//! Versions change under load without a request lost.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use portcullis_e2e::probe::{NODE_PORT, get, node_loopback};
use portcullis_e2e::registry::{built, push};
use portcullis_e2e::{Cluster, NODES, Rule};
use portcullis_test_tools::load::Tally;
use serde_json::json;
use tokio::process::{Child, Command};

/// Hot swaps of the long test.
const SWAPS: u32 = 100;

/// A load on one node, which ends when its standard input does.
struct NodeLoad {
    node: &'static str,
    child: Child,
}

impl NodeLoad {
    fn start(node: &'static str) -> Result<Self> {
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

    async fn finish(mut self) -> Result<Tally> {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output().await?;
        let tally = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{}: {}", self.node, String::from_utf8_lossy(&output.stdout)))?;
        println!("{}: {tally:?}", self.node);
        Ok(tally)
    }
}

#[tokio::test]
async fn a_hundred_hot_swaps_under_load_lose_nothing_and_mix_nothing() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = cluster.namespace("swap").await?;
    let rule = Rule::new(&cluster, &namespace, "probe");
    let versions = [
        push(&built("version-probe-v1"), "e2e/version-probe:1")?,
        push(&built("version-probe-v2"), "e2e/version-probe:2")?,
    ];
    rule.apply(&versions[0], json!({})).await?;
    rule.wait_ready().await?;
    let loads = NODES.iter().map(|node| NodeLoad::start(node)).collect::<Result<Vec<_>>>()?;

    let mut late = Vec::new();
    for swap in 1..=SWAPS {
        let now = (swap % 2) as usize;
        rule.apply(&versions[now], json!({})).await?;
        rule.wait_ready().await?;
        // Ready means that both nodes reported it: no answer of the old version from now on.
        for node in NODES {
            let (old, new) = [
                ("portcullis-probe-v2", "portcullis-probe-v1"),
                ("portcullis-probe-v1", "portcullis-probe-v2"),
            ][now];
            for (agent, status) in [(old, 200), (new, 403)] {
                let answer = get(node, agent).await?;
                if answer.status != status {
                    late.push(format!("swap {swap}, {node}: {agent} got {answer:?}"));
                }
            }
        }
    }

    let mut total = Tally::default();
    for load in loads {
        total.add(load.finish().await?);
    }
    println!(
        "swaps {SWAPS}; requests {}; lost {}; of neither version {}; of the old version after Ready {}",
        total.sent,
        total.lost(),
        total.neither(),
        late.len()
    );
    assert_eq!(total.lost(), 0, "{:?}", total.lost);
    assert_eq!(total.neither(), 0, "{:?}", total.neither);
    assert!(late.is_empty(), "{late:?}");
    assert!(total.by_version.len() == 2, "the load saw both versions: {:?}", total.by_version);
    Ok(())
}

#[tokio::test]
async fn a_restart_of_all_agents_under_load_loses_nothing() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = cluster.namespace("restart").await?;
    let rule = Rule::new(&cluster, &namespace, "probe");
    let reference = push(&built("version-probe-v1"), "e2e/version-probe:restart")?;
    rule.apply(&reference, json!({})).await?;
    rule.wait_ready().await?;
    let loads = NODES.iter().map(|node| NodeLoad::start(node)).collect::<Result<Vec<_>>>()?;
    let daemonset = cluster.kubectl([
        "-n",
        portcullis_e2e::cluster::SYSTEM,
        "get",
        "daemonset",
        "-l",
        "app.kubernetes.io/component=node-agent",
        "-o",
        "name",
    ])?;
    let daemonset = daemonset.trim();
    cluster.kubectl(["-n", portcullis_e2e::cluster::SYSTEM, "rollout", "restart", daemonset])?;
    tokio::time::timeout(Duration::from_secs(300), async {
        cluster.kubectl([
            "-n",
            portcullis_e2e::cluster::SYSTEM,
            "rollout",
            "status",
            daemonset,
            "--timeout=280s",
        ])
    })
    .await??;
    let mut total = Tally::default();
    for load in loads {
        total.add(load.finish().await?);
    }
    println!("requests {}; lost {}; neither {}", total.sent, total.lost(), total.neither());
    assert_eq!(total.lost(), 0, "{:?}", total.lost);
    assert_eq!(total.neither(), 0, "{:?}", total.neither);
    Ok(())
}
