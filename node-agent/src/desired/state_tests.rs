use bytes::Bytes;
use portcullis_crds::bus::{Desired as Wanted, Envelope, SCHEMA, SetHash, Tombstone};
use portcullis_crds::revision::Revision;
use proptest::prelude::*;

use super::*;
use crate::desired::tests::a_version;

const CLUSTER: &str = "c";
const FEATURES: &[&str] = &["abi/1"];

/// The stream as the server and a leader make it.
#[derive(Clone)]
struct Stream {
    id: String,
    epoch: u64,
    last: u64,
    /// One message a subject.
    messages: BTreeMap<String, Message>,
    /// Heard by whoever listens.
    heard: Vec<Message>,
    /// What the leader wants: object and generation.
    rules: BTreeMap<RuleKey, (String, i64)>,
    /// Rules of the leader that are not in the stream (any more).
    unpublished: Vec<RuleKey>,
}

impl Stream {
    fn new(id: &str) -> Self {
        let mut stream = Self {
            id: id.to_owned(),
            epoch: 0,
            last: 0,
            messages: BTreeMap::new(),
            heard: Vec::new(),
            rules: BTreeMap::new(),
            unpublished: Vec::new(),
        };
        stream.new_epoch();
        stream
    }

    fn accept(&mut self, subject: DesiredSubject, payload: impl serde::Serialize) -> Message {
        self.last += 1;
        let payload = Bytes::from(serde_json::to_vec(&payload).unwrap());
        let message = Message { subject, sequence: self.last, payload };
        self.messages.insert(format!("{:?}", message.subject), message.clone());
        self.heard.push(message.clone());
        message
    }

    fn new_epoch(&mut self) -> Message {
        self.epoch += 1;
        let record =
            EpochRecord { schema: SCHEMA, cluster: CLUSTER.into(), epoch: self.epoch, holder: "o".into() };
        self.accept(DesiredSubject::Epoch, record)
    }

    fn envelope(&self, uid: &str, version: &Version, payload: Wanted) -> Envelope<Wanted> {
        Envelope {
            schema: SCHEMA,
            cluster: CLUSTER.into(),
            uid: uid.to_owned(),
            generation: version.generation,
            revision: version.revision.clone(),
            epoch: self.epoch,
            requires: Vec::new(),
            expires: None,
            payload,
        }
    }

    fn write_envelope(&mut self, key: &RuleKey, envelope: Envelope<Wanted>) -> Message {
        self.accept(DesiredSubject::Rule(key.clone()), envelope)
    }

    fn publish(&mut self, name: &str, uid: &str, generation: i64) -> Message {
        let version = a_version("shop", name, generation);
        let key = version.rule.key.clone();
        self.rules.insert(key.clone(), (uid.to_owned(), generation));
        let envelope = self.envelope(uid, &version, Wanted::Rule(version.rule.clone()));
        self.write_envelope(&key, envelope)
    }

    fn delete(&mut self, name: &str, uid: &str) -> Message {
        let version = a_version("shop", name, 1);
        let key = version.rule.key.clone();
        self.rules.remove(&key);
        let envelope = self.envelope(uid, &version, Wanted::Tombstone(Tombstone { key: key.clone() }));
        self.write_envelope(&key, envelope)
    }

    /// A message is gone without a trace, as by its time to live.
    fn forget(&mut self, name: &str) {
        self.messages.remove(&format!("{:?}", DesiredSubject::Rule(key(name))));
    }

    fn checkpoint(&mut self) -> Message {
        let revisions: Vec<(RuleKey, String, Revision)> = self
            .rules
            .iter()
            .map(|(key, (uid, generation))| {
                (key.clone(), uid.clone(), a_version("shop", &key.name, *generation).revision)
            })
            .collect();
        let checkpoint = Checkpoint {
            schema: SCHEMA,
            cluster: CLUSTER.into(),
            stream: self.id.clone(),
            epoch: self.epoch,
            sequence: self.last,
            count: revisions.len() as u64,
            set: SetHash::of(revisions.iter().map(|(key, uid, revision)| (key, uid.as_str(), revision))),
        };
        self.accept(DesiredSubject::Checkpoint, checkpoint)
    }

    fn read(&self) -> Snapshot {
        let mut messages: Vec<_> = self.messages.values().cloned().collect();
        messages.sort_by_key(|m| m.sequence);
        Snapshot { stream: self.id.clone().into(), messages, last_sequence: self.last }
    }

    /// Another stream in its place: the same objects, none of them published yet.
    fn wiped(&self, id: &str) -> Self {
        let rules = self.rules.clone();
        Self { unpublished: rules.keys().cloned().collect(), rules, ..Self::new(id) }
    }

    /// The leader publishes everything that is not there, from its own record.
    fn republish(&mut self) -> Vec<Message> {
        let missing = std::mem::take(&mut self.unpublished);
        let wanted: Vec<_> =
            missing.into_iter().filter_map(|key| Some((key.name.clone(), self.rules.get(&key)?.clone()))).collect();
        wanted.iter().map(|(name, (uid, generation))| self.publish(name, uid, *generation)).collect()
    }
}

fn key(name: &str) -> RuleKey {
    RuleKey::namespaced("shop", name)
}

fn state() -> State {
    State::new(CLUSTER, FEATURES, Desired::default())
}

fn now() -> Timestamp {
    Timestamp::from_second(1_000).unwrap()
}

/// Names and generations that are held.
fn held(state: &State) -> Vec<(&str, i64)> {
    state.held().rules.values().map(|v| (v.rule.key.name.as_str(), v.generation)).collect()
}

/// A state that has read `stream` as it is.
fn following(stream: &Stream) -> State {
    let mut state = state();
    state.apply_snapshot(&stream.read(), now());
    state
}

#[test]
fn a_rule_is_taken_up_when_it_is_heard_in_order() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    assert_eq!(state.apply(&stream.publish("a", "u", 1), now()), [Decision::TakeUp(key("a"))]);
    assert_eq!(held(&state), [("a", 1)]);
    assert_eq!(state.held().sequence, stream.last);
}

#[test]
fn nothing_is_taken_up_before_the_first_read() {
    let mut stream = Stream::new("s");
    let message = stream.publish("a", "u", 1);
    assert_eq!(state().apply(&message, now()), [Decision::Resync(ResyncReason::NothingRead)]);
}

#[test]
fn a_lost_message_calls_for_a_read() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    let expected = stream.last + 1;
    stream.publish("a", "u", 1);
    let message = stream.publish("b", "v", 1);
    let gap = ResyncReason::Gap { expected, found: message.sequence };
    assert_eq!(state.apply(&message, now()), [Decision::Resync(gap)]);
    assert!(held(&state).is_empty());
    state.apply_snapshot(&stream.read(), now());
    assert_eq!(held(&state), [("a", 1), ("b", 1)]);
}

#[test]
fn a_message_heard_twice_or_late_changes_nothing() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    let first = stream.publish("a", "u", 1);
    let second = stream.publish("a", "u", 2);
    state.apply(&first, now());
    state.apply(&second, now());
    assert_eq!(state.apply(&second, now()), []);
    assert_eq!(state.apply(&first, now()), []);
    assert_eq!(held(&state), [("a", 2)]);
}

#[test]
fn a_tombstone_drops_only_the_object_that_it_names() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    state.apply(&stream.publish("a", "old", 1), now());
    state.apply(&stream.publish("a", "new", 1), now());
    let other = state.apply(&stream.delete("a", "old"), now());
    assert_eq!(other, [Decision::Keep(key("a"), Refusal::OtherUid("old".into()))]);
    assert_eq!(state.apply(&stream.delete("a", "new"), now()), [Decision::Drop(key("a"))]);
}

#[test]
fn a_rule_missing_from_a_read_stays_until_a_checkpoint_says_that_the_read_is_complete() {
    let mut stream = Stream::new("s");
    stream.publish("a", "u", 1);
    stream.publish("b", "v", 1);
    stream.checkpoint();
    let mut state = following(&stream);
    // b is deleted and its tombstone expires while the agent is away.
    stream.delete("b", "v");
    stream.forget("b");
    assert_eq!(state.apply_snapshot(&stream.read(), now()), []);
    assert_eq!(held(&state), [("a", 1), ("b", 1)]);
    stream.checkpoint();
    assert_eq!(state.apply_snapshot(&stream.read(), now()), [Decision::Drop(key("b"))]);
}

#[test]
fn a_checkpoint_that_does_not_match_drops_nothing_and_calls_for_a_read() {
    let mut stream = Stream::new("s");
    stream.publish("a", "u", 1);
    let mut state = following(&stream);
    stream.rules.clear();
    let checkpoint = stream.checkpoint();
    assert_eq!(state.apply(&checkpoint, now()), [Decision::Resync(ResyncReason::CheckpointDiffers)]);
    // The stream still has it, whatever the checkpoint says.
    state.apply_snapshot(&stream.read(), now());
    assert_eq!(held(&state), [("a", 1)]);
}

#[test]
fn the_set_is_complete_by_a_checkpoint_that_is_read_or_heard() {
    let mut stream = Stream::new("s");
    let mut heard = following(&stream);
    assert!(!heard.view().complete);
    assert_eq!(heard.apply(&stream.checkpoint(), now()), [Decision::Complete]);
    assert!(heard.view().complete);
    assert!(following(&stream).view().complete);
}

#[test]
fn a_lower_epoch_is_refused_after_a_higher_one() {
    let mut stream = Stream::new("s");
    stream.publish("a", "u", 1);
    stream.new_epoch();
    let mut state = following(&stream);
    // Written by an earlier leader, before: fine.
    assert_eq!(held(&state), [("a", 1)]);
    stream.epoch = 1;
    let late = stream.publish("a", "u", 2);
    assert!(matches!(&state.apply(&late, now())[..], [Decision::Ignore(_, why)] if why.contains("no longer leads")));
    assert_eq!(held(&state), [("a", 1)]);
    // Also when it is read.
    state.apply_snapshot(&stream.read(), now());
    assert_eq!(held(&state), [("a", 1)]);
}

#[test]
fn a_lower_generation_of_one_object_is_refused_and_of_another_is_not() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    state.apply(&stream.publish("a", "u", 5), now());
    let refused = Refusal::OlderGeneration { held: 5, found: 4 };
    assert_eq!(state.apply(&stream.publish("a", "u", 4), now()), [Decision::Keep(key("a"), refused)]);
    assert!(state.view().refused[&key("a")].message.contains("generation 5"));
    assert_eq!(state.apply(&stream.publish("a", "again", 1), now()), [Decision::TakeUp(key("a"))]);
    assert!(state.view().refused.is_empty());
}

#[test]
fn what_needs_more_than_this_agent_can_do_keeps_the_last_good_and_says_so() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    state.apply(&stream.publish("a", "u", 1), now());
    let version = a_version("shop", "a", 2);
    let mut envelope = stream.envelope("u", &version, Wanted::Rule(version.rule.clone()));
    envelope.requires = vec!["abi/1".into(), "abi/9".into()];
    let message = stream.write_envelope(&key("a"), envelope);
    let refused = Refusal::Unsupported(vec!["abi/9".into()]);
    assert_eq!(state.apply(&message, now()), [Decision::Keep(key("a"), refused)]);
    assert_eq!(held(&state), [("a", 1)]);
    assert_eq!(state.view().refused[&key("a")].wanted, version.revision);
}

#[test]
fn an_unknown_schema_keeps_the_last_good_and_nothing_is_dropped_beside_it() {
    let mut stream = Stream::new("s");
    stream.publish("a", "u", 1);
    stream.publish("b", "v", 1);
    let mut state = following(&stream);
    let version = a_version("shop", "a", 2);
    let mut envelope = stream.envelope("u", &version, Wanted::Rule(version.rule.clone()));
    envelope.schema = 2;
    let message = stream.write_envelope(&key("a"), envelope);
    assert!(matches!(&state.apply(&message, now())[..], [Decision::Keep(_, Refusal::Unreadable(_))]));
    stream.rules.remove(&key("b"));
    stream.forget("b");
    stream.checkpoint();
    state.apply_snapshot(&stream.read(), now());
    assert_eq!(held(&state), [("a", 1), ("b", 1)]);
    let view = state.view();
    assert!(view.refused[&key("a")].message.contains("upgrade this agent"));
    assert_eq!(view.refused[&key("a")].wanted, version.revision);
}

#[test]
fn what_expired_is_not_taken_up_anew_but_stays_where_it_runs() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    let version = a_version("shop", "a", 1);
    let mut envelope = stream.envelope("u", &version, Wanted::Rule(version.rule.clone()));
    envelope.expires = Some(now());
    let message = stream.write_envelope(&key("a"), envelope);
    let before = Timestamp::from_second(999).unwrap();
    assert_eq!(following(&Stream::new("s")).apply(&message, now()), [Decision::Keep(key("a"), Refusal::Expired(now()))]);
    assert_eq!(state.apply(&message, before), [Decision::TakeUp(key("a"))]);
    assert_eq!(state.apply_snapshot(&stream.read(), now()), []);
    assert_eq!(held(&state), [("a", 1)]);
}

#[test]
fn desired_state_of_another_cluster_is_not_accepted() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    let version = a_version("shop", "a", 1);
    let mut envelope = stream.envelope("u", &version, Wanted::Rule(version.rule.clone()));
    envelope.cluster = "d".into();
    let message = stream.write_envelope(&key("a"), envelope);
    assert!(matches!(&state.apply(&message, now())[..], [Decision::Ignore(_, why)] if why.contains("cluster c")));
    assert!(held(&state).is_empty());
}

#[test]
fn a_rule_under_the_subject_of_another_is_refused() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    let version = a_version("shop", "a", 1);
    let envelope = stream.envelope("u", &version, Wanted::Rule(version.rule.clone()));
    let message = stream.write_envelope(&key("b"), envelope);
    assert!(matches!(&state.apply(&message, now())[..], [Decision::Keep(_, Refusal::Unreadable(_))]));
    assert!(held(&state).is_empty());
}

#[test]
fn a_wiped_stream_keeps_the_last_good_until_its_own_checkpoint_matches() {
    let mut stream = Stream::new("s");
    for _ in 0..5 {
        stream.new_epoch();
    }
    stream.publish("a", "u", 1);
    stream.publish("b", "v", 1);
    stream.checkpoint();
    let mut state = following(&stream);

    let mut empty = stream.wiped("t");
    // Deleted in the meantime: only the new checkpoint says so.
    empty.rules.remove(&key("b"));
    state.apply_snapshot(&empty.read(), now());
    assert_eq!(held(&state), [("a", 1), ("b", 1)]);
    assert_eq!(state.view().stream, Some(StreamId::from("s".to_owned())));
    for message in empty.republish() {
        assert_eq!(state.apply(&message, now()), []);
        assert_eq!(held(&state), [("a", 1), ("b", 1)]);
    }
    assert_eq!(state.apply(&empty.checkpoint(), now()), [Decision::Drop(key("b"))]);
    assert_eq!(held(&state), [("a", 1)]);
    let view = state.view();
    assert_eq!((view.stream, view.fence.epoch), (Some(StreamId::from("t".to_owned())), 1));
    assert_eq!(state.apply(&empty.publish("a", "u", 2), now()), [Decision::TakeUp(key("a"))]);
}

#[test]
fn a_stream_that_is_replaced_under_a_standing_connection_is_noticed() {
    let mut stream = Stream::new("s");
    for _ in 0..9 {
        stream.new_epoch();
    }
    stream.publish("a", "u", 1);
    let mut state = following(&stream);
    let mut new = stream.wiped("t");
    let replaced = [Decision::Resync(ResyncReason::StreamReplaced)];
    assert_eq!(state.apply(&new.heard[0].clone(), now()), replaced);
    assert_eq!(state.apply(&new.checkpoint(), now()), replaced);
}

#[test]
fn a_read_from_a_replica_that_lags_takes_nothing_back() {
    let mut stream = Stream::new("s");
    stream.publish("a", "u", 1);
    stream.checkpoint();
    let old = stream.read();
    let mut state = following(&stream);
    state.apply(&stream.publish("b", "v", 1), now());
    let behind = ResyncReason::Behind { held: stream.last, read: old.last_sequence };
    assert_eq!(state.apply_snapshot(&old, now()), [Decision::Resync(behind)]);
    assert_eq!(held(&state), [("a", 1), ("b", 1)]);
    assert_eq!(state.apply(&stream.publish("b", "v", 2), now()), [Decision::TakeUp(key("b"))]);
}

#[test]
fn what_was_held_before_the_start_is_held_after_it() {
    let mut stream = Stream::new("s");
    stream.publish("a", "u", 1);
    let before = following(&stream);
    let mut state = State::new(CLUSTER, FEATURES, before.held().clone());
    assert_eq!(held(&state), [("a", 1)]);
    assert!(!state.view().complete);
    stream.publish("a", "u", 2);
    state.apply_snapshot(&stream.read(), now());
    assert_eq!(held(&state), [("a", 2)]);
}

/// What may happen between a leader and an agent.
#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Recreate(u8),
    Delete(u8),
    ForgetTombstone(u8),
    Epoch,
    Checkpoint,
    Wipe,
    Republish,
    Deliver,
    Lose,
    Repeat(prop::sample::Index),
    Read,
    ReadOld(prop::sample::Index),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0_u8..3;
    prop_oneof![
        4 => name.clone().prop_map(Step::Publish),
        1 => name.clone().prop_map(Step::Recreate),
        1 => name.clone().prop_map(Step::Delete),
        1 => name.prop_map(Step::ForgetTombstone),
        1 => Just(Step::Epoch),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Wipe),
        2 => Just(Step::Republish),
        12 => Just(Step::Deliver),
        1 => Just(Step::Lose),
        1 => any::<prop::sample::Index>().prop_map(Step::Repeat),
        3 => Just(Step::Read),
        1 => any::<prop::sample::Index>().prop_map(Step::ReadOld),
        1 => Just(Step::Restart),
    ]
}

struct World {
    stream: Stream,
    streams: u32,
    uids: u32,
    /// Sent to the agent, not heard yet.
    inbox: std::collections::VecDeque<Message>,
    reads: Vec<Snapshot>,
    state: State,
}

impl World {
    fn new() -> Self {
        let stream = Stream::new("stream-0");
        Self { stream, streams: 0, uids: 0, inbox: Default::default(), reads: Vec::new(), state: state() }
    }

    fn take(&mut self, step: &Step) {
        let name = |n: u8| ["a", "b", "c"][usize::from(n)];
        match step {
            Step::Publish(n) => {
                let current = self.stream.rules.get(&key(name(*n))).cloned();
                let (uid, generation) = current.unwrap_or_else(|| (self.uid(), 0));
                self.stream.publish(name(*n), &uid, generation + 1);
            }
            Step::Recreate(n) => {
                let uid = self.uid();
                self.stream.publish(name(*n), &uid, 1);
            }
            Step::Delete(n) => {
                if let Some((uid, _)) = self.stream.rules.get(&key(name(*n))).cloned() {
                    self.stream.delete(name(*n), &uid);
                }
            }
            Step::ForgetTombstone(n) => {
                if !self.stream.rules.contains_key(&key(name(*n))) {
                    self.stream.forget(name(*n));
                }
            }
            Step::Epoch => drop(self.stream.new_epoch()),
            // A leader describes the set when all of it is there.
            Step::Checkpoint => {
                self.stream.republish();
                self.stream.checkpoint();
            }
            Step::Wipe => {
                self.streams += 1;
                self.stream = self.stream.wiped(&format!("stream-{}", self.streams));
                self.reads.clear();
            }
            Step::Republish => drop(self.stream.republish()),
            Step::Deliver => {
                if let Some(message) = self.inbox.pop_front() {
                    self.state.apply(&message, now());
                }
            }
            Step::Lose => drop(self.inbox.pop_front()),
            Step::Repeat(which) => {
                let known: Vec<_> = self.stream.messages.values().cloned().collect();
                self.state.apply(which.get(&known), now());
            }
            Step::Read => {
                let read = self.stream.read();
                if self.reads.is_empty() {
                    // What was heard of the stream before this one is thrown away, as `Sync` does.
                    self.inbox.clear();
                }
                self.reads.push(read.clone());
                self.state.apply_snapshot(&read, now());
            }
            Step::ReadOld(which) => {
                if !self.reads.is_empty() {
                    let old = which.get(&self.reads).clone();
                    self.state.apply_snapshot(&old, now());
                }
            }
            Step::Restart => self.state = State::new(CLUSTER, FEATURES, self.state.held().clone()),
        }
        self.inbox.extend(std::mem::take(&mut self.stream.heard));
    }

    fn uid(&mut self) -> String {
        self.uids += 1;
        format!("uid-{}", self.uids)
    }

    fn held(&self) -> BTreeMap<RuleKey, (String, i64)> {
        let rules = self.state.held().rules.iter();
        rules.map(|(key, v)| (key.clone(), (v.uid.clone(), v.generation))).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Whatever is lost, repeated, reordered, wiped or read from a replica that lags: a rule that exists is
    /// never let go of, no object goes back in generation, and in the end the agent holds what the bus says.
    #[test]
    fn any_order_of_messages_and_reads_converges_and_never_goes_back(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            let before = world.held();
            world.take(step);
            let after = world.held();
            for (key, (uid, generation)) in &before {
                if let Some((uid_after, generation_after)) = after.get(key) {
                    prop_assert!(uid_after != uid || generation_after >= generation, "{key} went back after {step:?}");
                }
                let exists = world.stream.rules.get(key).is_some_and(|(u, _)| u == uid);
                prop_assert!(!exists || after.contains_key(key), "{key} was let go of after {step:?}");
            }
        }
        world.take(&Step::Checkpoint);
        world.take(&Step::Read);
        prop_assert_eq!(world.held(), world.stream.rules.clone());
        prop_assert!(world.state.view().complete);
    }
}
