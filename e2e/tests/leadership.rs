//! Deletes with parts down, and a leader that comes back from the dead.

use std::time::Duration;

use anyhow::Result;
use portcullis_e2e::cluster::{Look, SYSTEM, until};
use portcullis_e2e::fault::{Scaled, leader, pid, signal};
use portcullis_e2e::probe::get;
use portcullis_e2e::registry::{built, push};
use portcullis_e2e::{Cluster, NODES, Rule};
use serde_json::json;

async fn lets_through(agent: &str) -> Result<()> {
    for node in NODES {
        until(&format!("{node} to let {agent} through"), Duration::from_secs(90), || async {
            let answer = get(node, agent).await?;
            Ok(if answer.status == 200 { Look::Done(()) } else { Look::NotYet(format!("{answer:?}")) })
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_rule_deleted_while_the_operator_was_down_is_gone_when_it_is_back() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = cluster.namespace("delete-down").await?;
    let rule = Rule::new(&cluster, &namespace, "probe");
    rule.apply(&push(&built("version-probe-v1"), "e2e/version-probe:1")?, json!({})).await?;
    rule.wait_ready().await?;
    let operator = Scaled::to_zero(&cluster, "deployment/portcullis-operator")?;
    rule.delete().await?;
    for node in NODES {
        assert_eq!(get(node, "portcullis-probe-v1").await?.status, 403, "{node}: absence is not deletion");
    }
    operator.restore()?;
    lets_through("portcullis-probe-v1").await
}

#[tokio::test]
async fn deleting_a_namespace_with_nats_down_does_not_hang() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = cluster.namespace("delete-namespace").await?;
    let rule = Rule::new(&cluster, &namespace, "probe");
    rule.apply(&push(&built("version-probe-v1"), "e2e/version-probe:1")?, json!({})).await?;
    rule.wait_ready().await?;
    let nats = Scaled::to_zero(&cluster, "statefulset/portcullis-nats")?;
    cluster.kubectl(["delete", "namespace", &namespace, "--wait=true", "--timeout=60s"])?;
    nats.restore()?;
    lets_through("portcullis-probe-v1").await
}

#[tokio::test]
async fn a_leader_frozen_and_thawed_writes_nothing_that_agents_accept() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = cluster.namespace("frozen").await?;
    let rule = Rule::new(&cluster, &namespace, "probe");
    let v1 = push(&built("version-probe-v1"), "e2e/version-probe:1")?;
    let v2 = push(&built("version-probe-v2"), "e2e/version-probe:2")?;
    rule.apply(&v1, json!({})).await?;
    rule.wait_ready().await?;

    let frozen = leader(&cluster)?;
    let process = pid(SYSTEM, &frozen, "operator")?;
    signal("STOP", &process)?;
    // What it would write when it wakes: it has the old object in its queue and its cache.
    rule.apply(&v2, json!({})).await?;
    let next = until("another operator to lead", Duration::from_secs(90), || async {
        let now = leader(&cluster)?;
        Ok(if now == frozen { Look::NotYet(now) } else { Look::Done(now) })
    })
    .await?;
    rule.wait_ready().await?;
    signal("CONT", &process)?;

    // It ends by itself, and the kubelet starts it again as a follower.
    until("the thawed operator to stop", Duration::from_secs(60), || async {
        let restarts = cluster.kubectl([
            "-n",
            SYSTEM,
            "get",
            "pod",
            &frozen,
            "-o",
            "jsonpath={.status.containerStatuses[0].restartCount}",
        ])?;
        Ok(if restarts.trim() == "0" { Look::NotYet(restarts) } else { Look::Done(()) })
    })
    .await?;
    assert_eq!(leader(&cluster)?, next, "the lease stays where it went");
    rule.wait_ready().await?;
    for node in NODES {
        assert_eq!(
            get(node, "portcullis-probe-v2").await?.status,
            403,
            "{node} enforces what the new leader wrote"
        );
        assert_eq!(get(node, "portcullis-probe-v1").await?.status, 200, "{node}");
    }
    let logs = cluster.kubectl(["-n", SYSTEM, "logs", &frozen, "--previous", "--tail=5"])?;
    println!("the thawed operator's last words:\n{logs}");
    Ok(())
}
