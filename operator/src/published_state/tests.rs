//! What is read, written and found without an object.

use bytes::Bytes;
use portcullis_crds::bus::{Candidate, ModuleRef, RevisionSpec, Share};

use super::*;

const CLUSTER: &str = "cluster";

pub(crate) fn rule(name: &str) -> DesiredRule {
    let stable = RevisionSpec::with_defaults(
        ModuleRef {
            digest: ModuleDigest::of(b"module"),
            size: 6,
            reference: "registry.example/rules/a:1".into(),
            manifest_digest: ModuleDigest::of(b"manifest").to_string(),
        },
        1,
    );
    DesiredRule { key: RuleKey::namespaced("shop", name), stable, candidate: None }
}

/// The same with a candidate that is made of this module.
pub(crate) fn with_candidate(rule: DesiredRule, module: ModuleRef) -> DesiredRule {
    let spec = RevisionSpec { module, ..rule.stable.clone() };
    let candidate = Candidate { revision: Revision::of(&spec), spec, weight: Share::NONE, shadow: None };
    DesiredRule { candidate: Some(candidate), ..rule }
}

pub(crate) fn entry_of(uid: &str, sequence: u64, rule: DesiredRule) -> Entry {
    let revision = Revision::of(&rule.stable);
    Entry { uid: uid.into(), generation: 1, revision, sequence, desired: Arc::new(Desired::Rule(rule)) }
}

pub(crate) fn subject(name: &str) -> DesiredSubject {
    DesiredSubject::Rule(RuleKey::namespaced("shop", name))
}

pub(crate) fn entry(name: &str, uid: &str, sequence: u64) -> Entry {
    entry_of(uid, sequence, rule(name))
}

fn message(entry: &Entry) -> Message {
    message_with(entry, (*entry.desired).clone())
}

fn message_with(entry: &Entry, payload: Desired) -> Message {
    let envelope = Envelope {
        schema: SCHEMA,
        cluster: CLUSTER.into(),
        uid: entry.uid.to_string(),
        generation: entry.generation,
        revision: entry.revision.clone(),
        epoch: 1,
        requires: vec![],
        expires: None,
        payload,
    };
    Message {
        subject: entry.desired.subject(),
        sequence: entry.sequence,
        payload: serde_json::to_vec(&envelope).unwrap().into(),
    }
}

pub(crate) fn state(entries: &[Entry]) -> PublishedState {
    let messages: Vec<_> = entries.iter().map(message).collect();
    let last_sequence = entries.iter().map(|e| e.sequence).max().unwrap_or(0);
    PublishedState::read(
        CLUSTER,
        &Snapshot { stream: StreamId::from("s1".to_owned()), messages, last_sequence },
    )
}

fn objects<'a>(list: &[(&str, &'a str)]) -> BTreeMap<DesiredSubject, &'a str> {
    list.iter().map(|(name, uid)| (subject(name), *uid)).collect()
}

#[test]
fn what_is_on_the_bus_is_taken_over_without_tombstones() {
    let (a, b) = (entry("a", "u1", 3), entry("b", "u2", 7));
    let tombstone = Desired::Tombstone(Tombstone { key: RuleKey::namespaced("shop", "b") });
    let messages = vec![message(&a), message_with(&b, tombstone)];
    let state = PublishedState::read(
        CLUSTER,
        &Snapshot { stream: StreamId::from("s1".to_owned()), messages, last_sequence: 9 },
    );
    assert_eq!(state.get(&subject("a")), Some(&a));
    assert_eq!(state.get(&subject("b")), None);
    let checkpoint = state.checkpoint(CLUSTER, 4, Gaps::default());
    assert_eq!((checkpoint.sequence, checkpoint.count, checkpoint.epoch), (7, 1, 4));
}

#[test]
fn the_checkpoint_follows_every_write() {
    let mut state = state(&[entry("a", "u1", 3)]);
    let before = state.checkpoint(CLUSTER, 1, Gaps::default());
    state.put(subject("b"), entry("b", "u2", 5));
    let with_b = state.checkpoint(CLUSTER, 1, Gaps::default());
    assert_eq!((with_b.sequence, with_b.count), (5, 2));
    assert_ne!(with_b.set, before.set);
    state.remove(&subject("b"), 6);
    let after = state.checkpoint(CLUSTER, 1, Gaps::default());
    assert_eq!((after.sequence, after.count, after.set), (6, 1, before.set));
}

#[test]
fn only_what_has_no_object_or_another_one_is_an_orphan() {
    let state = state(&[entry("a", "u1", 1), entry("b", "u2", 2), entry("c", "u3", 3)]);
    let orphans = state.orphans(&objects(&[("a", "u1"), ("b", "other")]));
    let subjects: Vec<_> = orphans.into_iter().map(|orphan| orphan.subject).collect();
    assert_eq!(subjects, [subject("b"), subject("c")]);
}

#[test]
fn an_orphan_that_was_written_anew_gets_no_tombstone() {
    let mut state = state(&[entry("a", "u1", 1)]);
    let orphan = state.orphans(&objects(&[])).remove(0);
    let envelope = state.tombstone(&orphan, CLUSTER, 2).unwrap();
    assert_eq!((envelope.uid.as_str(), envelope.epoch), ("u1", 2));
    state.put(subject("a"), entry("a", "u9", 2));
    assert_eq!(state.tombstone(&orphan, CLUSTER, 2), None);
}

#[test]
fn a_message_that_cannot_be_read_is_removed_once_nobody_wants_it() {
    let mut broken = message(&entry("a", "u1", 1));
    let named = ModuleDigest::of(b"named");
    broken.payload = Bytes::from(format!(r#"{{"schema": 9, "modules": ["{named}", "sha256:12"]}}"#));
    let snapshot =
        Snapshot { stream: StreamId::from("s1".to_owned()), messages: vec![broken], last_sequence: 1 };
    let state = PublishedState::read(CLUSTER, &snapshot);
    assert_eq!(state.modules(), BTreeSet::from([named]), "it may need what it names, and nothing else");
    assert!(state.orphans(&objects(&[("a", "u1")])).is_empty());
    let orphan = state.orphans(&objects(&[])).remove(0);
    assert!(state.tombstone(&orphan, CLUSTER, 2).is_some());
}

#[test]
fn a_candidate_is_part_of_the_set_and_its_module_is_named() {
    let module =
        |name: &str| ModuleRef { digest: ModuleDigest::of(name.as_bytes()), ..rule("a").stable.module };
    let with = entry_of("u1", 3, with_candidate(rule("a"), module("candidate")));
    let without = state(&[entry("a", "u1", 3)]).checkpoint(CLUSTER, 1, Gaps::default());
    let state = state(&[with]);
    let checkpoint = state.checkpoint(CLUSTER, 1, Gaps::default());
    assert_eq!((without.schema, checkpoint.schema), (1, 3));
    assert_eq!((without.count, checkpoint.count), (1, 1), "it is one rule");
    assert_ne!(without.set, checkpoint.set);
    let digests = ["module", "candidate"].map(|name| ModuleDigest::of(name.as_bytes()));
    assert_eq!(state.modules(), BTreeSet::from(digests.clone()));
    assert!(digests.iter().all(|digest| state.names(digest)));
}
