//! Versions change under load without a request lost.

use std::time::Duration;

use anyhow::Result;
use portcullis_e2e::load::NodeLoad;
use portcullis_e2e::probe::get;
use portcullis_e2e::registry::{built, push};
use portcullis_e2e::{Cluster, NODES, Rule};
use portcullis_test_tools::load::Tally;
use serde_json::json;

/// Hot swaps of the long test.
const SWAPS: u32 = 100;

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
