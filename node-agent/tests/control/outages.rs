//! Rules that stay, whatever goes down.

use portcullis_bus::RecallError;
use portcullis_bus::testing::NatsServer;
use portcullis_crds::revision::Revision;

use crate::agent::Agent;
use crate::leader::{Leader, blocking, key, module};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_and_restarted_without_the_bus_serves_what_it_served() {
    let mut nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    let mut agent = Agent::start(&nats).await;
    // Forth and back: the module of the first version is the one that must be on disk in the end.
    for (generation, text, wasm) in [(1, "v1", "a"), (2, "v2", "b"), (3, "v3", "a")] {
        leader.publish("bad-bot", generation, text, &blocking(wasm)).await;
        leader.is_settled().await;
        leader.checkpoint().await;
    }
    agent.is_ready().await;
    // Desired, but cannot run: what runs is what must come back.
    let last = leader.publish("bad-bot", 4, "v4", &module("4", "unreachable")).await;
    leader.reported("the failure", |r| r.sequence >= last && !r.exceptions.is_empty()).await;

    nats.stop();
    agent.kill();
    agent.resume();
    agent.is_ready().await;
    assert_eq!(agent.get().await.unwrap().body, "v3");

    nats.resume().await;
    leader.publish("bad-bot", 5, "v5", &blocking("5")).await;
    leader.is_settled().await;
    assert_eq!(agent.get().await.unwrap().body, "v5");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_bus_is_no_outage_and_what_was_missed_is_made_up_for() {
    let mut nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    let agent = Agent::start(&nats).await;
    leader.publish("bad-bot", 1, "v1", &blocking("1")).await;
    leader.publish("gone", 1, "gone", &module("gone", "i32.const 0")).await;
    leader.checkpoint().await;
    leader.is_settled().await;
    agent.is_ready().await;
    nats.stop();
    crate::eventually("the end of the connection in the metrics", || async {
        let metrics = agent.side("/metrics").await?.body;
        if metrics.contains("portcullis_agent_bus_connected 0") { Ok(()) } else { Err(metrics) }
    })
    .await;
    assert_eq!(agent.get().await.unwrap().body, "v1");
    agent.is_ready().await;
    nats.resume().await;
    // Perhaps before the agent is back.
    leader.publish("bad-bot", 2, "v2", &blocking("2")).await;
    leader.delete("gone").await;
    leader.is_settled().await;
    assert_eq!(agent.get().await.unwrap().body, "v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_stream_changes_nothing_until_the_leader_has_published_everything_again() {
    let mut nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    let agent = Agent::start(&nats).await;
    leader.publish("bad-bot", 1, "v1", &blocking("1")).await;
    leader.publish("deleted-meanwhile", 1, "x", &module("x", "i32.const 0")).await;
    leader.checkpoint().await;
    let before = leader.is_settled().await;
    nats.stop();
    nats.wipe();
    nats.resume().await;
    // The modules are gone from the bus as well; the agent has them.
    leader.start_over(&["bad-bot"]).await;
    let after = leader.is_settled().await;
    assert_ne!(after.stream, before.stream);
    assert_eq!(agent.get().await.unwrap().body, "v1");
    assert!(!agent.log().contains("rules swapped in\",\"sequence\":0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_only_the_agent_still_has_is_kept_reported_and_given_back() {
    let mut nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    let agent = Agent::start(&nats).await;
    // More than one chunk.
    let text = format!(
        r#"(module (@custom "padding" "{}") (memory (export "memory") 1)
             (func (export "inspect_request") (param i32 i32) (result i32) i32.const 1))"#,
        "x".repeat(300_000)
    );
    let wasm = wat::parse_str(text).unwrap().into();
    leader.publish("bad-bot", 1, "v1", &wasm).await;
    leader.publish("other", 1, "x", &module("x", "i32.const 0")).await;
    leader.checkpoint().await;
    leader.is_settled().await;
    nats.stop();
    nats.wipe();
    nats.resume().await;
    leader.start_over(&["other"]).await;
    leader.checkpoint_with_unknown(&["bad-bot"]).await;
    let set = leader.set();
    let report = leader.reported("the rule that is kept", |r| r.desired == set && !r.kept.is_empty()).await;
    assert!(report.exceptions.is_empty() && report.active_count == 2, "{report:?}");
    assert_eq!(agent.get().await.unwrap().body, "v1");

    let bus = leader.bus.clone();
    let recalled = bus.recall_rule("agent-1", &key("bad-bot")).await.unwrap();
    assert_eq!((recalled.generation, &Revision::of(&recalled.rule.stable)), (1, &report.kept[0].revision));
    assert_eq!(bus.recall_module("agent-1", &recalled.rule.stable.module).await.unwrap(), wasm);
    let nothing = bus.recall_rule("agent-1", &key("never")).await;
    assert!(matches!(nothing, Err(RecallError::Nothing(_))), "{nothing:?}");

    leader.publish("bad-bot", 1, "v1", &wasm).await;
    leader.checkpoint().await;
    let report = leader.is_settled().await;
    assert!(report.kept.is_empty(), "the stream has it again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_of_message_that_the_agent_does_not_know_never_makes_it_read_again() {
    let nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    let agent = Agent::start(&nats).await;
    leader.publish("bad-bot", 1, "v1", &blocking("1")).await;
    leader.checkpoint().await;
    leader.is_settled().await;
    let resyncs = async || {
        let metrics = agent.side("/metrics").await.unwrap().body;
        let line = metrics.lines().find(|line| line.starts_with("portcullis_agent_resyncs_total")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = resyncs().await;
    nats.write((0..1000).map(|n| format!("policy.shop.r{}", n % 10))).await;
    leader.publish("bad-bot", 2, "v2", &blocking("2")).await;
    leader.is_settled().await;
    assert_eq!(agent.get().await.unwrap().body, "v2");
    assert_eq!(resyncs().await, before);
    // Also when it is read rather than heard.
    let later = Agent::start(&nats).await;
    leader.checkpoint().await;
    later.is_ready().await;
    assert_eq!(later.get().await.unwrap().body, "v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_deleted_while_the_agent_was_away_goes_when_it_is_back() {
    let nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    let mut agent = Agent::start(&nats).await;
    leader.publish("bad-bot", 1, "v1", &blocking("1")).await;
    leader.checkpoint().await;
    leader.is_settled().await;
    agent.is_ready().await;
    agent.kill();
    leader.delete("bad-bot").await;
    agent.resume();
    leader.is_settled().await;
    assert_eq!(agent.get().await.unwrap().body, "upstream");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_that_was_damaged_is_no_reason_not_to_start() {
    let nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    let mut agent = Agent::start(&nats).await;
    leader.publish("bad-bot", 1, "v1", &blocking("1")).await;
    leader.checkpoint().await;
    leader.is_settled().await;
    agent.is_ready().await;
    agent.kill();
    std::fs::write(agent.state_dir().join("last-known-good"), "rubbish").unwrap();
    for module in std::fs::read_dir(agent.state_dir().join("modules")).unwrap() {
        std::fs::write(module.unwrap().path(), "rubbish").unwrap();
    }
    agent.resume();
    leader.is_settled().await;
    assert_eq!(agent.get().await.unwrap().body, "v1");
    assert!(agent.log().contains("starting without the last known good rules"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_readiness_and_then_the_process_without_an_error() {
    let nats = NatsServer::start().await;
    let leader = Leader::start(&nats).await;
    leader.checkpoint().await;
    let mut agent = Agent::start_with(&nats, &[]).await;
    agent.is_ready().await;
    let status = agent.terminate().await;
    assert!(status.success(), "{status}");
    assert!(agent.log().contains("drained"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_a_module_gets_no_traffic_before_it_has_it_again() {
    let mut nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    let mut agent = Agent::start(&nats).await;
    leader.publish("bad-bot", 1, "v1", &blocking("1")).await;
    leader.checkpoint().await;
    leader.is_settled().await;
    agent.is_ready().await;
    nats.stop();
    agent.kill();
    std::fs::remove_dir_all(agent.state_dir().join("modules")).unwrap();
    agent.resume();
    // The proxy answers, but the rule has nothing to run.
    agent.answers(200, "upstream").await;
    assert_eq!(agent.side("/readyz").await.unwrap().status, 503);
    nats.resume().await;
    agent.is_ready().await;
    assert_eq!(agent.get().await.unwrap().body, "v1");
}
