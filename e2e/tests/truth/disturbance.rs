//! What an administrator does on an ordinary day, or a machine on a bad one.

use std::time::Duration;

use anyhow::{Context, Result};
use portcullis_e2e::Cluster;
use portcullis_e2e::cluster::{Look, SYSTEM, until};
use portcullis_e2e::fault::{Scaled, leader, node_of, pods};

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Disturbance {
    /// `kubectl drain` of the node that has NATS, and with it the leader.
    DrainOfNatsAndLeader,
    /// NATS, whose storage is an emptyDir here, is replaced while no operator is there.
    NatsReplacedWithoutOperator,
    /// `kubectl drain` of each node in turn.
    DrainOfEachNode,
    /// NATS is replaced, and then each agent: a new one has nothing of its own.
    NatsAndAgentsReplaced,
}

pub(crate) const ALL: [Disturbance; 4] = [
    Disturbance::DrainOfNatsAndLeader,
    Disturbance::NatsReplacedWithoutOperator,
    Disturbance::DrainOfEachNode,
    Disturbance::NatsAndAgentsReplaced,
];

impl Disturbance {
    /// Causes it; afterwards every workload is available again, or was waited for in vain.
    pub(crate) async fn cause(self, cluster: &Cluster) -> Result<()> {
        match self {
            Self::DrainOfNatsAndLeader => {
                let nats = node_of(cluster, "portcullis-nats-0")?;
                // The leader where NATS is: the other operator is deleted until it is.
                let leading = leader(cluster)?;
                if node_of(cluster, &leading)? != nats {
                    cluster.kubectl(["-n", SYSTEM, "delete", "pod", &leading, "--wait=true"])?;
                    until("another leader", Duration::from_secs(60), || async {
                        let now = leader(cluster)?;
                        Ok(if now == leading { Look::NotYet(now) } else { Look::Done(()) })
                    })
                    .await?;
                }
                drain(cluster, &nats)?;
            }
            Self::NatsReplacedWithoutOperator => {
                let operator = Scaled::to_zero(cluster, "deployment/portcullis-operator")?;
                delete(cluster, "portcullis-nats-0")?;
                operator.restore()?;
            }
            Self::DrainOfEachNode => {
                for node in portcullis_e2e::NODES {
                    drain(cluster, node)?;
                    available(cluster)?;
                }
            }
            Self::NatsAndAgentsReplaced => {
                delete(cluster, "portcullis-nats-0")?;
                available(cluster)?;
                for agent in pods(cluster, "node-agent")? {
                    delete(cluster, &agent)?;
                    // One after the other, as in an upgrade: what only the agents have is with the others meanwhile.
                    available(cluster)?;
                }
            }
        }
        available(cluster)
    }
}

fn delete(cluster: &Cluster, pod: &str) -> Result<()> {
    cluster.kubectl(["-n", SYSTEM, "delete", "pod", pod, "--wait=true", "--timeout=90s"]).map(drop)
}

fn drain(cluster: &Cluster, node: &str) -> Result<()> {
    let drained = cluster.kubectl([
        "drain",
        node,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--force",
        "--timeout=120s",
    ]);
    cluster.kubectl(["uncordon", node])?;
    drained.map(drop).with_context(|| format!("drain of {node}"))
}

fn available(cluster: &Cluster) -> Result<()> {
    for workload in
        ["statefulset/portcullis-nats", "deployment/portcullis-operator", "daemonset/portcullis-node-agent"]
    {
        cluster.kubectl(["-n", SYSTEM, "rollout", "status", workload, "--timeout=90s"])?;
    }
    cluster.kubectl(["-n", "demo", "rollout", "status", "deployment/echo", "--timeout=90s"]).map(drop)
}
