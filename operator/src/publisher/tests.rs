//! Against a real nats-server.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use portcullis_bus::testing::NatsServer;
use portcullis_crds::bus::{Desired, Envelope, ModuleRef, SCHEMA};
use portcullis_crds::{ByteSize, ModuleDigest, Revision, RuleKey};
use tokio::time::Instant;

use super::*;
use crate::published_state::tests::{rule, subject};
use crate::quota::tests::generous;
use crate::unused_modules::GRACE;

const WASM: &[u8] = b"\0asm stands for any bytes";
const OBJECT: Object<'_> = Object { uid: "u1", generation: 1 };

fn publisher(server: &NatsServer, holder: &str) -> Publisher {
    bounded(server, holder, StreamBounds::default())
}

fn bounded(server: &NatsServer, holder: &str, bounds: StreamBounds) -> Publisher {
    Publisher::start(server.operator_options(), bounds, holder, Validity::for_a_test(true))
}

fn wanted(name: &str, wasm: &[u8]) -> DesiredRule {
    let module =
        ModuleRef { digest: ModuleDigest::of(wasm), size: wasm.len() as u64, ..rule(name).stable.module };
    let mut rule = rule(name);
    rule.stable.module = module;
    rule
}

async fn put(publisher: &Publisher, name: &str) -> Result<Entry, WriteError> {
    put_made_of(publisher, name, WASM).await
}

async fn put_made_of(publisher: &Publisher, name: &str, wasm: &'static [u8]) -> Result<Entry, WriteError> {
    let put = publisher
        .put_rule(OBJECT, wanted(name, wasm), &Bytes::from_static(wasm), || true, &generous())
        .await?;
    Ok(put.expect("the object exists"))
}

fn key(name: &str) -> RuleKey {
    RuleKey::namespaced("shop", name)
}

/// Repeats what may fail while the bus comes back.
async fn eventually<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    mut attempt: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "not within 30 s: {error}"),
        }
        tokio::task::yield_now().await;
    }
}

async fn has_happened(event: impl Future<Output = ()>) -> bool {
    let mut event = pin!(event);
    poll_fn(|cx| Poll::Ready(event.as_mut().poll(cx).is_ready())).await
}

#[tokio::test]
async fn a_new_leader_takes_over_what_is_there_and_the_old_one_writes_nothing_more() {
    let server = NatsServer::start().await;
    let (old, new) = (publisher(&server, "old"), publisher(&server, "new"));
    old.take_over().await.unwrap();
    let entry = put(&old, "a").await.unwrap();

    new.take_over().await.unwrap();
    assert_eq!(new.view(|state| state.get(&subject("a")).cloned()), Some(Some(entry)));

    let refused = [
        put(&old, "b").await.err(),
        old.checkpoint(Gaps::default()).await.err(),
        old.delete(&Orphan { subject: subject("a"), uid: Some("u1".into()) }).await.err(),
    ];
    for error in refused {
        assert!(matches!(error, Some(WriteError::Deposed(_))), "{error:?}");
    }
    assert!(has_happened(old.deposed()).await);
    put(&new, "b").await.unwrap();
    let checkpoint = new.checkpoint(Gaps::default()).await.unwrap();
    assert_eq!((checkpoint.count, checkpoint.epoch), (2, 2));
}

#[tokio::test]
async fn a_leader_without_a_valid_lease_writes_nothing() {
    let server = NatsServer::start().await;
    let leader = publisher(&server, "a");
    leader.take_over().await.unwrap();
    put(&leader, "a").await.unwrap();
    let thawed = leader;
    thawed.validity.end();
    assert!(matches!(put(&thawed, "b").await, Err(WriteError::LeaseOver)));
    assert!(matches!(thawed.checkpoint(Gaps::default()).await, Err(WriteError::LeaseOver)));
    assert!(matches!(thawed.take_over().await, Err(TakeOverError::LeaseOver)));
}

#[tokio::test]
async fn a_wiped_stream_is_noticed_taken_anew_and_filled_again() {
    let mut server = NatsServer::start().await;
    let leader = publisher(&server, "a");
    leader.take_over().await.unwrap();
    put(&leader, "a").await.unwrap();
    server.stop();
    server.wipe();
    server.resume().await;

    eventually(|| leader.confirm_stream()).await;
    assert!(leader.view(|_| ()).is_none(), "what was known of the old stream is not used");
    assert!(has_happened(leader.outdated()).await);
    eventually(|| leader.take_over()).await;
    assert_eq!(leader.view(|state| state.get(&subject("a")).is_some()), Some(false));
    assert!(!has_happened(leader.deposed()).await, "nobody else leads");

    let lost = leader.take_lost().await;
    assert_eq!(lost.iter().map(|entry| &entry.rule().unwrap().key).collect::<Vec<_>>(), [&key("a")]);
    let wasm = Bytes::from_static(WASM);
    let object = Object { uid: &lost[0].uid, generation: lost[0].generation };
    let put_back = async |exists| {
        leader.put_back_rule(object, lost[0].rule().unwrap().clone(), &wasm, move || exists).await.unwrap()
    };
    assert!(!put_back(false).await, "what is gone is not put back");
    assert!(put_back(true).await);
    assert!(!put_back(true).await, "what is there already is not written over");
    assert_eq!(leader.checkpoint(Gaps::default()).await.unwrap().count, 1);
    assert!(leader.take_lost().await.is_empty());
}

#[tokio::test]
async fn after_an_outage_what_is_on_the_bus_is_read_before_the_next_write() {
    let mut server = NatsServer::start().await;
    let leader = publisher(&server, "a");
    let bus = leader.take_over().await.unwrap();
    let entry = put(&leader, "a").await.unwrap();
    let mut connection = bus.connected();
    server.stop();
    connection.wait_for(|c| !c.up).await.unwrap();
    assert!(matches!(put(&leader, "b").await, Err(WriteError::Unavailable(_))));
    assert_eq!(leader.view(|state| state.get(&subject("a")).cloned()), Some(Some(entry.clone())));
    server.resume().await;
    eventually(|| leader.take_over()).await;
    assert_eq!(leader.view(|state| state.get(&subject("a")).cloned()), Some(Some(entry)));
    assert!(put(&leader, "b").await.unwrap().sequence > 0);
}

#[tokio::test]
async fn a_buried_rule_is_gone_for_the_next_leader() {
    let server = NatsServer::start().await;
    let leader = publisher(&server, "a");
    leader.take_over().await.unwrap();
    put(&leader, "a").await.unwrap();
    let orphan = Orphan { subject: subject("a"), uid: Some("u1".into()) };
    assert!(leader.delete(&orphan).await.unwrap());
    assert!(!leader.delete(&orphan).await.unwrap(), "there is nothing left to delete");
    let next = publisher(&server, "b");
    next.take_over().await.unwrap();
    assert_eq!(next.checkpoint(Gaps::default()).await.unwrap().count, 0);
}

#[tokio::test]
async fn a_module_comes_from_the_bus_only_for_the_object_that_it_was_put_there_for() {
    let server = NatsServer::start().await;
    let leader = publisher(&server, "a");
    leader.take_over().await.unwrap();
    put(&leader, "a").await.unwrap();
    let digest = ModuleDigest::of(WASM);
    assert_eq!(leader.fetch_module(&key("a"), "u1", &digest).await.as_deref(), Some(WASM));
    assert!(leader.fetch_module(&key("a"), "u2", &digest).await.is_none());
    assert!(leader.fetch_module(&key("b"), "u1", &digest).await.is_none());
}

#[tokio::test]
async fn a_module_is_taken_off_the_bus_once_no_rule_has_named_it_for_a_while() {
    const SHARED: &[u8] = b"named by two rules";
    const NEXT: &[u8] = b"the next version";
    let server = NatsServer::start().await;
    let leader = publisher(&server, "a");
    let now = Instant::now();
    assert_eq!(leader.remove_unused_modules(now).await.unwrap(), 0, "what the bus has is not known");
    let bus = leader.take_over().await.unwrap();
    for (name, wasm) in [("a", WASM), ("b", SHARED), ("c", SHARED), ("c", NEXT), ("a", NEXT)] {
        put_made_of(&leader, name, wasm).await.unwrap();
    }

    for early in [now, now + GRACE - Duration::from_millis(1)] {
        assert_eq!(leader.remove_unused_modules(early).await.unwrap(), 0);
    }
    assert_eq!(leader.remove_unused_modules(now + GRACE).await.unwrap(), 1);
    assert_eq!(bus.modules().await.unwrap(), [SHARED, NEXT].map(ModuleDigest::of).into());

    put(&leader, "a").await.unwrap();
    assert!(
        bus.fetch_module(&wanted("a", WASM).stable.module).await.is_ok(),
        "a rule that goes back brings it along"
    );
    for later in [now + 2 * GRACE, now + 3 * GRACE] {
        assert_eq!(leader.remove_unused_modules(later).await.unwrap(), 0, "all are in use");
    }
    for (name, module) in [("a", WASM), ("b", SHARED), ("c", NEXT)] {
        assert!(bus.fetch_module(&wanted(name, module).stable.module).await.is_ok(), "{name}");
    }
}

fn of_namespace(namespace: &str, name: &str, wasm: &[u8]) -> DesiredRule {
    DesiredRule { key: RuleKey::namespaced(namespace, name), ..wanted(name, wasm) }
}

#[tokio::test]
async fn a_namespace_with_many_modules_to_write_lets_another_one_go_next() {
    let server = NatsServer::start().await;
    let leader = publisher(&server, "a");
    leader.take_over().await.unwrap();
    let quota = generous();
    let put = async |namespace: &str, name: u8| {
        let wasm = Bytes::from(vec![name; 300_000]);
        let rule = of_namespace(namespace, &name.to_string(), &wasm);
        leader
            .put_rule(OBJECT, rule, &wasm, || true, &quota)
            .await
            .unwrap()
            .expect("the object exists")
            .sequence
    };
    let many = (1..=10).map(|name| put("many", name));
    let (many, one) = futures::join!(futures::future::join_all(many), put("one", 0));
    let before = many.iter().filter(|sequence| **sequence < one).count();
    assert_eq!(before, 1, "only what was under way: {many:?} and {one}");
}

#[tokio::test]
async fn a_checkpoint_does_not_wait_for_a_module() {
    let server = NatsServer::start().await;
    let leader = publisher(&server, "a");
    let bus = leader.take_over().await.unwrap();
    let (wasm, quota) = (Bytes::from(vec![1; 4 << 20]), generous());
    let mut put = pin!(leader.put_rule(OBJECT, wanted("a", &wasm), &wasm, || true, &quota));
    // The module begins first, and has 32 chunks.
    let checkpoint = tokio::select! {
        biased;
        _ = &mut put => panic!("the checkpoint waited"),
        checkpoint = leader.checkpoint(Gaps::default()) => checkpoint.unwrap(),
    };
    assert_eq!(checkpoint.count, 0);
    // Nobody polls the write meanwhile.
    assert!(
        bus.fetch_module(&wanted("a", &wasm).stable.module).await.is_err(),
        "the module is still on its way"
    );
    put.await.unwrap();
    assert_eq!(leader.checkpoint(Gaps::default()).await.unwrap().count, 1);
}

#[tokio::test]
async fn a_module_that_found_no_room_does_not_count() {
    let server = NatsServer::start().await;
    let leader = bounded(&server, "a", StreamBounds { modules: 1 << 20, ..StreamBounds::default() });
    leader.take_over().await.unwrap();
    let large = Bytes::from(vec![1; 2 << 20]);
    let quota = Quota { module_bytes: ByteSize::mib(2), ..generous() };
    let refused = leader.put_rule(OBJECT, wanted("a", &large), &large, || true, &quota).await;
    assert!(matches!(refused, Err(WriteError::Full(_))), "{refused:?}");
    put(&leader, "b").await.unwrap();
    let small = Bytes::from(vec![2; 900_000]);
    leader.put_rule(OBJECT, wanted("c", &small), &small, || true, &quota).await.unwrap();
}

#[tokio::test]
async fn a_message_that_cannot_be_read_keeps_only_the_modules_that_it_names() {
    let server = NatsServer::start().await;
    let leader = publisher(&server, "a");
    let bus = leader.take_over().await.unwrap();
    let (named, unnamed) = (b"\0asm named".as_slice(), b"\0asm unnamed".as_slice());
    for wasm in [named, unnamed] {
        bus.publish_module(&ModuleDigest::of(wasm), &Bytes::copy_from_slice(wasm), "shop").await.unwrap();
    }
    let term = bus.take_term("a later version").await.unwrap();
    let rule = wanted("b", named);
    let later = Envelope {
        schema: SCHEMA + 1,
        cluster: bus.cluster().to_owned(),
        uid: "u2".into(),
        generation: 1,
        revision: Revision::of(&rule.stable),
        epoch: term.epoch,
        requires: vec![],
        expires: None,
        payload: Desired::Rule(rule),
    };
    bus.publish_desired(&term, &later).await.unwrap();

    let leader = publisher(&server, "b");
    leader.take_over().await.unwrap();
    let now = Instant::now();
    assert_eq!(leader.remove_unused_modules(now).await.unwrap(), 0);
    assert_eq!(leader.remove_unused_modules(now + GRACE).await.unwrap(), 1);
    assert_eq!(bus.modules().await.unwrap(), BTreeSet::from([ModuleDigest::of(named)]));
}

#[tokio::test]
async fn a_module_is_removed_only_by_who_leads() {
    let server = NatsServer::start().await;
    let (old, new) = (publisher(&server, "old"), publisher(&server, "new"));
    old.take_over().await.unwrap();
    put(&old, "a").await.unwrap();
    put_made_of(&old, "a", b"the next version").await.unwrap();
    let now = Instant::now();
    assert_eq!(old.remove_unused_modules(now).await.unwrap(), 0);

    let bus = new.take_over().await.unwrap();
    put(&new, "a").await.unwrap();
    let refused = old.remove_unused_modules(now + GRACE).await;
    assert!(matches!(refused, Err(WriteError::Deposed(_))), "{refused:?}");
    let thawed = old;
    thawed.validity.end();
    let refused = thawed.remove_unused_modules(now + GRACE).await;
    assert!(matches!(refused, Err(WriteError::LeaseOver)), "{refused:?}");
    assert!(bus.fetch_module(&wanted("a", WASM).stable.module).await.is_ok());
}
