//! Whatever goes wrong, the last good version keeps serving, and a condition says why.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use portcullis_e2e::cluster::{Look, SYSTEM, run, until};
use portcullis_e2e::fault::{RegistryDown, Scaled, leader, pid, pods, signal};
use portcullis_e2e::probe::get;
use portcullis_e2e::registry::{self, AUTH_HOST, AUTH_IN_CLUSTER, built, push};
use portcullis_e2e::rule::SOON;
use portcullis_e2e::{Cluster, NODES, Rule};
use serde_json::{Value, json};

/// A rule whose first version is enforced everywhere.
struct Standing {
    cluster: Cluster,
    rule: Rule,
    stable: String,
}

impl Standing {
    async fn new(name: &str) -> Result<Self> {
        let cluster = Cluster::connect().await?;
        let namespace = cluster.namespace(name).await?;
        let rule = Rule::new(&cluster, &namespace, "probe");
        rule.apply(&push(&built("version-probe-v1"), "e2e/version-probe:1")?, json!({})).await?;
        let stable = rule.wait_ready().await?;
        Ok(Self { cluster, rule, stable })
    }

    /// The first version still serves on both nodes, and the status says so.
    async fn last_good_serves(&self) -> Result<()> {
        for node in NODES {
            assert_eq!(
                get(node, "portcullis-probe-v1").await?.status,
                403,
                "{node} enforces the last good version"
            );
            assert_eq!(get(node, "portcullis-probe-v2").await?.status, 200, "{node} enforces nothing else");
        }
        let status = self.rule.get().await?.status.context("the rule has a status")?;
        assert_eq!(status.stable_revision.as_ref(), Some(&self.stable));
        Ok(())
    }

    /// Applies what cannot work; waits for the condition; checks that the last good version serves.
    async fn refuses(&self, reference: &str, more: Value, kind: &str, reason: &str) -> Result<String> {
        self.rule.apply(reference, more).await?;
        let condition = self.rule.wait(kind, "False", reason, SOON).await?;
        println!("{kind}=False/{reason}: {}", condition.message);
        let ready = self.rule.condition("Ready").await?.context("Ready is always there")?;
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("Unknown", reason), "{}", ready.message);
        self.last_good_serves().await?;
        Ok(condition.message)
    }

    /// The next good version still goes through.
    async fn recovers(&self) -> Result<()> {
        self.rule.apply(&push(&built("version-probe-v2"), "e2e/version-probe:2")?, json!({})).await?;
        self.rule.wait_ready().await?;
        for node in NODES {
            assert_eq!(
                get(node, "portcullis-probe-v2").await?.status,
                403,
                "{node} enforces the new version"
            );
        }
        Ok(())
    }
}

/// What somebody else's tool may have put into a registry: any bytes as a rule's layer.
fn push_raw(bytes: &[u8], repository: &str) -> Result<String> {
    let dir = std::env::temp_dir().join(format!("portcullis-e2e-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let layout = Layout { dir: dir.clone() };
    let answer = layout.push(bytes, repository);
    std::fs::remove_dir_all(&dir)?;
    answer
}

/// An OCI image layout on disk, pushed with skopeo.
struct Layout {
    dir: PathBuf,
}

impl Layout {
    fn push(&self, bytes: &[u8], repository: &str) -> Result<String> {
        std::fs::create_dir_all(self.dir.join("blobs/sha256"))?;
        let layer = self.blob(bytes)?;
        let config = self.blob(b"{}")?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": config.0, "size": config.1},
            "layers": [{"mediaType": "application/wasm", "digest": layer.0, "size": layer.1}],
        })
        .to_string();
        let manifest = self.blob(manifest.as_bytes())?;
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": manifest.0, "size": manifest.1}],
        });
        std::fs::write(self.dir.join("index.json"), index.to_string())?;
        std::fs::write(self.dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        run(std::process::Command::new("skopeo")
            .args(["copy", "-q", "--dest-tls-verify=false"])
            .arg(format!("oci:{}", self.dir.display()))
            .arg(format!("docker://{}/{repository}", registry::HOST)))?;
        Ok(format!("{}/{repository}", registry::IN_CLUSTER))
    }

    fn blob(&self, bytes: &[u8]) -> Result<(String, usize)> {
        let digest = portcullis_crds::ModuleDigest::of(bytes);
        std::fs::write(self.dir.join("blobs/sha256").join(digest.hex()), bytes)?;
        Ok((digest.to_string(), bytes.len()))
    }
}

fn push_broken(name: &str) -> Result<String> {
    push_raw(&std::fs::read(built(name))?, &format!("e2e/{name}:1"))
}

#[tokio::test]
async fn a_missing_tag_is_not_found() -> Result<()> {
    let standing = Standing::new("tag-missing").await?;
    let reference = format!("{}/e2e/version-probe:no-such-tag", registry::IN_CLUSTER);
    let message = standing.refuses(&reference, json!({}), "Resolved", "NotFound").await?;
    assert!(message.contains("no-such-tag"), "{message}");
    standing.recovers().await
}

#[tokio::test]
async fn a_registry_that_is_down_is_tried_again_until_it_answers() -> Result<()> {
    let standing = Standing::new("registry-down").await?;
    let reference = push(&built("version-probe-v2"), "e2e/version-probe:2")?;
    let down = RegistryDown::stop()?;
    standing.refuses(&reference, json!({}), "Resolved", "RegistryUnreachable").await?;
    let reconciling = standing.rule.condition("Reconciling").await?;
    assert!(reconciling.is_some(), "it goes on by itself, and says so");
    drop(down);
    standing.rule.wait("Ready", "True", "Active", Duration::from_secs(150)).await?;
    assert_eq!(get("node-2", "portcullis-probe-v2").await?.status, 403);
    Ok(())
}

#[tokio::test]
async fn wrong_credentials_are_unauthorized_and_right_ones_work() -> Result<()> {
    let standing = Standing::new("credentials").await?;
    let namespace = &standing.rule.namespace;
    let state =
        PathBuf::from(std::env::var("PORTCULLIS_CLUSTER_DIR").unwrap_or("/var/lib/portcullis-e2e".into()));
    let right = std::fs::read_to_string(state.join("registry-auth/dockerconfig.json"))?;
    let password = std::fs::read_to_string(state.join("registry-auth/password"))?;
    let user = std::fs::read_to_string(state.join("registry-auth/user"))?;
    run(std::process::Command::new("sh").arg("-c").arg(format!(
        "printf %s \"$PASSWORD\" | {} push --plain-http --username {} --password-stdin {} {AUTH_HOST}/e2e/version-probe:2",
        registry::portcullis().display(),
        user.trim(),
        built("version-probe-v2").display(),
    )).env("PASSWORD", password.trim()))?;
    let reference = format!("{AUTH_IN_CLUSTER}/e2e/version-probe:2");

    // The operator reads Secrets only where the chart's values say so.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    run(std::process::Command::new(root.join("install"))
        .args(["--set", &format!("operator.pullSecretNamespaces={{{namespace}}}")]))?;

    standing.refuses(&reference, json!({}), "Resolved", "Unauthorized").await?;
    let secret = |config: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": "regcred", "namespace": namespace},
            "stringData": {".dockerconfigjson": config}})
        .to_string()
    };
    let more = json!({"source": {"oci": {"pullSecretRef": {"name": "regcred"}}}});
    standing.refuses(&reference, more.clone(), "Accepted", "PullSecretInvalid").await?;
    let wrong =
        json!({"auths": {AUTH_IN_CLUSTER: {"username": user.trim(), "password": "wrong"}}}).to_string();
    standing.cluster.kubectl_apply(&secret(&wrong))?;
    let message = standing
        .refuses(&reference, merged(&more, json!({"priority": 101})), "Resolved", "Unauthorized")
        .await?;
    assert!(!message.contains("wrong"), "a password is never shown: {message}");
    standing.cluster.kubectl_apply(&secret(&right))?;
    standing.rule.apply(&reference, merged(&more, json!({"priority": 102}))).await?;
    standing.rule.wait_ready().await?;
    assert_eq!(get("node-1", "portcullis-probe-v2").await?.status, 403);
    run(&mut std::process::Command::new(root.join("install")))?;
    Ok(())
}

fn merged(a: &Value, b: Value) -> Value {
    let mut both = a.clone();
    if let (Some(into), Value::Object(more)) = (both.as_object_mut(), b) {
        into.extend(more);
    }
    both
}

#[tokio::test]
async fn a_module_that_cannot_work_is_refused_by_name() -> Result<()> {
    let standing = Standing::new("modules").await?;
    let cases = [
        (push_broken("broken-not-wasm")?, "NotWasm"),
        (push_broken("broken-no-inspect-request")?, "AbiMismatch"),
        (push_broken("broken-memory-over-limit")?, "ProbeFailed"),
        (push_broken("broken-start-loop")?, "ProbeFailed"),
        (push_broken("broken-wasi-imports")?, "AbiMismatch"),
        (push_raw(&vec![0; 30 * 1024 * 1024], "e2e/large:1")?, "TooLarge"),
    ];
    for (reference, reason) in cases {
        standing.rule.apply(&reference, json!({})).await?;
        let ready = standing.rule.wait("Ready", "Unknown", reason, SOON).await?;
        println!("{reference}: {reason}: {}", ready.message);
        assert!(standing.rule.condition("Stalled").await?.is_some(), "nothing moves without a change");
        standing.last_good_serves().await?;
    }
    standing.recovers().await
}

#[tokio::test]
async fn nats_down_for_a_minute_costs_no_verdict_and_heals() -> Result<()> {
    let standing = Standing::new("nats-down").await?;
    let nats = Scaled::to_zero(&standing.cluster, "statefulset/portcullis-nats")?;
    let until_then = tokio::time::Instant::now() + Duration::from_secs(60);
    // Asked all the time: the verdict does not depend on the bus.
    while tokio::time::Instant::now() < until_then {
        standing.last_good_serves().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let reference = push(&built("version-probe-v2"), "e2e/version-probe:2")?;
    standing.rule.apply(&reference, json!({})).await?;
    standing.rule.wait("Programmed", "False", "BusUnavailable", SOON).await?;
    standing.last_good_serves().await?;
    nats.restore()?;
    standing.rule.wait("Ready", "True", "Active", Duration::from_secs(150)).await?;
    for node in NODES {
        assert_eq!(get(node, "portcullis-probe-v2").await?.status, 403, "{node}");
    }
    Ok(())
}

#[tokio::test]
async fn an_operator_killed_in_mid_reconcile_is_replaced_and_finishes() -> Result<()> {
    let standing = Standing::new("operator-killed").await?;
    let leading = leader(&standing.cluster)?;
    let process = pid(SYSTEM, &leading, "operator")?;
    let reference = push(&built("version-probe-v2"), "e2e/version-probe:2")?;
    standing.rule.apply(&reference, json!({})).await?;
    signal("KILL", &process)?;
    standing.rule.wait("Ready", "True", "Active", Duration::from_secs(120)).await?;
    for node in NODES {
        assert_eq!(get(node, "portcullis-probe-v2").await?.status, 403, "{node}");
    }
    Ok(())
}

#[tokio::test]
async fn an_agent_killed_with_nats_and_registry_down_serves_its_last_known_good() -> Result<()> {
    let standing = Standing::new("agent-killed").await?;
    let nats = Scaled::to_zero(&standing.cluster, "statefulset/portcullis-nats")?;
    let down = RegistryDown::stop()?;
    for agent in pods(&standing.cluster, "node-agent")? {
        signal("KILL", &pid(SYSTEM, &agent, "node-agent")?)?;
    }
    for node in NODES {
        until("the agent to serve again", Duration::from_secs(60), || async {
            let answer = get(node, "portcullis-probe-v1").await?;
            Ok(if answer.status == 403 { Look::Done(()) } else { Look::NotYet(format!("{answer:?}")) })
        })
        .await?;
    }
    standing.last_good_serves().await?;
    drop(down);
    nats.restore()?;
    standing.recovers().await
}

#[tokio::test]
async fn a_wiped_stream_is_written_again_and_nothing_is_dropped_meanwhile() -> Result<()> {
    let standing = Standing::new("wiped").await?;
    // The demo's values keep the stream in an emptyDir: a new pod is an empty server.
    standing.cluster.kubectl([
        "-n",
        SYSTEM,
        "delete",
        "pod",
        "portcullis-nats-0",
        "--wait=true",
        "--timeout=90s",
    ])?;
    standing.last_good_serves().await?;
    standing.cluster.kubectl([
        "-n",
        SYSTEM,
        "rollout",
        "status",
        "statefulset/portcullis-nats",
        "--timeout=90s",
    ])?;
    standing.last_good_serves().await?;
    standing.rule.wait("Ready", "True", "Active", Duration::from_secs(150)).await?;
    standing.last_good_serves().await?;
    standing.recovers().await
}
