//! The bus against a real nats-server.

use bytes::Bytes;
use futures::StreamExt;
use portcullis_bus::testing::{CLUSTER, NatsServer};
use portcullis_bus::{BusError, FetchError, ModuleOwner, PublishError, StreamBounds, StreamError, TermError};
use portcullis_crds::RuleKey;
use portcullis_crds::bus::subject::DesiredSubject;
use portcullis_crds::bus::{
    Checkpoint, Desired, DesiredRule, Envelope, ModuleRef, RevisionSpec, SCHEMA, SetHash, Tombstone,
};
use portcullis_crds::revision::{ModuleDigest, Revision};
use portcullis_crds::wasm_rule::Mode;

fn module(bytes: &[u8]) -> ModuleRef {
    ModuleRef {
        digest: ModuleDigest::of(bytes),
        size: bytes.len() as u64,
        reference: "registry.example/rule:1".into(),
        manifest_digest: "sha256:0".into(),
    }
}

fn rule(name: &str, epoch: u64) -> Envelope<Desired> {
    let stable = RevisionSpec::with_defaults(module(b"module"), 1);
    Envelope {
        schema: SCHEMA,
        cluster: CLUSTER.into(),
        uid: format!("uid-{name}"),
        generation: 1,
        revision: Revision::of(&stable),
        epoch,
        requires: vec!["abi/1".into()],
        expires: None,
        payload: Desired::Rule(DesiredRule {
            key: RuleKey::namespaced("shop", name),
            stable,
            candidate: None,
        }),
    }
}

#[tokio::test]
async fn an_agent_hears_what_the_server_accepted_with_its_sequence() {
    let server = NatsServer::start().await;
    let (operator, agent) = (server.operator().await, server.agent().await);
    operator.ensure_streams(StreamBounds::default()).await.unwrap();
    let mut heard = agent.deployed().await.unwrap();
    let term = operator.take_term("a").await.unwrap();
    let sequence = operator.publish_desired(&term, &rule("bad.bot", 1)).await.unwrap();
    let epoch = heard.next().await.unwrap();
    assert_eq!((epoch.subject, epoch.sequence), (DesiredSubject::Epoch, term.fence));
    let written = heard.next().await.unwrap();
    assert_eq!(written.subject, DesiredSubject::Rule(RuleKey::namespaced("shop", "bad.bot")));
    assert_eq!(written.sequence, sequence);
    let read: Envelope<Desired> = Envelope::read(CLUSTER, &written.payload).unwrap();
    assert_eq!(read, rule("bad.bot", 1));
}

#[tokio::test]
async fn a_deposed_leader_writes_nothing_on_any_subject() {
    let server = NatsServer::start().await;
    let (old, new) = (server.operator().await, server.operator().await);
    old.ensure_streams(StreamBounds::default()).await.unwrap();
    let old_term = old.take_term("old").await.unwrap();
    old.publish_desired(&old_term, &rule("a", old_term.epoch)).await.unwrap();
    let new_term = new.take_term("new").await.unwrap();
    assert_eq!(new_term.epoch, old_term.epoch + 1);
    // A subject that the new leader has not touched, and one that nobody has.
    for name in ["a", "b"] {
        let refused = old.publish_desired(&old_term, &rule(name, old_term.epoch)).await;
        assert!(matches!(refused, Err(PublishError::Deposed { .. })), "{refused:?}");
    }
    let checkpoint = Checkpoint {
        schema: SCHEMA,
        cluster: CLUSTER.into(),
        stream: old.stream_id().await.unwrap().to_string(),
        epoch: old_term.epoch,
        sequence: 1,
        count: 0,
        set: SetHash::of(std::iter::empty()),
        unknown: Default::default(),
        routes: None,
    };
    let refused = old.publish_checkpoint(&old_term, &checkpoint).await;
    assert!(matches!(refused, Err(PublishError::Deposed { .. })), "{refused:?}");
    new.publish_desired(&new_term, &rule("a", new_term.epoch)).await.unwrap();
    new.publish_desired(&new_term, &rule("b", new_term.epoch)).await.unwrap();
}

#[tokio::test]
async fn a_leader_of_a_stream_that_was_wiped_writes_nothing_to_the_new_one() {
    let mut server = NatsServer::start().await;
    let (frozen, next) = (server.operator().await, server.operator().await);
    frozen.ensure_streams(StreamBounds::default()).await.unwrap();
    let old_term = frozen.take_term("frozen").await.unwrap();
    let (mut back, mut also) = (frozen.connected(), next.connected());
    server.stop();
    server.wipe();
    server.resume().await;
    back.wait_for(|c| c.up && c.generation > 1).await.unwrap();
    also.wait_for(|c| c.up && c.generation > 1).await.unwrap();
    next.ensure_streams(StreamBounds::default()).await.unwrap();
    let new_term = next.take_term("next").await.unwrap();
    assert_eq!(new_term.epoch, old_term.epoch, "epochs start over, so they tell the two apart nowhere");
    let refused = frozen.publish_desired(&old_term, &rule("a", old_term.epoch)).await;
    assert!(matches!(refused, Err(PublishError::Deposed { .. })), "{refused:?}");
}

#[tokio::test]
async fn of_two_operators_only_one_takes_an_epoch() {
    let server = NatsServer::start().await;
    let (a, b) = (server.operator().await, server.operator().await);
    a.ensure_streams(StreamBounds::default()).await.unwrap();
    let (one, other) = tokio::join!(a.take_term("a"), b.take_term("b"));
    match (one, other) {
        (Ok(x), Ok(y)) => assert_ne!(x.epoch, y.epoch, "both may succeed only one after the other"),
        (Err(TermError::Lost), Ok(_)) | (Ok(_), Err(TermError::Lost)) => {}
        unexpected => panic!("{unexpected:?}"),
    }
}

#[tokio::test]
async fn a_complete_read_returns_every_subject_once_across_batches() {
    let server = NatsServer::start().await;
    let (operator, agent) = (server.operator().await, server.agent().await);
    operator.ensure_streams(StreamBounds::default()).await.unwrap();
    assert!(
        agent.read_all().await.unwrap().messages.is_empty(),
        "an empty stream is an empty read, not an error"
    );
    let term = operator.take_term("a").await.unwrap();
    let mut last = 0;
    // More than two batches, every third one written twice.
    for i in 0..600 {
        for _ in 0..=u32::from(i % 3 == 0) {
            last = operator.publish_desired(&term, &rule(&format!("r{i}"), 1)).await.unwrap();
        }
    }
    let snapshot = agent.read_all().await.unwrap();
    assert_eq!(snapshot.messages.len(), 601, "600 rules and the epoch");
    assert!(snapshot.messages.is_sorted_by_key(|m| m.sequence));
    assert_eq!(snapshot.last_sequence, last);
    assert_eq!(snapshot.stream, operator.stream_id().await.unwrap());
}

#[tokio::test]
async fn a_tombstone_takes_the_place_of_the_rule() {
    let server = NatsServer::start().await;
    let (operator, agent) = (server.operator().await, server.agent().await);
    operator.ensure_streams(StreamBounds::default()).await.unwrap();
    let term = operator.take_term("a").await.unwrap();
    operator.publish_desired(&term, &rule("a", 1)).await.unwrap();
    let key = RuleKey::namespaced("shop", "a");
    let tombstone = Envelope { payload: Desired::Tombstone(Tombstone { key }), ..rule("a", 1) };
    operator.publish_desired(&term, &tombstone).await.unwrap();
    let snapshot = agent.read_all().await.unwrap();
    assert_eq!(snapshot.messages.len(), 2);
    let read: Envelope<Desired> = Envelope::read(CLUSTER, &snapshot.messages[1].payload).unwrap();
    assert!(matches!(read.payload, Desired::Tombstone(_)));
}

#[tokio::test]
async fn a_module_travels_in_chunks_and_comes_back_by_its_digest() {
    let server = NatsServer::start().await;
    let (operator, agent) = (server.operator().await, server.agent().await);
    operator.ensure_streams(StreamBounds::default()).await.unwrap();
    let bytes: Bytes = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let reference = module(&bytes);
    let missing = agent.fetch_module(&reference).await;
    assert!(matches!(missing, Err(FetchError::Incomplete { found: 0, .. })), "{missing:?}");
    operator.publish_module(&reference.digest, &bytes, "shop").await.unwrap();
    operator.publish_module(&reference.digest, &bytes, "shop").await.unwrap();
    assert_eq!(agent.fetch_module(&reference).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_module_that_is_removed_is_gone_and_can_be_published_again() {
    let server = NatsServer::start().await;
    let operator = server.operator().await;
    operator.ensure_streams(StreamBounds::default()).await.unwrap();
    assert!(operator.modules().await.unwrap().is_empty());
    let term = operator.take_term("a").await.unwrap();
    let large = Bytes::from(vec![1; 300_000]);
    let (first, second) = (module(&large), module(b"second"));
    operator.publish_module(&first.digest, &large, "shop").await.unwrap();
    operator.publish_module(&second.digest, &Bytes::from_static(b"second"), "shop").await.unwrap();
    assert_eq!(operator.modules().await.unwrap(), [first.digest.clone(), second.digest.clone()].into());

    operator.remove_module(&term, &first.digest).await.unwrap();
    assert_eq!(operator.modules().await.unwrap(), [second.digest.clone()].into());
    let missing = operator.fetch_module(&first).await;
    assert!(matches!(missing, Err(FetchError::Incomplete { found: 0, .. })), "{missing:?}");
    assert_eq!(operator.fetch_module(&second).await.unwrap().as_ref(), b"second");

    operator.publish_module(&first.digest, &large, "shop").await.unwrap();
    assert_eq!(operator.fetch_module(&first).await.unwrap(), large);
}

#[tokio::test]
async fn a_deposed_leader_removes_no_module() {
    let server = NatsServer::start().await;
    let (old, new) = (server.operator().await, server.operator().await);
    old.ensure_streams(StreamBounds::default()).await.unwrap();
    let old_term = old.take_term("old").await.unwrap();
    let reference = module(b"module");
    old.publish_module(&reference.digest, &Bytes::from_static(b"module"), "shop").await.unwrap();
    new.take_term("new").await.unwrap();
    let refused = old.remove_module(&old_term, &reference.digest).await;
    assert!(matches!(refused, Err(PublishError::Deposed { .. })), "{refused:?}");
    assert!(new.fetch_module(&reference).await.is_ok());
}

#[tokio::test]
async fn an_agent_can_write_neither_desired_state_nor_modules() {
    let server = NatsServer::start().await;
    let (operator, agent) = (server.operator().await, server.agent().await);
    operator.ensure_streams(StreamBounds::default()).await.unwrap();
    let term = operator.take_term("a").await.unwrap();
    assert!(agent.publish_desired(&term, &rule("a", 1)).await.is_err());
    let bytes = Bytes::from_static(b"module");
    assert!(agent.publish_module(&ModuleDigest::of(&bytes), &bytes, "shop").await.is_err());
    assert_eq!(operator.read_all().await.unwrap().messages.len(), 1, "the epoch alone");
}

#[tokio::test]
async fn a_stream_of_another_cluster_is_refused() {
    let server = NatsServer::start().await;
    server.operator().await.ensure_streams(StreamBounds::default()).await.unwrap();
    let mut options = server.operator_options();
    options.cluster = "another".into();
    let other = portcullis_bus::connect(&options).await.unwrap();
    let refused = other.ensure_streams(StreamBounds::default()).await;
    assert!(matches!(refused, Err(StreamError::OtherCluster { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_wiped_server_has_a_stream_with_another_identity() {
    let mut server = NatsServer::start().await;
    let operator = server.operator().await;
    let before = operator.ensure_streams(StreamBounds::default()).await.unwrap();
    let mut connection = operator.connected();
    server.stop();
    server.wipe();
    server.resume().await;
    connection.wait_for(|c| c.up && c.generation > 1).await.unwrap();
    assert_ne!(operator.ensure_streams(StreamBounds::default()).await.unwrap(), before);
}

/// A module of this many bytes, all the same.
fn filled(with: u8, size: usize) -> (ModuleRef, Bytes) {
    let bytes = Bytes::from(vec![with; size]);
    (module(&bytes), bytes)
}

fn is_full<T>(refused: &Result<T, PublishError>) -> bool {
    matches!(refused, Err(PublishError::Bus(BusError::Full { .. })))
}

#[tokio::test]
async fn a_full_stream_refuses_a_module_as_a_whole_and_drops_nothing() {
    let server = NatsServer::start().await;
    let operator = server.operator().await;
    let bounds = StreamBounds { modules: 1 << 20, ..StreamBounds::default() };
    operator.ensure_streams(bounds).await.unwrap();
    let term = operator.take_term("a").await.unwrap();
    let ((first, first_bytes), (second, second_bytes)) = (filled(1, 600_000), filled(2, 600_000));
    operator.publish_module(&first.digest, &first_bytes, "shop").await.unwrap();
    let refused = operator.publish_module(&second.digest, &second_bytes, "shop").await;
    assert!(is_full(&refused), "{refused:?}");
    assert_eq!(operator.modules().await.unwrap(), [first.digest.clone()].into(), "nor a part of it");
    assert_eq!(operator.fetch_module(&first).await.unwrap(), first_bytes);

    let (small, small_bytes) = filled(3, 300_000);
    operator.publish_module(&small.digest, &small_bytes, "shop").await.unwrap();
    operator.remove_module(&term, &first.digest).await.unwrap();
    operator.publish_module(&second.digest, &second_bytes, "shop").await.unwrap();
    assert_eq!(operator.fetch_module(&second).await.unwrap(), second_bytes);
}

#[tokio::test]
async fn of_two_modules_that_fit_only_one_by_one_the_server_refuses_one() {
    let server = NatsServer::start().await;
    let operator = server.operator().await;
    let bounds = StreamBounds { modules: 2 << 20, ..StreamBounds::default() };
    operator.ensure_streams(bounds).await.unwrap();
    let (one, other) = (filled(1, 1_500_000), filled(2, 1_500_000));
    let (one, other) = tokio::join!(
        operator.publish_module(&one.0.digest, &one.1, "shop"),
        operator.publish_module(&other.0.digest, &other.1, "bank"),
    );
    assert!(is_full(&one) || is_full(&other), "{one:?} {other:?}");
    assert!([one, other].iter().all(|written| written.is_ok() || is_full(written)), "it is no outage");
}

#[tokio::test]
async fn rules_leave_room_for_the_next_leader_for_changes_and_for_tombstones() {
    let server = NatsServer::start().await;
    let (operator, next) = (server.operator().await, server.operator().await);
    let bounds = StreamBounds { desired: 4 << 20, ..StreamBounds::default() };
    operator.ensure_streams(bounds).await.unwrap();
    let term = operator.take_term("a").await.unwrap();
    let large = |name: &str, mode: Mode| {
        let mut envelope = rule(name, 1);
        let Desired::Rule(rule) = &mut envelope.payload else { unreachable!("a rule") };
        rule.stable.module.reference = "x".repeat(100_000);
        rule.stable.mode = mode;
        envelope
    };
    let mut written = 0;
    let refused = loop {
        match operator.publish_desired(&term, &large(&format!("r{written}"), Mode::Enforce)).await {
            Ok(_) => written += 1,
            refused => break refused,
        }
    };
    assert!(is_full(&refused), "{refused:?}");
    assert!(written > 10, "only {written}");
    assert_eq!(operator.read_all().await.unwrap().messages.len(), written + 1, "all of them and the epoch");

    operator.publish_desired(&term, &large("r0", Mode::Disabled)).await.unwrap();
    let term = next.take_term("next").await.unwrap();
    let checkpoint = Checkpoint {
        schema: SCHEMA,
        cluster: CLUSTER.into(),
        stream: next.stream_id().await.unwrap().to_string(),
        epoch: term.epoch,
        sequence: 1,
        count: written as u64,
        set: SetHash::of(std::iter::empty()),
        unknown: Default::default(),
        routes: None,
    };
    next.publish_checkpoint(&term, &checkpoint).await.unwrap();
    let key = RuleKey::namespaced("shop", "r1");
    let tombstone = Envelope { payload: Desired::Tombstone(Tombstone { key }), ..rule("r1", term.epoch) };
    next.publish_desired(&term, &tombstone).await.unwrap();
    next.publish_desired(&term, &large("another", Mode::Enforce)).await.unwrap();
}

#[tokio::test]
async fn a_module_says_for_whom_it_was_put_on_the_bus() {
    let server = NatsServer::start().await;
    let operator = server.operator().await;
    operator.ensure_streams(StreamBounds::default()).await.unwrap();
    let (reference, bytes) = filled(1, 300_000);
    assert_eq!(operator.module_owner(&reference.digest).await.unwrap(), None);
    for namespace in ["shop", "bank"] {
        operator.publish_module(&reference.digest, &bytes, namespace).await.unwrap();
    }
    let owner = ModuleOwner { namespace: "shop".into(), size: 300_000 };
    assert_eq!(operator.module_owner(&reference.digest).await.unwrap(), Some(owner));
}
