//! What a rule is told when the bus is away or wiped, or another operator leads.

use portcullis_bus::testing::NatsServer;
use portcullis_crds::bus::{Exception, ExceptionState, Kept, Report};

use super::world::{Holds, context};
use super::*;
use crate::fleet::tests::report;

#[tokio::test]
async fn after_a_wipe_a_broken_generation_says_who_still_keeps_the_last_good_one() {
    let mut world = World::new().await;
    world.push("1", BLOCKS).await;
    world.push("2", LOOPS).await;
    world.apply(1, "1", None);
    world.reconcile().await;
    world.agent_reports();
    world.reconcile().await;
    let (good, _) = world.on_the_bus().await;
    world.apply(2, "2", None);
    world.reconcile().await;

    // NATS and the leader are gone together: nothing on the bus, nothing remembered.
    world.nats = NatsServer::start().await;
    world.new_leader().await;
    world.agent_reports();
    let alone = world.reconcile().await;
    let stays = |n| format!("revision {} stays enforced on {n}/1 nodes", Revision::of(&good.stable));
    assert!(message(&alone, "Ready").ends_with(&stays(0)), "{}", message(&alone, "Ready"));
    assert_eq!(alone.status.unwrap().nodes.unwrap().summary, "0/1");

    let (stream, set) =
        world.ctx.publisher.view(|state| (state.stream().to_string(), state.set_hash().clone())).unwrap();
    let kept = vec![Kept { key: good.key.clone(), uid: "u1".into(), revision: Revision::of(&good.stable) }];
    let report = Report { kept, ..report("agent-1", &stream, 1, &set) };
    world.ctx.agents.receive(report, Instant::now());
    let kept = world.reconcile().await;
    assert!(message(&kept, "Ready").ends_with(&stays(1)), "{}", message(&kept, "Ready"));
    assert_eq!(kept.status.unwrap().nodes.unwrap().summary, "1/1");
}

#[tokio::test]
async fn a_new_leader_writes_and_says_nothing_that_is_there_already() {
    let mut world = World::new().await;
    world.push("1", ALLOWS).await;
    world.apply(1, "1", None);
    world.reconcile().await;
    let (_, sequence) = world.on_the_bus().await;
    world.agent_reports();
    let ready = world.reconcile().await;
    assert_eq!(conditions(&ready).last().unwrap(), "Ready=True/Active");

    world.new_leader().await;
    assert_eq!(world.reconcile().await, ready, "before the agents were heard nothing is said");
    world.agent_reports();
    assert_eq!(world.reconcile().await, ready);
    assert_eq!(world.on_the_bus().await.1, sequence);
}

#[tokio::test]
async fn a_new_leader_pulls_nothing_before_it_has_read_the_bus() {
    let mut world = World::new().await;
    world.push("1", ALLOWS).await;
    world.apply(1, "1", None);
    world.reconcile().await;
    world.agent_reports();
    let ready = world.reconcile().await;
    // Nothing of it is in this registry: a pull would say so.
    world.registry = TestRegistry::start();
    world.ctx = context(&world.nats, &world.registry, &world.api, &world.objects, Holds::LeaseOnly).await;
    assert_eq!(world.reconcile().await, ready);
    world.ctx.publisher.take_over().await.unwrap();
    assert_eq!(world.reconcile().await, ready);
}

#[tokio::test]
async fn a_status_is_not_written_over_a_newer_one_nor_without_a_lease() {
    let mut world = World::new().await;
    world.push("1", ALLOWS).await;
    world.apply(1, "1", None);
    let stale = Arc::new(world.rule());
    world.reconcile().await;
    world.agent_reports();
    let newer = world.rule();
    let refused = reconcile(stale.clone(), world.ctx.clone()).await;
    assert!(matches!(refused, Err(ReconcileError::Update(UpdateError::Conflict))), "{refused:?}");

    world.ctx = context(&world.nats, &world.registry, &world.api, &world.objects, Holds::BusOnly).await;
    world.agent_reports();
    let frozen = reconcile(Arc::new(newer.clone()), world.ctx.clone()).await;
    assert!(matches!(frozen, Err(ReconcileError::Update(UpdateError::LeaseOver))), "{frozen:?}");
    assert_eq!(world.rule(), newer);
}

#[tokio::test]
async fn nothing_is_published_while_the_bus_is_away_and_what_is_said_stays() {
    let mut world = World::new().await;
    world.push("1", ALLOWS).await;
    world.apply(1, "1", None);
    world.reconcile().await;
    world.agent_reports();
    let ready = world.reconcile().await;
    let bus = world.ctx.publisher.take_over().await.unwrap();
    let mut connection = bus.connected();
    world.nats.stop();
    connection.wait_for(|c| !c.up).await.unwrap();
    world.ctx.agents.set_bus(false, Instant::now());
    assert_eq!(world.reconcile().await, ready, "no patch for a rule with nothing to publish");

    world.push("2", BLOCKS).await;
    world.apply(2, "2", None);
    let waiting = world.reconcile().await;
    assert_eq!(
        &conditions(&waiting)[3..],
        [
            "Programmed=False/BusUnavailable",
            "Ready=Unknown/BusUnavailable",
            "Reconciling=True/BusUnavailable"
        ]
    );
}

#[tokio::test]
async fn the_module_of_a_halted_rule_is_asked_for_at_once_whoever_looked_at_the_nodes_before() {
    let world = World::new().await;
    world.push("1", BLOCKS).await;
    world.push("2", LOOPS).await;
    world.apply(1, "1", None);
    world.reconcile().await;
    let (good, _) = world.on_the_bus().await;
    world.apply(2, "2", None);
    world.reconcile().await;
    let known = world.ctx.publisher.view(|state| (state.stream().to_string(), state.last_sequence()));
    let (stream, sequence) = known.unwrap();
    let set = world.ctx.publisher.view(|state| state.set_hash().clone()).unwrap();
    let exception = Exception {
        key: good.key.clone(),
        wanted: Revision::of(&good.stable),
        active: None,
        state: ExceptionState::ModuleUnavailable,
        message: "it is not on the bus".into(),
    };
    let report = Report { exceptions: vec![exception], ..report("agent-1", &stream, sequence, &set) };
    let now = Instant::now();
    world.ctx.agents.receive(report, now);
    world.reconcile().await;

    let view = world.ctx.agents.view(now);
    assert!(world.ctx.observe(&world.rule(), &view, now).misses_module);
    let (controller, _queued) =
        Controller::new(world.ctx.clone(), Health::new(), Arc::new(CleanupQueue::new().0));
    controller.look_at_nodes(&view, now, now);
    assert!(world.ctx.progress.recall_module("u1", now), "the look has used nothing up");
}
