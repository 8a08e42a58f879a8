//! Rules that come, change, fail and go while everything is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use portcullis_bus::testing::NatsServer;
use portcullis_crds::bus::report::EXCEPTIONS_MAX;
use portcullis_crds::bus::{ExceptionState, Mark};

use crate::agent::Agent;
use crate::leader::{Leader, blocking, key, module};

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_is_enforced_changed_and_removed_and_each_is_reported() {
    let nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    let agent = Agent::start(&nats).await;
    // Nothing says yet that there are no rules.
    assert_eq!(crate::eventually("an answer", || agent.side("/readyz")).await.status, 503);
    leader.checkpoint().await;
    agent.is_ready().await;
    agent.answers(200, "upstream").await;

    leader.publish("bad-bot", 1, "v1", &blocking("1")).await;
    let report = leader.is_settled().await;
    assert_eq!((report.agent.as_str(), report.node.as_str(), report.active_count), ("agent-1", "node-1", 1));
    assert_eq!(agent.get().await.unwrap().body, "v1");

    leader.publish("bad-bot", 2, "v2", &blocking("2")).await;
    leader.is_settled().await;
    assert_eq!(agent.get().await.unwrap().body, "v2");

    leader.delete("bad-bot").await;
    leader.is_settled().await;
    assert_eq!(agent.get().await.unwrap().body, "upstream");

    let metrics = agent.side("/metrics").await.unwrap().body;
    assert!(metrics.contains("portcullis_agent_bus_connected 1"), "{metrics}");
    assert!(metrics.contains("portcullis_agent_ruleset_swaps_total 3"), "{metrics}");
    // Two versions, each tried out and then asked once.
    assert!(metrics.contains(r#"portcullis_instances_total{how="made"} 4"#), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_cannot_run_leaves_the_one_before_and_holds_nobody_back() {
    let nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    let agent = Agent::start(&nats).await;
    leader.publish("bad-bot", 1, "v1", &blocking("1")).await;
    leader.is_settled().await;

    for (generation, wasm, state, reason) in [
        (2, Bytes::from_static(b"not wasm"), ExceptionState::CompileFailed, "expected a WebAssembly module"),
        (3, module("loop", "(loop (br 0)) i32.const 0"), ExceptionState::ProbeFailed, "fuel"),
        (4, module("seven", "i32.const 7"), ExceptionState::ProbeFailed, "returned 7"),
    ] {
        leader.publish("bad-bot", generation, "broken", &wasm).await;
        let other = format!("other-{generation}");
        let last = leader.publish(&other, 1, "other", &module(&other, "i32.const 0")).await;
        let report = leader
            .reported("the failure", |r| r.sequence >= last && r.exceptions.iter().any(|e| e.state == state))
            .await;
        assert_eq!(report.desired, leader.set());
        let exceptions: Vec<_> = report.exceptions.iter().map(|e| (&e.key, e.active.is_some())).collect();
        assert_eq!(exceptions, [(&key("bad-bot"), true)]);
        assert!(report.exceptions[0].message.contains(reason), "{}", report.exceptions[0].message);
        assert_eq!(agent.get().await.unwrap().body, "v1");
    }
    leader.publish("bad-bot", 5, "v5", &blocking("5")).await;
    leader.is_settled().await;
    assert_eq!(agent.get().await.unwrap().body, "v5");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_failing_rules_than_a_report_has_room_for_are_still_told_apart_from_the_others() {
    let nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    let agent = Agent::start(&nats).await;
    leader.publish("bad-bot", 1, "v1", &blocking("1")).await;
    let broken = Bytes::from_static(b"not wasm");
    let mut last = 0;
    for n in 0..EXCEPTIONS_MAX + 3 {
        last = leader.publish(&format!("broken-{n:03}"), 1, "broken", &broken).await;
    }
    let failed = ExceptionState::CompileFailed;
    let report = leader
        .reported("all failures", |r| {
            let all_failed = r.exceptions.iter().all(|e| e.state == failed);
            r.sequence >= last && all_failed && r.marks.get(&failed).is_some_and(|marks| marks.len() == 3)
        })
        .await;
    assert_eq!((report.exceptions.len(), report.more), (EXCEPTIONS_MAX, 0));
    let listed = |name: &str| report.exceptions.iter().any(|e| e.key == key(name));
    let marked = |name: &str| report.marks[&failed].contains(&Mark::of(&key(name), &leader.revision(name)));
    for n in 0..EXCEPTIONS_MAX + 3 {
        let name = format!("broken-{n:03}");
        assert!(listed(&name) != marked(&name), "{name} is said once");
    }
    assert!(!listed("bad-bot") && !marked("bad-bot"));
    assert_eq!(agent.get().await.unwrap().body, "v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_is_not_on_the_bus_yet_is_taken_up_when_it_is() {
    let nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    let agent = Agent::start(&nats).await;
    let wasm = blocking("1");
    leader.publish_rule("bad-bot", 1, "v1", &wasm).await;
    leader.checkpoint().await;
    leader
        .reported("the missing module", |r| {
            r.exceptions.iter().any(|e| e.state == ExceptionState::ModuleUnavailable && e.active.is_none())
        })
        .await;
    assert_eq!(agent.get().await.unwrap().body, "upstream");
    assert_eq!(agent.side("/readyz").await.unwrap().status, 503);
    leader.publish("bad-bot", 1, "v1", &wasm).await;
    leader.is_settled().await;
    assert_eq!(agent.get().await.unwrap().body, "v1");
    agent.is_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_several_pages_is_read_completely() {
    let nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    // A page has 256 messages; one module is shared by all rules.
    let wasm = module("shared", "i32.const 0");
    leader.publish("rule-0", 1, "shared", &wasm).await;
    for n in 1..600 {
        leader.publish_rule(&format!("rule-{n}"), 1, "shared", &wasm).await;
    }
    leader.checkpoint().await;
    let agent = Agent::start(&nats).await;
    assert_eq!(leader.is_settled().await.active_count, 600);
    agent.is_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_report_of_a_version_no_answer_of_the_one_before_comes() {
    let nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    let agent = Arc::new(Agent::start(&nats).await);
    leader.publish("bad-bot", 1, "v1", &blocking("1")).await;
    leader.is_settled().await;

    let reported = Arc::new(AtomicUsize::new(1));
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (agent, reported, over) = (agent.clone(), reported.clone(), over.clone());
            tokio::spawn(async move {
                let mut answers = 0;
                while !over.load(Ordering::SeqCst) {
                    let at_least = reported.load(Ordering::SeqCst);
                    let answer = agent.get().await.expect("no request is lost");
                    let version = answer.body.strip_prefix('v').and_then(|v| v.parse::<usize>().ok());
                    let version = version.unwrap_or_else(|| panic!("an answer of no version: {answer:?}"));
                    assert!(version >= at_least, "v{version} after v{at_least} was reported");
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    for version in 2..=20 {
        // Two modules in turn, as in a rollout and its rollback.
        let wasm = blocking(if version % 2 == 0 { "even" } else { "odd" });
        leader.publish("bad-bot", version, &format!("v{version}"), &wasm).await;
        leader.is_settled().await;
        reported.store(usize::try_from(version).unwrap(), Ordering::SeqCst);
    }
    over.store(true, Ordering::SeqCst);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}
