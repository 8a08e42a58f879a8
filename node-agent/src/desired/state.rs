//! Decides what is desired here. No I/O and no clock: every input is an argument.
//!
//! The rules, in the order of their importance:
//! - Absence is not deletion. A rule goes by a tombstone with its uid, or when a copy of the stream without
//!   it is complete by a checkpoint that does not say that nobody knows what should run of it.
//! - Nothing goes back: not in epoch, not in generation of one uid, not in sequence of one stream.
//! - Sequences of two streams do not compare. Another stream is only looked at until a checkpoint of its
//!   own says that the copy is complete; then it replaces what was held.
//! - What cannot be taken up is refused by name, and what was held stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use portcullis_bus::{Message, Snapshot, StreamId};
use portcullis_crds::bus::subject::DesiredSubject;
use portcullis_crds::bus::{Checkpoint, EpochRecord};
use portcullis_crds::rule_key::RuleKey;
use thiserror::Error;

use super::fence::Fence;
use super::stream_copy::{Comparison, Content, Entry, Noted, StreamCopy};
use super::version::{Refused, Version, View};

/// What is held as desired, whatever happens to the bus.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// The stream it came from; `None` when nothing was ever read.
    pub stream: Option<StreamId>,
    /// Highest epoch of that stream.
    pub fence: Fence,
    /// Everything up to this sequence was read.
    pub sequence: u64,
    /// Sequence of the last rule or tombstone.
    pub rule_sequence: u64,
    /// The rules.
    pub rules: BTreeMap<RuleKey, Arc<Version>>,
}

/// What was decided about one input.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// This version of the rule is desired now.
    TakeUp(RuleKey),
    /// The rule is gone.
    Drop(RuleKey),
    /// What was held of this rule stays, because what came cannot be taken up.
    Keep(RuleKey, Refusal),
    /// The message was not accepted.
    Ignore(DesiredSubject, String),
    /// Something under this subject is of a kind that this version does not know. It is passed over.
    Unsupported(String),
    /// The copy is complete by a checkpoint.
    Complete,
    /// Read everything again.
    Resync(ResyncReason),
}

/// Why a version or a tombstone was not taken.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Refusal {
    /// The agent lacks something.
    #[error("this agent lacks the required feature {}: upgrade the node-agent", .0.join(", "))]
    Unsupported(Vec<String>),
    /// Another format, or not what belongs here.
    #[error("{0}")]
    Unreadable(String),
    /// Generations of one object only grow.
    #[error("expected generation {held} or later of this object, found {found}: change the rule once more")]
    OlderGeneration {
        /// What is held.
        held: i64,
        /// What came.
        found: i64,
    },
    /// Came too late.
    #[error("expired at {0} before this agent could take it up: the operator publishes it again")]
    Expired(Timestamp),
    /// A tombstone of another object of the same name.
    #[error("the tombstone is of another object with this name ({0})")]
    OtherUid(String),
}

/// Why everything must be read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResyncReason {
    /// Nothing was read since the process started.
    NothingRead,
    /// A message was lost.
    Gap {
        /// The next sequence by what was read.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The stream is not the one that was read.
    StreamReplaced,
    /// A checkpoint does not match the copy.
    CheckpointDiffers,
    /// The read ended before what is held: a replica that lags, or a stream restored from a backup, which
    /// is waited for until it has caught up.
    Behind {
        /// Sequence held.
        held: u64,
        /// Last sequence read.
        read: u64,
    },
}

impl fmt::Display for ResyncReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingRead => f.write_str("nothing was read yet"),
            Self::Gap { expected, found } => write!(f, "expected sequence {expected}, found {found}"),
            Self::StreamReplaced => f.write_str("the stream was replaced"),
            Self::CheckpointDiffers => f.write_str("the checkpoint describes another set"),
            Self::Behind { held, read } => {
                write!(f, "the read ended at sequence {read}, before {held} which is held")
            }
        }
    }
}

/// Whether an entry may be older than what is held.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    /// It may, and then has no say.
    BySequence,
    /// It may not: the copy is complete.
    None,
}

/// The state machine.
pub struct State {
    cluster: String,
    features: &'static [&'static str],
    held: Desired,
    refused: BTreeMap<RuleKey, Refused>,
    /// Held without being in the copy, because the leader does not know what should run of them.
    kept: BTreeSet<RuleKey>,
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
            held,
            refused: BTreeMap::new(),
            kept: BTreeSet::new(),
            copy: None,
            follows: false,
            complete: false,
            resyncs: 0,
        }
    }

    /// What is held.
    pub fn held(&self) -> &Desired {
        &self.held
    }

    /// What is held, for the parts that make it run.
    pub fn view(&self) -> View {
        View {
            stream: self.held.stream.clone(),
            fence: self.held.fence,
            sequence: self.held.sequence,
            rule_sequence: self.held.rule_sequence,
            complete: self.complete,
            resyncs: self.resyncs,
            rules: self.held.rules.clone(),
            routes: BTreeMap::new(),
            refused: self.refused.clone(),
            kept: self.kept.clone(),
        }
    }

    /// Takes a complete read of the stream.
    pub fn apply_snapshot(&mut self, snapshot: &Snapshot, now: Timestamp) -> Vec<Decision> {
        self.resyncs += 1;
        let same_stream = self.held.stream.as_ref() == Some(&snapshot.stream);
        if same_stream && snapshot.last_sequence < self.held.sequence {
            let reason = ResyncReason::Behind { held: self.held.sequence, read: snapshot.last_sequence };
            return vec![Decision::Resync(reason)];
        }
        let fence = if same_stream { self.held.fence } else { Fence::default() };
        let mut copy = StreamCopy::new(snapshot.stream.clone(), fence);
        let mut checkpoint = None;
        let mut decisions = Vec::new();
        for message in &snapshot.messages {
            match copy.note(&self.cluster, message) {
                Noted::Checkpoint(found) => checkpoint = Some(found),
                Noted::Refused(subject, why) => decisions.push(Decision::Ignore(subject, why)),
                Noted::Unsupported(subject) => decisions.push(Decision::Unsupported(subject)),
                Noted::Rule(_) | Noted::Nothing => {}
            }
        }
        copy.cursor = copy.cursor.max(snapshot.last_sequence);
        let complete = checkpoint.filter(|c| copy.compare(c) == Comparison::Complete);
        self.copy = Some(copy);
        self.follows = same_stream || self.held.stream.is_none();
        if self.follows {
            decisions.extend(self.merge(Order::BySequence, now));
        }
        if let Some(checkpoint) = complete {
            decisions.extend(self.complete(&checkpoint.unknown, now));
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
            self.held.sequence = copy.cursor;
            self.held.fence = copy.fence;
        }
        match noted {
            Noted::Rule(key) if self.follows => {
                self.held.rule_sequence = message.sequence;
                let entry = copy.entries.get(&key).cloned();
                decisions.extend(entry.and_then(|entry| self.offer(&key, &entry, Order::BySequence, now)));
            }
            Noted::Rule(_) | Noted::Nothing => {}
            Noted::Refused(subject, why) => decisions.push(Decision::Ignore(subject, why)),
            Noted::Unsupported(subject) => decisions.push(Decision::Unsupported(subject)),
            Noted::Checkpoint(checkpoint) => match copy.compare(&checkpoint) {
                Comparison::Complete => decisions.extend(self.complete(&checkpoint.unknown, now)),
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
        self.held.stream = Some(copy.stream.clone());
        self.held.fence = copy.fence;
        self.held.sequence = copy.cursor;
        self.held.rule_sequence = copy.rule_sequence();
        let entries = copy.entries.clone();
        self.refused.retain(|key, _| entries.contains_key(key));
        entries.iter().filter_map(|(key, entry)| self.offer(key, entry, order, now)).collect()
    }

    /// The copy is complete: what it has not is gone, but for the objects of which the leader does not know what should
    /// run; and another stream takes the place of the one held.
    fn complete(&mut self, unknown: &BTreeSet<String>, now: Timestamp) -> Vec<Decision> {
        // The copy is no older than what is held, and all of it: the sequences that were held have no say any
        // more. (After the stream was replaced they belong to another one.)
        self.follows = true;
        let mut decisions = self.merge(Order::None, now);
        let Some(copy) = &self.copy else { return decisions };
        let exists = |key: &RuleKey| {
            copy.entries.get(key).is_some_and(|e| !matches!(e.content, Content::Tombstone { .. }))
        };
        let is_deleted = |key: &RuleKey, held: &Version| {
            let entry = copy.entries.get(key).map(|e| &e.content);
            matches!(entry, Some(Content::Tombstone { uid }) if *uid == held.uid)
        };
        self.kept.clear();
        let mut gone = Vec::new();
        for (key, held) in self.held.rules.iter_mut().filter(|(key, _)| !exists(key)) {
            if unknown.contains(&held.uid) && !is_deleted(key, held) {
                self.kept.insert(key.clone());
                // Its sequence may be another stream's, and must not stand against what is put back.
                if held.sequence > 0 {
                    *held = Arc::new(Version { sequence: 0, ..(**held).clone() });
                }
            } else {
                gone.push(key.clone());
            }
        }
        for key in gone {
            self.held.rules.remove(&key);
            decisions.push(Decision::Drop(key));
        }
        if !self.complete {
            self.complete = true;
            decisions.push(Decision::Complete);
        }
        decisions
    }

    /// Decides about one entry of the copy.
    fn offer(&mut self, key: &RuleKey, entry: &Entry, order: Order, now: Timestamp) -> Option<Decision> {
        let held = self.held.rules.get(key).cloned();
        if order == Order::BySequence && held.as_ref().is_some_and(|h| entry.sequence < h.sequence) {
            return None;
        }
        let (refusal, uid, wanted, candidate) = match &entry.content {
            Content::Tombstone { uid } => {
                self.refused.remove(key);
                self.kept.remove(key);
                return match held {
                    Some(held) if held.uid == *uid => {
                        self.held.rules.remove(key);
                        Some(Decision::Drop(key.clone()))
                    }
                    Some(_) => Some(Decision::Keep(key.clone(), Refusal::OtherUid(uid.clone()))),
                    None => None,
                };
            }
            Content::Rule { version, requires, expires } => {
                match self.refusal(held.as_deref(), version, requires, *expires, now) {
                    Some(refusal) => {
                        let (stable, candidate) = version.revisions();
                        (refusal, &version.uid, stable, candidate)
                    }
                    None => {
                        self.refused.remove(key);
                        self.kept.remove(key);
                        self.held.rules.insert(key.clone(), version.clone());
                        let is_same = |h: Arc<Version>| {
                            h.generation == version.generation && h.asks_for_the_same_as(version)
                        };
                        return if held.is_some_and(is_same) {
                            None
                        } else {
                            Some(Decision::TakeUp(key.clone()))
                        };
                    }
                }
            }
            Content::Unreadable { uid, wanted, message } => {
                (Refusal::Unreadable(message.clone()), uid, wanted, None)
            }
        };
        let message = refusal.to_string();
        let refused =
            Refused { uid: uid.clone(), wanted: wanted.clone(), candidate: candidate.cloned(), message };
        if self.refused.get(key) == Some(&refused) {
            return None;
        }
        self.refused.insert(key.clone(), refused);
        Some(Decision::Keep(key.clone(), refusal))
    }

    fn refusal(
        &self,
        held: Option<&Version>,
        version: &Version,
        requires: &[String],
        expires: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Refusal> {
        if let Some(held) = held
            && held.uid == version.uid
            && version.generation < held.generation
        {
            return Some(Refusal::OlderGeneration { held: held.generation, found: version.generation });
        }
        let missing: Vec<String> =
            requires.iter().filter(|f| !self.features.contains(&f.as_str())).cloned().collect();
        if !missing.is_empty() {
            return Some(Refusal::Unsupported(missing));
        }
        // What runs already is not taken up anew.
        let anew = !held.is_some_and(|h| h.has_revisions_of(version));
        expires.filter(|at| anew && *at <= now).map(Refusal::Expired)
    }
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
        DesiredSubject::Rule(_) | DesiredSubject::Unsupported(_) => false,
    };
    replaced.then_some(ResyncReason::StreamReplaced)
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod tests;
