//! Whatever happens between a leader and an agent, the agent ends up with what the bus says.

use std::collections::BTreeMap;

use portcullis_bus::{Message, Snapshot};
use portcullis_crds::bus::subject::DesiredSubject;
use proptest::prelude::*;

use super::stream::{CLUSTER, FEATURES, Stream, key, now, route_key, state};
use super::{Desired, State};

/// What may happen between a leader and an agent.
#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Recreate(u8),
    Delete(u8),
    PublishRoute(u8),
    RecreateRoute(u8),
    DeleteRoute(u8),
    ForgetTombstone(u8),
    Epoch,
    Checkpoint,
    /// Before everything is back after a wipe.
    CheckpointOfWhatIsThere,
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
        3 => name.clone().prop_map(Step::PublishRoute),
        1 => name.clone().prop_map(Step::RecreateRoute),
        1 => name.clone().prop_map(Step::DeleteRoute),
        1 => name.prop_map(Step::ForgetTombstone),
        1 => Just(Step::Epoch),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::CheckpointOfWhatIsThere),
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

/// Object and generation.
type Held = BTreeMap<DesiredSubject, (String, i64)>;

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
            Step::PublishRoute(n) => {
                let current = self.stream.routes.get(&route_key(name(*n))).cloned();
                let (uid, generation) = current.unwrap_or_else(|| (self.uid(), 0));
                self.stream.publish_route(name(*n), &uid, generation + 1);
            }
            Step::RecreateRoute(n) => {
                let uid = self.uid();
                self.stream.publish_route(name(*n), &uid, 1);
            }
            Step::DeleteRoute(n) => {
                if let Some((uid, _)) = self.stream.routes.get(&route_key(name(*n))).cloned() {
                    self.stream.delete_route(name(*n), &uid);
                }
            }
            Step::ForgetTombstone(n) => {
                if !self.stream.rules.contains_key(&key(name(*n))) {
                    self.stream.forget(name(*n));
                }
            }
            Step::Epoch => drop(self.stream.new_epoch()),
            Step::Checkpoint => {
                self.stream.republish();
                self.stream.checkpoint();
            }
            Step::CheckpointOfWhatIsThere => drop(self.stream.checkpoint()),
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
            Step::Restart => self.state = State::new(CLUSTER, FEATURES, self.state.held()),
        }
        self.inbox.extend(std::mem::take(&mut self.stream.heard));
    }

    fn uid(&mut self) -> String {
        self.uids += 1;
        format!("uid-{}", self.uids)
    }

    fn held(&self) -> Held {
        let Desired { rules, routes, .. } = self.state.held();
        let rules =
            rules.values().map(|v| (DesiredSubject::Rule(v.rule.key.clone()), (v.uid.clone(), v.generation)));
        let routes = routes
            .values()
            .map(|v| (DesiredSubject::Route(v.route.key.clone()), (v.uid.clone(), v.generation)));
        rules.chain(routes).collect()
    }

    fn wanted(&self) -> Held {
        let rules = self.stream.rules.iter().map(|(key, v)| (DesiredSubject::Rule(key.clone()), v.clone()));
        let routes =
            self.stream.routes.iter().map(|(key, v)| (DesiredSubject::Route(key.clone()), v.clone()));
        rules.chain(routes).collect()
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
                let exists = world.wanted().get(key).is_some_and(|(u, _)| u == uid);
                prop_assert!(!exists || after.contains_key(key), "{key} was let go of after {step:?}");
            }
        }
        world.take(&Step::Checkpoint);
        world.take(&Step::Read);
        prop_assert_eq!(world.held(), world.wanted());
        prop_assert!(world.state.view().complete && world.state.view().kept.is_empty());
    }
}
