//! Rules that are not run, and rules that should not have been skipped.

use portcullis_proxy::rules::Loaded;

use super::abi2::{abi2, phase};
use super::upstream::Echo;
use super::world::World;

const LITERAL: &str =
    r#"{"sections": ["headers"], "prefilter": [{"section": "headers", "literals": ["~~~~"]}]}"#;

#[test]
fn a_rule_runs_only_when_one_of_its_literals_is_there() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    world.enforce(vec![abi2("r", LITERAL, &phase("pc_request"))]);
    let mut client = world.client();
    assert_eq!(client.get("/~~~~").status, 200);
    world.wait_for_metric("portcullis_prefilter_skipped_total 1");
    world.wait_for_metric("portcullis_prefilter_evaluated_total 0");
    assert_eq!(client.send("GET / HTTP/1.1\r\nHost: a\r\nX: a~~~~b\r\n\r\n").answer().status, 403);
    world.wait_for_metric("portcullis_prefilter_evaluated_total 1");
    world
        .wait_for_metric(r#"portcullis_rule_evaluations_total{namespace="shop",rule="r",verdict="block"} 1"#);
}

#[test]
fn rules_left_standing_among_many_run_in_their_order() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let literal = |word: &str| {
        format!(
            r#"{{"sections": ["headers"], "prefilter": [{{"section": "headers", "literals": ["{word}"]}}]}}"#
        )
    };
    // Modules are shared, as they are when rules differ in more than their module.
    let (never, always) = (
        abi2("never", &literal("nobody sends this"), &phase("pc_request")),
        abi2("always", &literal("shop.example"), &phase("pc_request")),
    );
    let rules = (0..1_000).map(|index| {
        let module = if index % 100 == 42 { &always } else { &never };
        let Loaded::Module(module) = &module.module else { unreachable!() };
        let mut rule = super::world::always("r", 0);
        rule.key.name = format!("r-{index:04}");
        rule.uid = rule.key.name.clone();
        rule.module = Loaded::Module(module.clone());
        rule
    });
    world.enforce(rules.collect());
    let mut client = world.client();
    assert_eq!(client.get("/").status, 200);
    world.wait_for_metric("portcullis_prefilter_evaluated_total 10");
    world.wait_for_metric("portcullis_prefilter_skipped_total 990");
    let answer = client.send("GET / HTTP/1.1\r\nHost: shop.example\r\nX: ~\r\n\r\n").answer();
    assert!(answer.body.starts_with("Blocked by WASM rule: r-0042\n"), "{}", answer.body);
}

#[test]
fn a_prefilter_that_does_not_keep_its_promise_is_switched_off() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let unsound =
        abi2("r", LITERAL, r#"(func (export "pc_request") (param i32 i32) (result i32) (i32.const 1))"#);
    let Loaded::Module(module) = unsound.module else { unreachable!() };
    let with_module = |name: &str| {
        let mut rule = super::world::always(name, 0);
        rule.module = Loaded::Module(module.clone());
        rule
    };
    world.enforce(vec![with_module("r")]);
    let mut client = world.client();
    // One in about a thousand is looked at.
    let blocked = (0..100_000).any(|_| client.get("/").status == 403);
    assert!(blocked, "it was never found out");
    let found = world.metric(r#"portcullis_prefilter_unsound_total{namespace="shop",rule="r"}"#);
    assert!(found >= 1 && world.metric("portcullis_prefilter_sampled_total") >= found, "{found}");
    // The same module in a later set.
    world.enforce(vec![with_module("other")]);
    assert_eq!(client.get("/").status, 403);
    assert!(!world.metrics().contains(r#"rule="r""#));
}
