//! Rules that may take long: others do not wait for them.

use std::time::Duration;

use portcullis_crds::wasm_rule::Mode;
use portcullis_proxy::rules::ActiveRule;

use super::abi2::abi2;
use super::client::Client;
use super::rules::assert_unjudged;
use super::upstream::Echo;
use super::world::{World, wait_until};

/// Runs on `/spin` only, and then for as long as its deadline lets it.
fn spinning(deadline: Duration) -> ActiveRule {
    let mut rule = abi2(
        "spin",
        r#"{"sections": ["path"], "prefilter": [{"section": "path", "literals": ["/spin"]}]}"#,
        r#"(func (export "pc_request") (param i32 i32) (result i32) (loop $again (br $again)) (unreachable))"#,
    );
    rule.limits.fuel = u64::MAX / 4;
    rule.limits.deadline = deadline;
    rule
}

/// Far longer than these tests take, and not so long that what goes on after them is a nuisance.
const LONG: Duration = Duration::from_secs(5);

fn spin(world: &World) -> Client {
    let mut client = world.client();
    client.send("GET /spin HTTP/1.1\r\nHost: a\r\n\r\n");
    client
}

fn in_flight(world: &World) -> u64 {
    world.metric("portcullis_requests_in_flight")
}

#[test]
fn a_dear_rule_delays_nobody_else() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    world.enforce(vec![spinning(LONG)]);
    let _spinning = spin(&world);
    wait_until("the dear rule to run", || in_flight(&world) == 1);
    let mut other = world.client();
    for _ in 0..10 {
        assert_eq!(other.get("/").status, 200);
    }
    let over_budget = r#"portcullis_rule_errors_total{namespace="shop",rule="spin",cause="budget"}"#;
    assert_eq!(world.metric(over_budget), 0, "the dear rule was through before the others were answered");
}

#[test]
fn a_dear_rule_that_is_through_decides_about_its_request() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    world.enforce(vec![spinning(Duration::from_millis(10))]);
    assert_unjudged(&world.client().get("/spin"), "spin", "budget");
    world.wait_for_metric(r#"portcullis_rule_errors_total{namespace="shop",rule="spin",cause="budget"} 1"#);
}

#[test]
fn what_waits_for_a_thread_is_bounded_and_no_rule_is_blamed() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    world.enforce(vec![spinning(LONG)]);
    let shed = || world.metric(r#"portcullis_shed_total{reason="evaluations"}"#);
    let mut clients: Vec<Client> = Vec::new();
    while shed() == 0 {
        assert!(clients.len() < 100, "nothing is shed");
        clients.push(spin(&world));
        let sent = clients.len() as u64;
        wait_until("the request to be taken on", || in_flight(&world) == sent || shed() > 0);
    }
    assert!(clients.len() > 16, "{} requests", clients.len());
    let answer = clients.pop().unwrap().answer();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    let errors = world.metrics();
    let mut errors = errors.lines().filter(|line| line.starts_with("portcullis_rule_errors_total"));
    assert!(errors.all(|line| line.ends_with(" 0")), "a rule is blamed for the node's lack of time");
    // Nothing is said about the request, so a rule in Monitor lets it through.
    let mut monitored = spinning(LONG);
    monitored.mode = Mode::Monitor;
    world.enforce(vec![monitored]);
    assert_eq!(world.client().get("/spin").status, 200);
}
