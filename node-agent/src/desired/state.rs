//! Decides what is desired here. No I/O and no clock: every input is an argument.
//!
//! The rules, in the order of their importance:
//! - Absence is not deletion. An object goes by a tombstone with its uid, or when a copy of the stream without
//!   it is complete by a checkpoint that does not say that nobody knows what should run of it.
//! - Nothing goes back: not in epoch, not in generation of one uid, not in sequence of one stream.
//! - Sequences of two streams do not compare. Another stream is only looked at until a checkpoint of its
//!   own says that the copy is complete; then it replaces what was held.
//! - What cannot be taken up is refused by name, and what was held stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use portcullis_bus::{Message, Snapshot, StreamId};
use portcullis_crds::bus::subject::DesiredSubject;
use portcullis_crds::bus::{Checkpoint, EpochRecord, SetHash};
use portcullis_crds::route_key::RouteKey;
use portcullis_crds::rule_key::RuleKey;

use super::decision::{Decision, ResyncReason};
use super::fence::Fence;
use super::objects::{Objects, Order};
use super::stream_copy::{Comparison, Noted, StreamCopy};
use super::version::{RouteVersion, Version, View};

/// What is held as desired, whatever happens to the bus.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// The stream it came from; `None` when nothing was ever read.
    pub stream: Option<StreamId>,
    /// Highest epoch of that stream.
    pub fence: Fence,
    /// Everything up to this sequence was read.
    pub sequence: u64,
    /// Sequence of the last rule, route or tombstone.
    pub object_sequence: u64,
    /// The rules.
    pub rules: BTreeMap<RuleKey, Arc<Version>>,
    /// The routes.
    pub routes: BTreeMap<RouteKey, Arc<RouteVersion>>,
}

/// The state machine.
pub struct State {
    cluster: String,
    features: &'static [&'static str],
    /// The stream that what is held came from; `None` when nothing was ever read.
    stream: Option<StreamId>,
    /// Highest epoch of that stream.
    fence: Fence,
    /// Everything up to this sequence was read.
    sequence: u64,
    /// Sequence of the last rule, route or tombstone.
    object_sequence: u64,
    rules: Objects<Version>,
    routes: Objects<RouteVersion>,
    copy: Option<StreamCopy>,
    /// What is held follows the copy. Otherwise the copy awaits a checkpoint.
    follows: bool,
    complete: bool,
    resyncs: u64,
}

impl State {
    /// Starts from what was held before, or from [`Desired::default`].
    pub fn new(cluster: &str, features: &'static [&'static str], held: Desired) -> Self {
        Self {
            cluster: cluster.to_owned(),
            features,
            stream: held.stream,
            fence: held.fence,
            sequence: held.sequence,
            object_sequence: held.object_sequence,
            rules: Objects::new(held.rules),
            routes: Objects::new(held.routes),
            copy: None,
            follows: false,
            complete: false,
            resyncs: 0,
        }
    }

    /// What is held.
    pub fn held(&self) -> Desired {
        Desired {
            stream: self.stream.clone(),
            fence: self.fence,
            sequence: self.sequence,
            object_sequence: self.object_sequence,
            rules: self.rules.held.clone(),
            routes: self.routes.held.clone(),
        }
    }

    /// What is held, for the parts that make it run.
    pub fn view(&self) -> View {
        View {
            stream: self.stream.clone(),
            fence: self.fence,
            sequence: self.sequence,
            object_sequence: self.object_sequence,
            complete: self.complete,
            resyncs: self.resyncs,
            rules: self.rules.held.clone(),
            refused: self.rules.refused.clone(),
            kept: self.rules.kept.clone(),
            routes: self.routes.held.clone(),
            refused_routes: self.routes.refused.clone(),
            routes_hash: routes_hash(&self.routes),
        }
    }

    /// Takes a complete read of the stream.
    pub fn apply_snapshot(&mut self, snapshot: &Snapshot, now: Timestamp) -> Vec<Decision> {
        self.resyncs += 1;
        let same_stream = self.stream.as_ref() == Some(&snapshot.stream);
        if same_stream && snapshot.last_sequence < self.sequence {
            let reason = ResyncReason::Behind { held: self.sequence, read: snapshot.last_sequence };
            return vec![Decision::Resync(reason)];
        }
        let fence = if same_stream { self.fence } else { Fence::default() };
        let mut copy = StreamCopy::new(snapshot.stream.clone(), fence);
        let mut checkpoint = None;
        let mut decisions = Vec::new();
        for message in &snapshot.messages {
            match copy.note(&self.cluster, message) {
                Noted::Checkpoint(found) => checkpoint = Some(found),
                Noted::Refused(subject, why) => decisions.push(Decision::Ignore(subject, why)),
                Noted::Unsupported(subject) => decisions.push(Decision::Unsupported(subject)),
                Noted::Rule(_) | Noted::Route(_) | Noted::Nothing => {}
            }
        }
        copy.cursor = copy.cursor.max(snapshot.last_sequence);
        let complete = checkpoint.filter(|c| copy.compare(c) == Comparison::Complete);
        self.copy = Some(copy);
        self.follows = same_stream || self.stream.is_none();
        if self.follows {
            decisions.extend(self.merge(Order::BySequence, now));
        }
        if let Some(checkpoint) = complete {
            decisions.extend(self.complete(&checkpoint, now));
        }
        decisions
    }

    /// Takes a message that was heard.
    pub fn apply(&mut self, message: &Message, now: Timestamp) -> Vec<Decision> {
        let Some(copy) = &mut self.copy else {
            return vec![Decision::Resync(ResyncReason::NothingRead)];
        };
        let expected = copy.cursor + 1;
        if message.sequence > expected {
            return vec![Decision::Resync(ResyncReason::Gap { expected, found: message.sequence })];
        }
        if message.sequence < expected {
            return heard_again(copy, message).map(Decision::Resync).into_iter().collect();
        }
        let noted = copy.note(&self.cluster, message);
        let mut decisions = Vec::new();
        if self.follows {
            self.sequence = copy.cursor;
            self.fence = copy.fence;
        }
        match noted {
            Noted::Rule(key) if self.follows => {
                self.object_sequence = message.sequence;
                let offered = copy.rules.get(&key);
                decisions.extend(
                    offered.and_then(|entry| {
                        self.rules.offer(&key, entry, Order::BySequence, self.features, now)
                    }),
                );
            }
            Noted::Route(key) if self.follows => {
                self.object_sequence = message.sequence;
                let offered = copy.routes.get(&key);
                decisions.extend(
                    offered.and_then(|entry| {
                        self.routes.offer(&key, entry, Order::BySequence, self.features, now)
                    }),
                );
            }
            Noted::Rule(_) | Noted::Route(_) | Noted::Nothing => {}
            Noted::Refused(subject, why) => decisions.push(Decision::Ignore(subject, why)),
            Noted::Unsupported(subject) => decisions.push(Decision::Unsupported(subject)),
            Noted::Checkpoint(checkpoint) => match copy.compare(&checkpoint) {
                Comparison::Complete => decisions.extend(self.complete(&checkpoint, now)),
                Comparison::Differs => decisions.push(Decision::Resync(ResyncReason::CheckpointDiffers)),
                Comparison::OtherStream => decisions.push(Decision::Resync(ResyncReason::StreamReplaced)),
                Comparison::Outdated | Comparison::Unreadable => {}
            },
        }
        decisions
    }

    /// Takes up what the copy has; what it has not stays.
    fn merge(&mut self, order: Order, now: Timestamp) -> Vec<Decision> {
        let Some(copy) = &self.copy else { return Vec::new() };
        self.stream = Some(copy.stream.clone());
        self.fence = copy.fence;
        self.sequence = copy.cursor;
        self.object_sequence = copy.object_sequence();
        let mut decisions = self.rules.merge(&copy.rules, order, self.features, now);
        decisions.extend(self.routes.merge(&copy.routes, order, self.features, now));
        decisions
    }

    /// The copy is complete: what it has not is gone, but for the objects of which the leader does not know what should
    /// run; and another stream takes the place of the one held.
    fn complete(&mut self, checkpoint: &Checkpoint, now: Timestamp) -> Vec<Decision> {
        // The copy is no older than what is held, and all of it: the sequences that were held have no say any
        // more. (After the stream was replaced they belong to another one.)
        self.follows = true;
        let mut decisions = self.merge(Order::None, now);
        let Some(copy) = &self.copy else { return decisions };
        let is_unknown = |rule: &Version| checkpoint.unknown.contains(&rule.uid);
        decisions.extend(self.rules.drop_missing(&copy.rules, is_unknown));
        // A leader of before routes knows nothing of them.
        decisions.extend(self.routes.drop_missing(&copy.routes, |_| checkpoint.routes.is_none()));
        if !self.complete {
            self.complete = true;
            decisions.push(Decision::Complete);
        }
        decisions
    }
}

/// Hash of the routes as they were read: of the wanted ones, refused ones included, kept ones not.
fn routes_hash(routes: &Objects<RouteVersion>) -> SetHash {
    let read = routes.held.iter().filter(|(key, _)| !routes.kept.contains(key));
    let mut wanted: BTreeMap<_, _> =
        read.map(|(key, version)| (key, (version.uid.as_str(), &version.revision))).collect();
    wanted.extend(routes.refused.iter().map(|(key, refused)| (key, (refused.uid.as_str(), &refused.wanted))));
    SetHash::of_routes(wanted.into_iter().map(|(key, (uid, revision))| (key, uid, revision)))
}

/// A message at a sequence that was read already. Mostly it was heard while everything was being read; but
/// if the stream was replaced under a standing connection, its first messages look the same.
fn heard_again(copy: &StreamCopy, message: &Message) -> Option<ResyncReason> {
    let replaced = match &message.subject {
        DesiredSubject::Epoch => {
            let epoch = serde_json::from_slice::<EpochRecord>(&message.payload).ok()?.epoch;
            (Fence { epoch, since: message.sequence }) != copy.fence
        }
        DesiredSubject::Checkpoint => {
            serde_json::from_slice::<Checkpoint>(&message.payload).ok()?.stream != copy.stream.as_str()
        }
        DesiredSubject::Rule(_) | DesiredSubject::Route(_) | DesiredSubject::Unsupported(_) => false,
    };
    replaced.then_some(ResyncReason::StreamReplaced)
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod tests;
