//! What is in the folder, at the start and later.

use crate::http::{BROWSER, Client, SQLMAP, request, tcp};
use crate::portcullis::{Ended, portcullis};
use crate::serve::process::{Rules, Serving};
use portcullis_test_tools::log::record;
use portcullis_test_tools::upstream::upstream;

#[test]
fn a_browser_reaches_the_upstream_and_an_attack_tool_is_told_which_rule_blocked_it() {
    let rules = Rules::new();
    let serving = Serving::start(rules.path(), upstream(), &[]);
    assert!(serving.announced.contains("rules: 1"), "{}", serving.announced);
    assert_eq!(serving.answers(BROWSER, 200).body, "upstream");
    let blocked = serving.answers(SQLMAP, 403).body;
    assert!(blocked.starts_with("Blocked by WASM rule: bad-bot-blocker\n"), "{blocked}");
    let event = blocked.split_once("Event id: ").unwrap().1.trim();
    assert!(serving.logs(event).contains("bad-bot-blocker"));
}

#[test]
fn a_request_that_could_not_be_judged_says_so_and_its_event_says_why() {
    let rules = Rules::new();
    let yaml = std::fs::read_to_string(rules.path().join("rule.yaml")).unwrap();
    rules.put("rule.yaml", yaml.replace("limits: {", "limits: {bodyBytes: 1, ").as_bytes());
    // Of ABI 1, which reads bodies.
    rules.module("rule.wasm", "secbeat-bad-bot");
    let serving = Serving::start(rules.path(), upstream(), &[]);
    let answer = tcp(serving.proxy, &request("POST", "/upload", "", b"ab"));
    let (says, event) = answer.body.split_once("\nEvent id: ").unwrap();
    assert_eq!(answer.status, 403);
    assert_eq!(says, "Could not judge the request by WASM rule: bad-bot-blocker (bodyTooLarge)");
    let alert = record(&serving.logs(event.trim()));
    for (member, expected) in [
        ("level", "INFO"),
        ("target", "portcullis::alert"),
        ("cause", "bodyTooLarge"),
        ("action", "blocked"),
        ("url.path", "/upload"),
    ] {
        assert_eq!(alert[member], expected, "{member}");
    }
}

#[test]
fn a_flood_of_blocks_does_not_fill_the_log() {
    let rules = Rules::new();
    let mut serving = Serving::start(rules.path(), upstream(), &["--health-listen", "127.0.0.1:0"]);
    let health = serving.announced("health and metrics on http://");
    let mut attacker = Client::connect(serving.proxy).unwrap();
    for _ in 0..1_000 {
        assert_eq!(attacker.get(SQLMAP).unwrap().status, 403);
    }
    drop(attacker);
    let metrics = tcp(health, &request("GET", "/metrics", "Connection: close\r\n", b"")).body;
    let count = |name: &str| -> u64 {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or("0");
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    serving.signal("TERM");
    assert_eq!(serving.ends().code(), Some(0));
    let log = serving.log_to_the_end();
    let alerts: Vec<_> =
        log.lines().map(record).filter(|record| record["target"] == "portcullis::alert").collect();
    // Each is a line, or told by a later one, or still to be told.
    let written = alerts.len() as u64;
    assert!((10..1_000).contains(&written), "{written}");
    assert_eq!(count("portcullis_rule_evaluations_total"), 1_000);
    assert_eq!(count("portcullis_events_suppressed_total"), 1_000 - written);
    let told: u64 = alerts.iter().filter_map(|alert| alert.get("suppressed")?.as_u64()).sum();
    assert!(told <= 1_000 - written, "{told}");
    assert!(log.lines().map(record).any(|record| record["message"] == "draining"), "{log}");
}

#[test]
fn a_file_that_breaks_while_serving_is_named_with_the_reason_and_changes_nothing() {
    let rules = Rules::new();
    let serving = Serving::start(rules.path(), upstream(), &[]);
    for (more, reason) in [
        ("  sauce: 1\n", "unknown field spec.sauce"),
        ("  priority: -1\n", "priority between 0 and 1000000, found -1"),
        ("  limits: {fuel: 1\n", "line "),
    ] {
        rules.yaml("rule.yaml", more);
        let line = serving.logs(reason);
        assert!(line.contains("rule.yaml") && line.contains("stay"), "{line}");
        serving.answers(SQLMAP, 403);
    }
    rules.yaml("rule.yaml", "  block: {status: 451}\n");
    serving.answers(SQLMAP, 451);
    assert_eq!(serving.answers(BROWSER, 200).body, "upstream");
}

#[test]
fn a_module_that_breaks_while_serving_does_not_replace_the_good_one() {
    let rules = Rules::new();
    let serving = Serving::start(rules.path(), upstream(), &[]);
    rules.module("rule.wasm", "broken-no-inspect-request");
    let line = serving.logs("inspect_request");
    assert!(line.contains("bad-bot-blocker"), "{line}");
    serving.answers(SQLMAP, 403);
    assert_eq!(serving.answers(BROWSER, 200).body, "upstream");
}

#[test]
fn a_rule_that_cannot_run_at_the_start_is_named_and_nothing_is_served() {
    let rules = Rules::new();
    rules.yaml("rule.yaml", "  sauce: 1\n");
    start(&rules).says(2, &["rule.yaml", "unknown field spec.sauce; correct or remove it"]);
    rules.yaml("rule.yaml", "");
    rules.module("rule.wasm", "broken-returns-7");
    start(&rules).says(2, &["bad-bot-blocker", "rule.wasm", "returned 7"]);
    rules.put("rule.wasm", b"#!/bin/sh\n");
    start(&rules).says(2, &["rule.wasm", "found a script; let source.file name the .wasm file"]);
    std::fs::remove_file(rules.path().join("rule.wasm")).unwrap();
    start(&rules).says(2, &["rule.yaml", "cannot read module rule.wasm: No such file"]);
    rules.yaml("rule.yaml", "");
    let elsewhere = Rules::new();
    let secret = elsewhere.path().join("rule.wasm");
    std::os::unix::fs::symlink(&secret, rules.path().join("rule.wasm")).unwrap();
    start(&rules).says(2, &["leads out of the folder", "put the module beside it"]);
    std::fs::remove_dir_all(rules.path()).unwrap();
    start(&rules).says(2, &["cannot read the rules in", "No such file"]);
}

#[test]
fn a_folder_without_rules_forwards_everything_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(folder.path(), upstream(), &[]);
    assert!(serving.announced.contains("every request is forwarded"), "{}", serving.announced);
    assert_eq!(serving.answers(SQLMAP, 200).body, "upstream");
}

/// `portcullis serve` that must not start.
fn start(rules: &Rules) -> Ended {
    let rules = rules.path().to_str().unwrap();
    portcullis(&["serve", "--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:1", "--rules", rules])
}
