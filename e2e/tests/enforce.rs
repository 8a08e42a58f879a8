//! The main job: apply a rule, see it enforced on every node, move to a new version, delete it.

use std::time::Duration;

use anyhow::Result;
use portcullis_e2e::cluster::{Look, until};
use portcullis_e2e::probe::{BROWSER, SQLMAP, get};
use portcullis_e2e::registry::{built, push};
use portcullis_e2e::{Cluster, NODES, Rule};
use serde_json::json;

#[tokio::test]
async fn a_bad_bot_gets_403_on_every_node_and_a_browser_passes() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = cluster.namespace("enforce").await?;
    let rule = Rule::new(&cluster, &namespace, "bad-bot-blocker");
    let reference = push(&built("bad-bot-blocker-1.0.0"), "e2e/bad-bot-blocker:1.0.0")?;
    rule.apply(&reference, json!({})).await?;
    // As a user waits: returns only when both agents reported this very revision.
    cluster.kubectl([
        "-n",
        &namespace,
        "wait",
        "--for=condition=Ready",
        "--timeout=90s",
        "wasmrule/bad-bot-blocker",
    ])?;
    for node in NODES {
        let blocked = get(node, SQLMAP).await?;
        assert_eq!(blocked.status, 403, "{node}: {blocked:?}");
        assert!(blocked.body.starts_with("Blocked by WASM rule: bad-bot-blocker"), "{node}: {blocked:?}");
        let passed = get(node, BROWSER).await?;
        assert_eq!(passed.status, 200, "{node}: {passed:?}");
    }

    let table = cluster.kubectl(["get", "wasmrule", "-A"])?;
    println!("{table}");
    let header: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(header, ["NAMESPACE", "NAME", "MODE", "READY", "REASON", "REVISION", "REPORTED", "AGE"]);
    let row: Vec<&str> =
        table.lines().find(|l| l.starts_with(&namespace)).unwrap_or_default().split_whitespace().collect();
    assert_eq!(row[1..5], ["bad-bot-blocker", "Enforce", "2/2", "Active"], "{table}");
    let revision = rule.get().await?.status.and_then(|s| s.stable_revision);
    assert_eq!(revision.as_deref(), Some(row[5]), "{table}");
    Ok(())
}

#[tokio::test]
async fn monitor_lets_through_what_enforce_blocks() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = cluster.namespace("monitor").await?;
    let rule = Rule::new(&cluster, &namespace, "probe");
    let reference = push(&built("version-probe-v1"), "e2e/version-probe:monitor")?;
    rule.apply(&reference, json!({"mode": "Monitor"})).await?;
    rule.wait_ready().await?;
    assert_eq!(get("node-1", "portcullis-probe-v1").await?.status, 200);
    rule.apply(&reference, json!({"mode": "Enforce", "block": {"status": 451}})).await?;
    rule.wait_ready().await?;
    for node in NODES {
        assert_eq!(get(node, "portcullis-probe-v1").await?.status, 451, "{node}");
    }
    Ok(())
}

#[tokio::test]
async fn a_moved_tag_is_taken_up_when_it_is_polled_and_only_then() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = cluster.namespace("poll").await?;
    let reference = push(&built("version-probe-v1"), "e2e/version-probe:moving")?;
    let (frozen, polled) =
        (Rule::new(&cluster, &namespace, "frozen"), Rule::new(&cluster, &namespace, "polled"));
    frozen.apply(&reference, json!({})).await?;
    polled.apply(&reference, json!({"source": {"oci": {"pollInterval": "10s"}}})).await?;
    let before = frozen.wait_ready().await?;
    polled.wait_ready().await?;
    push(&built("version-probe-v2"), "e2e/version-probe:moving")?;
    until("the polled rule to move", Duration::from_secs(60), || async {
        let now = polled.wait_ready().await?;
        Ok(if now == before { Look::NotYet(now) } else { Look::Done(()) })
    })
    .await?;
    assert_eq!(frozen.wait_ready().await?, before);
    Ok(())
}

#[tokio::test]
async fn what_can_be_refused_at_apply_is_refused_with_what_to_write_instead() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = cluster.namespace("refused").await?;
    let rule = |spec: &str| {
        format!(
            "apiVersion: portcullis.dev/v1alpha1\nkind: WasmRule\nmetadata: {{name: refused, namespace: {namespace}}}\nspec: {spec}\n"
        )
    };
    let cases = [
        ("{source: {}}", "source.oci.reference"),
        ("{source: {file: rule.wasm}}", "portcullis serve"),
        ("{source: {oci: {reference: 'https://r.example/a:1'}}}", "without a scheme"),
        ("{source: {oci: {reference: 'r.example/a'}}}", "tag or digest"),
        ("{source: {oci: {reference: 'r.example/a@sha256:0', pollInterval: 5m}}}", "drop pollInterval"),
        ("{source: {oci: {reference: 'r.example/a:1', pollInterval: 1s}}}", "between 10s and 24h"),
        ("{source: {oci: {reference: 'r.example/a:1'}}, limits: {memory: 1Gi}}", "limits.memory"),
        ("{source: {oci: {reference: 'r.example/a:1'}}, limits: {memory: 64Mi}}", "between 64Ki and 16Mi"),
        ("{source: {oci: {reference: 'r.example/a:1'}}, limits: {memory: 4 MB}}", "bytes, Ki or Mi"),
        ("{source: {oci: {reference: 'r.example/a:1'}}, limits: {bodyBytes: '0'}}", "reads no bodies"),
        ("{source: {oci: {reference: 'r.example/a:1'}}, limits: {deadline: 1s}}", "between 100us and 10ms"),
        ("{source: {oci: {reference: 'r.example/a:1'}}, limits: {deadline: soon}}", "us, ms, s, m or h"),
        ("{source: {oci: {reference: 'r.example/a:1', pollInterval: 999999h}}}", "between 10s and 24h"),
        ("{source: {oci: {reference: 'r.example/A:1'}}}", "in lower case"),
        ("{source: {oci: {reference: 'acme/bad-bot:1'}}}", "a dot or a port"),
        (
            "{source: {oci: {reference: 'r.example/a:1', pullSecretRef: {name: My_Secret}}}}",
            "name of a Secret",
        ),
        ("{source: {oci: {reference: 'r.example/a:1'}}, limits: {fuel: 9000000}}", "1000000"),
        ("{source: {oci: {reference: 'r.example/a:1'}}, mode: Off}", "mode"),
        ("{source: {oci: {reference: 'r.example/a:1'}}, block: {status: 200}}", "400"),
        ("{source: {oci: {reference: 'r.example/a:1'}}, priorty: 5}", "priorty"),
    ];
    for (spec, expected) in cases {
        let error = match cluster.kubectl_apply(&rule(spec)) {
            Ok(accepted) => panic!("{spec} was accepted: {accepted}"),
            Err(error) => error.to_string(),
        };
        let said = error.lines().filter(|l| !l.contains("kubectl\"")).collect::<Vec<_>>().join("\n");
        assert!(said.contains(expected), "{spec}: expected {expected:?} in\n{said}");
        assert!(
            !said.contains("[a-z") && !said.contains("[0-9"),
            "{spec}: an expression instead of words in\n{said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_example_of_the_secbeat_documentation_runs_as_its_users_build_it() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = cluster.namespace("secbeat").await?;
    let rule = Rule::new(&cluster, &namespace, "bad-bot-blocker");
    rule.apply(&push(&built("secbeat-bad-bot"), "e2e/secbeat-bad-bot:1")?, json!({})).await?;
    rule.wait_ready().await?;
    for node in NODES {
        assert_eq!(get(node, "BadBot/1.0").await?.status, 403, "{node}");
        assert_eq!(get(node, BROWSER).await?.status, 200, "{node}");
    }
    Ok(())
}

/// One skipped evaluation in about a thousand is done all the same.
#[tokio::test]
async fn a_prefilter_that_hides_an_attack_is_found_out_and_the_rule_says_so() -> Result<()> {
    const ATTACK: &str = "unsound!";
    let cluster = Cluster::connect().await?;
    let namespace = cluster.namespace("unsound").await?;
    let rule = Rule::new(&cluster, &namespace, "hides");
    let reference = push(&built("broken-prefilter"), "e2e/broken-prefilter:1")?;
    rule.apply(&reference, json!({})).await?;
    rule.wait_ready().await?;
    assert_eq!(get("node-2", BROWSER).await?.status, 200);
    let mut hidden = 0;
    while get("node-2", ATTACK).await?.status == 200 {
        hidden += 1;
        assert!(hidden < 50_000, "it was never found out");
    }
    println!("found out after {hidden} requests");
    let ready = rule.wait("Ready", "True", "PrefilterUnsound", Duration::from_secs(60)).await?;
    assert!(ready.message.contains("on every request on node-2"), "{}", ready.message);
    println!("{}", cluster.kubectl(["-n", &namespace, "get", "wasmrule"])?);
    assert_eq!(get("node-2", BROWSER).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_deleted_rule_is_gone_from_every_node() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = cluster.namespace("delete").await?;
    let rule = Rule::new(&cluster, &namespace, "probe");
    let reference = push(&built("version-probe-v1"), "e2e/version-probe:delete")?;
    rule.apply(&reference, json!({})).await?;
    rule.wait_ready().await?;
    rule.delete().await?;
    for node in NODES {
        until("the node to let it through", Duration::from_secs(30), || async {
            let answer = get(node, "portcullis-probe-v1").await?;
            Ok(if answer.status == 200 { Look::Done(()) } else { Look::NotYet(format!("{answer:?}")) })
        })
        .await?;
    }
    Ok(())
}
