//! What the chart says about people and nodes, asked of a real API server.

use anyhow::Result;
use portcullis_e2e::Cluster;
use portcullis_e2e::cluster::SYSTEM;

/// Whether a user may do this with the rules of a namespace, or with a part of them.
fn may(cluster: &Cluster, user: &str, verb: &str, part: &str, namespace: &str) -> bool {
    let part = format!("--subresource={part}");
    let rules = "wasmrules.portcullis.dev";
    cluster.kubectl(["auth", "can-i", verb, rules, &part, "--as", user, "-n", namespace, "--quiet"]).is_ok()
}

#[tokio::test]
async fn the_roles_view_and_edit_of_a_namespace_hold_for_its_rules_and_for_no_status() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = cluster.namespace("roles").await?;
    for role in ["view", "edit"] {
        let (clusterrole, user) = (format!("--clusterrole={role}"), format!("--user={role}er"));
        cluster.kubectl(["create", "rolebinding", role, &clusterrole, &user, "-n", &namespace])?;
    }
    for verb in ["get", "list", "watch"] {
        assert!(may(&cluster, "viewer", verb, "", &namespace), "view: {verb}");
        assert!(may(&cluster, "editer", verb, "", &namespace), "edit: {verb}");
    }
    for verb in ["create", "update", "patch", "delete", "deletecollection"] {
        assert!(!may(&cluster, "viewer", verb, "", &namespace), "view: {verb}");
        assert!(may(&cluster, "editer", verb, "", &namespace), "edit: {verb}");
        assert!(!may(&cluster, "editer", verb, "", "demo"), "edit in another namespace: {verb}");
    }
    assert!(!may(&cluster, "editer", "patch", "status", &namespace));
    Ok(())
}

/// A node that takes pods again when this value goes.
struct Drained<'a>(&'a Cluster, String);

impl Drop for Drained<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.kubectl(["uncordon", &self.1]) {
            eprintln!("{} stays cordoned: {error:#}", self.1);
        }
    }
}

#[tokio::test]
async fn a_drain_does_not_wait_for_the_one_nats_server() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let pod = ["-n", SYSTEM, "get", "pod", "portcullis-nats-0", "-o", "jsonpath={.spec.nodeName}"];
    let node = Drained(&cluster, cluster.kubectl(pod)?);
    let only = "--pod-selector=app.kubernetes.io/component=nats";
    cluster.kubectl([
        "drain",
        &node.1,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--timeout=60s",
        only,
    ])?;
    cluster.kubectl(["-n", SYSTEM, "rollout", "status", "statefulset/portcullis-nats", "--timeout=90s"])?;
    assert_ne!(cluster.kubectl(pod)?, node.1, "the server runs elsewhere");
    Ok(())
}
