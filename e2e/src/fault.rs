//! Faults, each with the way back.

use std::process::Command;

use anyhow::{Context, Result};

use crate::cluster::{Cluster, SYSTEM, cluster_command, run};

/// Process id on this machine of a container's main process.
pub fn pid(namespace: &str, pod: &str, container: &str) -> Result<String> {
    Ok(cluster_command("pid", [namespace, pod, container])?.trim().to_owned())
}

/// Sends a signal to a process of the cluster.
pub fn signal(name: &str, pid: &str) -> Result<()> {
    run(Command::new("kill").arg(format!("-{name}")).arg(pid)).map(drop)
}

/// Pods of one component, by name.
pub fn pods(cluster: &Cluster, component: &str) -> Result<Vec<String>> {
    let selector = format!("app.kubernetes.io/component={component}");
    let names = cluster.kubectl(["-n", SYSTEM, "get", "pods", "-l", &selector, "-o", "name"])?;
    Ok(names.lines().map(|n| n.trim_start_matches("pod/").to_owned()).collect())
}

/// The node that a pod runs on.
pub fn node_of(cluster: &Cluster, pod: &str) -> Result<String> {
    cluster.kubectl(["-n", SYSTEM, "get", "pod", pod, "-o", "jsonpath={.spec.nodeName}"])
}

/// The pod that holds the operator's lease.
pub fn leader(cluster: &Cluster) -> Result<String> {
    let leases = cluster.kubectl([
        "-n",
        SYSTEM,
        "get",
        "leases",
        "-o",
        r#"jsonpath={range .items[*]}{.spec.holderIdentity}{"\n"}{end}"#,
    ])?;
    let pods = pods(cluster, "operator")?;
    leases
        .lines()
        .find_map(|holder| pods.iter().find(|pod| holder.contains(pod.as_str())).cloned())
        .with_context(|| format!("no operator pod of {pods:?} holds a lease: {leases:?}"))
}

/// Takes a Deployment or StatefulSet away; [`Scaled::restore`] brings it back.
pub struct Scaled {
    cluster: Cluster,
    workload: String,
    replicas: String,
}

impl Scaled {
    /// Scales to zero and waits until its pods are gone.
    pub fn to_zero(cluster: &Cluster, workload: &str) -> Result<Self> {
        let replicas = cluster.kubectl(["-n", SYSTEM, "get", workload, "-o", "jsonpath={.spec.replicas}"])?;
        let scaled = Self { cluster: cluster.clone(), workload: workload.into(), replicas };
        cluster.kubectl(["-n", SYSTEM, "scale", workload, "--replicas=0"])?;
        cluster.kubectl(["-n", SYSTEM, "rollout", "status", workload, "--timeout=90s"])?;
        Ok(scaled)
    }

    /// Scales back and waits until it is available.
    pub fn restore(self) -> Result<()> {
        let Self { cluster, workload, replicas } = &self;
        cluster.kubectl(["-n", SYSTEM, "scale", workload, &format!("--replicas={replicas}")])?;
        cluster.kubectl(["-n", SYSTEM, "rollout", "status", workload, "--timeout=90s"])?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Scaled {
    fn drop(&mut self) {
        // A test that failed in between leaves the cluster as it was for the next one.
        let replicas = format!("--replicas={}", self.replicas);
        if let Err(error) = self.cluster.kubectl(["-n", SYSTEM, "scale", &self.workload, &replicas]) {
            eprintln!("{} stays scaled to zero: {error:#}", self.workload);
        }
    }
}

/// The registry, stopped until this value goes.
pub struct RegistryDown;

impl RegistryDown {
    /// Stops both registries.
    pub fn stop() -> Result<Self> {
        cluster_command("registry", ["down"])?;
        Ok(Self)
    }
}

impl Drop for RegistryDown {
    fn drop(&mut self) {
        if let Err(error) = cluster_command("registry", ["up"]) {
            eprintln!("the registry stays down: {error:#}");
        }
    }
}
