//! The health check for Argo CD, run by the Lua that Argo CD has.

use std::process::Command;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use portcullis_test_tools::tool;

/// A Lua table of a rule's status; `more` are further fields.
fn rule(ready: &str, reason: &str, more: &str) -> String {
    format!(
        r#"{{ metadata = {{ generation = 2 }}, status = {{ observedGeneration = 2, {more}
            conditions = {{ {{ type = "Ready", status = "{ready}", reason = "{reason}", message = "m" }} }} }} }}"#
    )
}

fn confirmed(minutes_ago: i64) -> String {
    let at = Timestamp::now() - SignedDuration::from_mins(minutes_ago);
    format!(r#"lastReportTime = "{at}","#)
}

/// What the check says of an object.
fn health(object: &str) -> String {
    let check = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/gitops/argocd-health.lua");
    let script = format!(
        r#"obj = {object} local health = assert(loadfile("{check}"))() print(health.status .. "|" .. health.message)"#
    );
    let output = Command::new(tool("glua")).arg("-e").arg(script).output().expect("glua runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn status(object: &str) -> String {
    health(object).split('|').next().unwrap_or_default().to_owned()
}

#[test]
fn a_rule_is_healthy_only_while_somebody_confirms_it() {
    let ready = |more: &str| rule("True", "Active", more);
    assert_eq!(status(&ready(&confirmed(1))), "Healthy");
    assert_eq!(status(&ready(&confirmed(14))), "Healthy");
    assert_eq!(status(&ready(&confirmed(16))), "Unknown");
    assert_eq!(status(&ready("")), "Unknown", "no time at all");
    assert!(health(&ready(&confirmed(16))).contains("Look at the operator's pods"));
}

#[test]
fn what_nobody_can_tell_is_unknown_and_what_failed_is_degraded() {
    for (ready, reason, expected) in [
        ("Unknown", "BusUnavailable", "Unknown"),
        ("Unknown", "NodeSilent", "Unknown"),
        ("False", "NodeFailed", "Degraded"),
        ("Unknown", "RegistryUnreachable", "Progressing"),
    ] {
        assert_eq!(status(&rule(ready, reason, &confirmed(1))), expected, "{reason}");
    }
    assert_eq!(status("{ metadata = { generation = 1 } }"), "Progressing");
    let older = rule("True", "Active", &confirmed(1)).replace("generation = 2", "generation = 3");
    assert_eq!(status(&older), "Progressing", "the conditions are of an older generation");
}
