//! What rules remember between requests.

use portcullis_crds::Revision;
use portcullis_crds::wasm_rule::Isolation;
use portcullis_proxy::rules::ActiveRule;

use super::abi2::abi2;
use super::upstream::Echo;
use super::world::{World, always};

/// A rule that remembers, blocks every second request that it sees, and traps on every third.
fn counting(isolation: Isolation) -> ActiveRule {
    let mut rule = abi2(
        "r",
        r#"{"sections": ["path"], "state": "worker"}"#,
        r#"(global $seen (mut i32) (i32.const 0))
           (func (export "pc_request") (param i32 i32) (result i32)
             (global.set $seen (i32.add (global.get $seen) (i32.const 1)))
             (if (i32.eq (global.get $seen) (i32.const 3)) (then (unreachable)))
             (i32.eq (global.get $seen) (i32.const 2)))"#,
    );
    rule.isolation = isolation;
    rule
}

fn statuses<const N: usize>(world: &World) -> [u16; N] {
    let mut client = world.client();
    [(); N].map(|()| client.get("/").status)
}

fn errors(world: &World) -> u64 {
    world.metric(r#"portcullis_rule_errors_total{namespace="shop",rule="r",cause="error"}"#)
}

#[test]
fn a_rule_remembers_only_if_it_is_isolated_by_worker() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    world.enforce(vec![counting(Isolation::PerRequest)]);
    assert_eq!(statuses(&world), [200; 5]);
    world.enforce(vec![counting(Isolation::PerWorker)]);
    assert_eq!(statuses(&world), [200, 403]);
}

#[test]
fn a_rule_that_fails_has_forgotten_everything() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    world.enforce(vec![counting(Isolation::PerWorker)]);
    assert_eq!(statuses(&world), [200, 403, 403, 200, 403, 403, 200]);
    assert_eq!(errors(&world), 2);
}

#[test]
fn memory_outlives_the_change_of_other_rules_and_ends_with_its_revision() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    world.enforce(vec![counting(Isolation::PerWorker)]);
    assert_eq!(statuses(&world), [200]);
    world.enforce(vec![counting(Isolation::PerWorker), always("other", 0)]);
    assert_eq!(statuses(&world), [403]);
    let mut newer = counting(Isolation::PerWorker);
    newer.revision = Revision::from("fedcba9876543210".to_owned());
    world.enforce(vec![newer]);
    assert_eq!(statuses(&world), [200, 403]);
    world.enforce(vec![]);
    assert_eq!(statuses(&world), [200]);
    world.enforce(vec![counting(Isolation::PerWorker)]);
    assert_eq!(statuses(&world), [200, 403]);
    assert_eq!(errors(&world), 0);
}

#[test]
fn a_rule_remembers_on_the_threads_for_dear_rules_too() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let mut rule = counting(Isolation::PerWorker);
    rule.limits.fuel = 2_000_000;
    world.enforce(vec![rule]);
    assert_eq!(statuses(&world), [200, 403, 403, 200]);
}

#[test]
fn more_rules_than_have_room_run_without_memory() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let rules = (0..20).map(|index| {
        let mut rule = counting(Isolation::PerWorker);
        rule.key.name = format!("r-{index:02}");
        rule.uid = rule.key.name.clone();
        rule.mode = portcullis_crds::wasm_rule::Mode::Monitor;
        rule
    });
    world.enforce(rules.collect());
    assert_eq!(statuses(&world), [200, 200]);
    let blocked = |name: &str| {
        world.metric(&format!(
            r#"portcullis_rule_evaluations_total{{namespace="shop",rule="{name}",verdict="block"}}"#
        ))
    };
    assert_eq!([blocked("r-00"), blocked("r-15"), blocked("r-16"), blocked("r-19")], [1, 1, 0, 0]);
}
