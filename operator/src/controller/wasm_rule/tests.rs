//! Whole reconciliations.

mod bus;
mod fleet_change;
mod quota;
mod world;

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use kube::runtime::watcher::Event;
use portcullis_artifact::testing::TestRegistry;
use portcullis_crds::bus::DesiredRule;
use portcullis_crds::status::EnforcedRevision;
use portcullis_crds::{Revision, RuleKey};
use serde_json::json;

use super::*;
use crate::object::rule_subject;
use world::{ALLOWS, BLOCKS, LOOPS, World, conditions, message};

const U1: Object<'_> = Object { uid: "u1", generation: 1 };

fn enforced_of(rule: &DesiredRule) -> EnforcedRevision {
    EnforcedRevision {
        revision: Revision::of(&rule.stable).to_string(),
        module_digest: rule.stable.module.digest.to_string(),
    }
}

#[tokio::test]
async fn a_rule_is_ready_when_the_agents_say_that_they_run_it() {
    let world = World::new().await;
    world.push("1", ALLOWS).await;
    world.apply(1, "1", None);
    let published = world.reconcile().await;
    assert_eq!(
        &conditions(&published)[3..],
        ["Programmed=True/Published", "Ready=False/Progressing", "Reconciling=True/Progressing"]
    );
    let (rule, _) = world.on_the_bus().await;
    assert_eq!(rule.key, RuleKey::namespaced("shop", "bots"));

    world.agent_reports();
    let ready = world.reconcile().await;
    assert_eq!(conditions(&ready).last().unwrap(), "Ready=True/Active");
    let status = ready.status.unwrap();
    assert_eq!(status.stable_revision, Some(Revision::of(&rule.stable).to_string()));
    assert_eq!(status.enforced, Some(enforced_of(&rule)));
    assert_eq!(status.nodes.unwrap().summary, "1/1");
    assert!(status.last_report_time.is_some());
    assert_eq!(*world.api.events.lock().unwrap(), ["Resolved", "Published", "Ready"]);
}

#[tokio::test]
async fn a_generation_that_cannot_be_carried_out_leaves_the_last_good_one_enforced() {
    let world = World::new().await;
    world.push("1", BLOCKS).await;
    world.push("2", LOOPS).await;
    world.apply(1, "1", None);
    world.reconcile().await;
    world.agent_reports();
    world.reconcile().await;
    let good = world.on_the_bus().await;

    world.apply(2, "2", None);
    let broken = world.reconcile().await;
    assert_eq!(
        conditions(&broken),
        [
            "Accepted=True/Valid",
            "Resolved=True/DigestResolved",
            "Verified=Unknown/SignatureNotChecked",
            "Programmed=False/ProbeFailed",
            "Ready=Unknown/ProbeFailed",
            "Stalled=True/ProbeFailed",
        ]
    );
    assert!(
        message(&broken, "Ready").ends_with("stays enforced on 1/1 nodes"),
        "{}",
        message(&broken, "Ready")
    );

    world.apply(3, "absent", None);
    let missing = world.reconcile().await;
    assert_eq!(&conditions(&missing)[1..3], ["Resolved=False/NotFound", "Verified=Unknown/NotFound"]);
    assert_eq!(world.on_the_bus().await, good);
    let status = missing.status.unwrap();
    assert_eq!(status.stable_revision, Some(Revision::of(&good.0.stable).to_string()));
    assert_eq!((status.enforced, status.candidate_revision), (Some(enforced_of(&good.0)), None));
    assert_eq!(status.observed_generation, 3);
}

#[tokio::test]
async fn an_object_that_is_gone_by_the_time_its_module_is_here_is_not_published() {
    let world = World::new().await;
    world.push("1", ALLOWS).await;
    world.apply(1, "1", None);
    let object = Arc::new(world.rule());
    world.watch(Event::Delete);
    reconcile(object, world.ctx.clone()).await.unwrap();
    assert_eq!(
        world.ctx.publisher.view(|state| state.get(&rule_subject(&world.rule())).is_none()),
        Some(true)
    );
    assert!(world.ctx.progress.look(U1, |_| ()).is_none(), "nothing is remembered of it");
}

#[tokio::test]
async fn a_configuration_that_the_module_cannot_take_is_refused_before_nodes_are_asked() {
    let world = World::new().await;
    world.push("1", ALLOWS).await;
    let large = "x".repeat(65_536);
    for (generation, field, value, reason) in [
        (1, "config", json!({"deny": ["sqlmap"]}), "ConfigInvalid"),
        (2, "config", json!({"deny": [large]}), "ConfigInvalid"),
    ] {
        world.apply(generation, "1", None);
        world.api.rule.lock().unwrap()["spec"][field] = value;
        let refused = world.reconcile().await;
        assert_eq!(conditions(&refused)[3], format!("Programmed=False/{reason}"));
        assert_eq!(conditions(&refused)[5], format!("Stalled=True/{reason}"));
    }
    world.apply(3, "1", None);
    assert_eq!(conditions(&world.reconcile().await)[3], "Programmed=True/Published");
    let status = world.rule().status.unwrap();
    assert_eq!((status.resolved.unwrap().abi, world.on_the_bus().await.0.stable.abi), (1, 1));
}

#[tokio::test]
async fn a_moved_tag_changes_nothing_until_the_spec_does() {
    let mut world = World::new().await;
    world.push("1", ALLOWS).await;
    world.apply(1, "1", None);
    world.reconcile().await;
    let before = world.on_the_bus().await;

    world.push("1", BLOCKS).await;
    world.reconcile().await;
    world.new_leader().await;
    world.reconcile().await;
    assert_eq!(world.on_the_bus().await, before);

    world.apply(2, "1", None);
    world.reconcile().await;
    assert_ne!(world.on_the_bus().await.0.stable.module.digest, before.0.stable.module.digest);
}

#[tokio::test]
async fn a_rule_is_disabled_while_the_registry_is_away() {
    let mut world = World::new().await;
    world.push("1", ALLOWS).await;
    world.apply(1, "1", None);
    world.reconcile().await;
    world.registry = TestRegistry::start();
    world.new_leader().await;
    {
        let mut rule = world.api.rule.lock().unwrap();
        rule["metadata"]["generation"] = 2.into();
        rule["spec"]["mode"] = "Disabled".into();
    }
    let disabled = world.reconcile().await;
    assert_eq!(world.on_the_bus().await.0.stable.mode, portcullis_crds::wasm_rule::Mode::Disabled);
    assert_eq!(conditions(&disabled)[3], "Programmed=True/Published");
}

#[tokio::test]
async fn a_registry_that_is_away_is_asked_again_and_says_so() {
    let world = World::new().await;
    world.apply(1, "1", None);
    {
        let mut rule = world.api.rule.lock().unwrap();
        // Nothing listens on port 1.
        rule["spec"]["source"]["oci"]["reference"] = "localhost:1/rules/bots:1".into();
    }
    let unreachable = world.reconcile().await;
    assert_eq!(conditions(&unreachable)[1], "Resolved=False/RegistryUnreachable");
    assert_eq!(conditions(&unreachable)[5], "Reconciling=True/RegistryUnreachable");
}

#[tokio::test]
async fn an_object_that_is_gone_when_its_turn_at_the_registry_comes_asks_for_nothing() {
    let world = World::new().await;
    // It is in no registry: whoever asks is told so.
    world.apply(1, "absent", None);
    world.watch(Event::Apply);
    let before = world.rule();
    let turn = world.ctx.registries.turn("other", 1, || true).await.unwrap();
    let mut under_way = pin!(reconcile(Arc::new(world.rule()), world.ctx.clone()));
    let waits = poll_fn(|cx| Poll::Ready(under_way.as_mut().poll(cx).is_pending())).await;
    assert!(waits, "another namespace has the turn");
    world.watch(Event::Delete);
    drop(turn);
    under_way.await.unwrap();
    assert_eq!(world.rule(), before, "nothing was found, and nothing is said");
    assert!(world.ctx.progress.look(U1, |_| ()).is_none());
}
