//! What a status says is so, also when parts are drained, deleted, silent or uninstalled.

#[path = "truth/disturbance.rs"]
mod disturbance;
#[path = "truth/slow_registry.rs"]
mod slow_registry;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use disturbance::{ALL, Disturbance};
use portcullis_e2e::cluster::{Look, SYSTEM, cluster_command, run, until};
use portcullis_e2e::fault::{Scaled, node_of, pods};
use portcullis_e2e::probe::{BROWSER, SQLMAP, get};
use portcullis_e2e::registry::{IN_CLUSTER, built, push};
use portcullis_e2e::{Cluster, NODES, Rule};
use serde_json::json;
use slow_registry::SlowRegistry;

/// A node serves, and other rules are enforced there, this long after its agent has started.
const AFTER_START: Duration = Duration::from_secs(60);
/// An agent is silent after three heartbeats; the operator looks every 30 s.
const SILENT: Duration = Duration::from_secs(150);
/// The leader may be lost with a node: the next one leads after the lease's end, and listens anew.
const NEXT_LEADER: Duration = Duration::from_secs(60);

/// Three tenants: one whose rule is fine, one whose new version is broken, one whose registry is down.
struct Tenants {
    cluster: Cluster,
    good: Rule,
    broken: Rule,
}

impl Tenants {
    async fn new(name: &str) -> Result<Self> {
        let cluster = Cluster::connect().await?;
        let namespace = cluster.namespace(name).await?;
        let good = Rule::new(&cluster, &namespace, "good");
        good.apply(&push(&built("version-probe-v1"), "e2e/version-probe:1")?, json!({})).await?;
        let broken = Rule::new(&cluster, &namespace, "broken");
        broken.apply(&push(&built("bad-bot-blocker-1.0.0"), "e2e/bad-bot-blocker:1")?, json!({})).await?;
        good.wait_ready().await?;
        broken.wait_ready().await?;
        broken.apply(&push_broken()?, json!({})).await?;
        broken.wait("Programmed", "False", "ProbeFailed", AFTER_START).await?;
        let down = Rule::new(&cluster, &namespace, "registry-down");
        down.apply("registry.of-a-tenant.invalid:5000/rules/a:1", json!({})).await?;
        down.wait("Resolved", "False", "RegistryUnreachable", AFTER_START).await?;
        Ok(Self { cluster, good, broken })
    }

    /// Every node serves and enforces the good rule, and its status says so.
    async fn others_are_well(&self, after: &str) -> Result<()> {
        self.good
            .wait("Ready", "True", "Active", AFTER_START)
            .await
            .with_context(|| format!("after {after}"))?;
        ensure!(summary(&self.good).await? == "2/2", "after {after}: {}", summary(&self.good).await?);
        for node in NODES {
            until(&format!("{node} to enforce and serve after {after}"), AFTER_START, || async {
                let (blocked, served) = (get(node, "portcullis-probe-v1").await?, get(node, BROWSER).await?);
                Ok(if (blocked.status, served.status) == (403, 200) {
                    Look::Done(())
                } else {
                    Look::NotYet(format!("{blocked:?} {served:?}"))
                })
            })
            .await?;
        }
        Ok(())
    }

    /// What the broken rule's status says of its last good version is what the nodes do.
    async fn the_broken_one_tells_the_truth(&self, after: &str) -> Result<()> {
        until(
            &format!("the last good version and its status to agree after {after}"),
            AFTER_START,
            || async {
                let mut enforcing = 0;
                for node in NODES {
                    enforcing += usize::from(get(node, SQLMAP).await?.status == 403);
                }
                let ready = self.broken.condition("Ready").await?.context("Ready is always there")?;
                let summary = summary(&self.broken).await?;
                let says = format!("stays enforced on {enforcing}/2 nodes");
                let is_true = ready.message.ends_with(&says)
                    && summary == format!("{enforcing}/2")
                    && ready.status == "Unknown";
                Ok(if is_true && enforcing == 2 {
                    Look::Done(())
                } else {
                    Look::NotYet(format!("{enforcing} nodes enforce it, READY {summary}, {}", ready.message))
                })
            },
        )
        .await
    }
}

async fn summary(rule: &Rule) -> Result<String> {
    let nodes = rule.get().await?.status.and_then(|status| status.nodes);
    Ok(nodes.map(|nodes| nodes.summary).unwrap_or_default())
}

fn push_broken() -> Result<String> {
    push(&built("broken-start-loop"), "e2e/broken-start-loop:1")
}

/// In each order of the four disturbances when `PORTCULLIS_SOAK` is set, in one of them otherwise.
#[tokio::test]
async fn one_broken_rule_and_a_registry_that_is_down_hold_up_nobody_else_whatever_is_drained() -> Result<()> {
    let tenants = Tenants::new("drains").await?;
    let orders =
        if std::env::var_os("PORTCULLIS_SOAK").is_some() { permutations(&ALL) } else { vec![ALL.to_vec()] };
    for (number, order) in orders.iter().enumerate() {
        println!("order {} of {}: {order:?}", number + 1, orders.len());
        for disturbance in order {
            disturbance.cause(&tenants.cluster).await?;
            let after = format!("{disturbance:?}");
            tenants.others_are_well(&after).await?;
            tenants.the_broken_one_tells_the_truth(&after).await?;
        }
    }
    Ok(())
}

fn permutations(of: &[Disturbance]) -> Vec<Vec<Disturbance>> {
    if of.is_empty() {
        return vec![vec![]];
    }
    let mut all = Vec::new();
    for (at, first) in of.iter().enumerate() {
        let rest: Vec<_> = of.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, d)| *d).collect();
        all.extend(permutations(&rest).into_iter().map(|rest| [vec![*first], rest].concat()));
    }
    all
}

/// 500 pairs, 0 to 500 ms apart; every fiftieth rule is of a registry that takes ten seconds.
#[tokio::test]
async fn no_rule_stays_enforced_without_an_object_however_soon_it_was_deleted() -> Result<()> {
    const PAIRS: usize = 500;
    const AT_ONCE: usize = 10;
    let cluster = Cluster::connect().await?;
    let namespace = cluster.namespace("ghosts").await?;
    let fast = push(&built("version-probe-v1"), "e2e/version-probe:1")?;
    let slow = SlowRegistry::start().await?;
    let slow_reference = fast.replace(IN_CLUSTER, &slow.address);
    install(&[&format!("operator.plainHttpRegistries={{{IN_CLUSTER},{}}}", slow.address)])?;
    let pairs = (0..PAIRS).map(|n| {
        let rule = Rule::new(&cluster, &namespace, &format!("ghost-{n}"));
        let reference = if n % 50 == 0 { slow_reference.clone() } else { fast.clone() };
        async move {
            rule.apply(&reference, json!({})).await?;
            // 0 to 500 ms, each value equally often.
            tokio::time::sleep(Duration::from_millis((n as u64 * 83) % 501)).await;
            rule.delete().await
        }
    });
    use futures::StreamExt;
    let mut pairs = futures::stream::iter(pairs).buffer_unordered(AT_ONCE);
    while let Some(done) = pairs.next().await {
        done?;
    }
    drop(pairs);
    tokio::time::sleep(Duration::from_secs(2)).await;
    no_rule_is_enforced("2 s after the last delete").await?;
    // What the slow registry was asked for comes to its end by now.
    slow.answered().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    no_rule_is_enforced("after the slow registry has answered").await?;
    install(&[])
}

async fn no_rule_is_enforced(when: &str) -> Result<()> {
    for node in NODES {
        let answer = get(node, "portcullis-probe-v1").await?;
        ensure!(answer.status == 200, "{node}, {when}: {answer:?}");
    }
    Ok(())
}

fn install(settings: &[&str]) -> Result<()> {
    let mut install = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("install"));
    for setting in settings {
        install.args(["--set", setting]);
    }
    run(&mut install).map(drop)
}

#[tokio::test]
async fn without_the_bus_ready_is_unknown_and_no_node_is_counted() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = cluster.namespace("no-bus").await?;
    let rule = Rule::new(&cluster, &namespace, "probe");
    rule.apply(&push(&built("version-probe-v1"), "e2e/version-probe:1")?, json!({})).await?;
    rule.wait_ready().await?;
    let nats = Scaled::to_zero(&cluster, "statefulset/portcullis-nats")?;
    let ready = rule.wait("Ready", "Unknown", "BusUnavailable", SILENT).await?;
    println!("{}\n{}", cluster.kubectl(["-n", &namespace, "get", "wasmrule"])?, ready.message);
    ensure!(summary(&rule).await? == "?/2", "{}", summary(&rule).await?);
    let waited = cluster.kubectl([
        "-n",
        &namespace,
        "wait",
        "--for=condition=Ready",
        "--timeout=1s",
        "wasmrule/probe",
    ]);
    ensure!(waited.is_err(), "{waited:?}");
    for node in NODES {
        ensure!(get(node, "portcullis-probe-v1").await?.status == 403, "{node} goes on with what it has");
    }
    nats.restore()?;
    rule.wait("Ready", "True", "Active", SILENT).await?;
    ensure!(summary(&rule).await? == "2/2");
    Ok(())
}

#[tokio::test]
async fn a_node_that_is_lost_is_still_counted_and_its_silence_told() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = cluster.namespace("lost-node").await?;
    let rule = Rule::new(&cluster, &namespace, "probe");
    rule.apply(&push(&built("version-probe-v1"), "e2e/version-probe:1")?, json!({})).await?;
    rule.wait_ready().await?;
    // Not the one with the bus: its loss is another story, told as BusUnavailable.
    let bus = node_of(&cluster, "portcullis-nats-0")?;
    let node = NODES.into_iter().find(|node| *node != bus).context("one node has no bus")?;
    cluster_command("node", ["stop", node])?;
    let lost = async {
        let what = format!("the silence of {node}");
        let ready = until(&what, SILENT + NEXT_LEADER, || async {
            let condition = rule.condition("Ready").await?.context("Ready is always there")?;
            Ok(if condition.reason == "NodeSilent" {
                Look::Done(condition)
            } else {
                Look::NotYet(condition.message)
            })
        })
        .await?;
        ensure!(ready.status == "Unknown" && ready.message.contains(node), "{}", ready.message);
        ensure!(summary(&rule).await?.ends_with("/2"), "{}", summary(&rule).await?);
        Ok(())
    };
    let outcome = lost.await;
    cluster_command("node", ["start", node])?;
    outcome?;
    rule.wait("Ready", "True", "Active", SILENT).await?;
    ensure!(summary(&rule).await? == "2/2");
    Ok(())
}

#[tokio::test]
async fn after_an_uninstall_no_rule_is_ready() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = cluster.namespace("uninstalled").await?;
    let rule = Rule::new(&cluster, &namespace, "probe");
    rule.apply(&push(&built("version-probe-v1"), "e2e/version-probe:1")?, json!({})).await?;
    rule.wait_ready().await?;
    let wait = ["-n", &namespace, "wait", "--for=condition=Ready", "--timeout=1s", "wasmrule/probe"];
    ensure!(cluster.kubectl(wait)?.contains("condition met"));
    let said = helm(&cluster, &["uninstall", "portcullis", "--wait", "--timeout=3m"])?;
    println!("{said}\n{}", cluster.kubectl(["-n", &namespace, "get", "wasmrule"])?);
    let waited = cluster.kubectl(wait);
    let ready = rule.condition("Ready").await?.context("Ready is always there")?;
    // Before anything is checked: the other tests need it.
    install(&[])?;
    ensure!(waited.is_err(), "{waited:?}");
    ensure!((ready.status.as_str(), ready.reason.as_str()) == ("Unknown", "Uninstalled"), "{ready:?}");
    rule.wait_ready().await?;
    ensure!(pods(&cluster, "node-agent")?.len() == NODES.len());
    Ok(())
}

fn helm(cluster: &Cluster, args: &[&str]) -> Result<String> {
    let mut helm = Command::new(portcullis_test_tools::tool("helm"));
    run(helm.arg("--kubeconfig").arg(cluster.kubeconfig()).args(["--namespace", SYSTEM]).args(args))
}
