//! What is in the folder, at the start and later.

use crate::http::{BROWSER, SQLMAP};
use crate::portcullis::{Ended, portcullis};
use crate::serve::process::{Rules, Serving};
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
