//! A candidate beside the stable revision of a rule.

use bytes::Bytes;
use portcullis_bus::testing::NatsServer;
use portcullis_crds::bus::ExceptionState;

use crate::agent::Agent;
use crate::leader::{Leader, blocking, key};

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_is_held_ready_while_the_stable_revision_goes_on_and_both_are_reported() {
    let nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    let mut agent = Agent::start(&nats).await;
    leader.publish("bad-bot", 1, "v1", &blocking("1")).await;
    let without = leader.is_settled().await;

    leader.publish_candidate("bad-bot", "v2", &blocking("2")).await;
    leader.checkpoint().await;
    let report = leader.is_settled().await;
    assert_ne!((report.desired.clone(), report.active.clone()), (without.desired, without.active));
    assert_eq!((report.desired, report.active_count), (leader.set(), 1));
    assert_eq!(agent.get().await.unwrap().body, "v1");

    // Both are there again after a restart.
    agent.kill();
    agent.resume();
    leader.is_settled().await;
    agent.answers(403, "v1").await;

    // It becomes the stable one.
    leader.publish_rule("bad-bot", 2, "v2", &blocking("2")).await;
    leader.is_settled().await;
    assert_eq!(agent.get().await.unwrap().body, "v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_cannot_run_is_an_exception_of_its_own() {
    let nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    let agent = Agent::start(&nats).await;
    leader.publish("bad-bot", 1, "v1", &blocking("1")).await;
    leader.is_settled().await;

    let last = leader.publish_candidate("bad-bot", "v2", &Bytes::from_static(b"not wasm")).await;
    let report = leader
        .reported("the failure", |r| {
            r.sequence >= last && r.exceptions.iter().any(|e| e.state == ExceptionState::CompileFailed)
        })
        .await;
    let [exception] = &report.exceptions[..] else { panic!("{:?}", report.exceptions) };
    assert_eq!((&exception.key, &exception.active), (&key("bad-bot"), &Some(leader.revision("bad-bot"))));
    assert_ne!(exception.wanted, leader.revision("bad-bot"));
    assert_eq!(report.desired, leader.set());
    assert_eq!(agent.get().await.unwrap().body, "v1");

    // Given up, nothing is left of it.
    leader.publish_rule("bad-bot", 1, "v1", &blocking("1")).await;
    leader.is_settled().await;
}
