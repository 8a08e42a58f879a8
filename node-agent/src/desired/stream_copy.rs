//! What the stream holds, as far as it was read: the raw material of every decision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_bus::{Message, StreamId};
use portcullis_crds::bus::subject::DesiredSubject;
use portcullis_crds::bus::{Checkpoint, Desired, Envelope, EnvelopeError, EpochRecord, SetHash};
use portcullis_crds::revision::Revision;
use portcullis_crds::rule_key::RuleKey;
use serde_json::Value;

use super::fence::Fence;
use super::version::{Version, rows};

/// What is under one rule's subject.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its sequence.
    pub sequence: u64,
    /// What it says.
    pub content: Content,
}

/// The three things that a rule's subject can hold.
#[derive(Clone, Debug)]
pub enum Content {
    /// A version to run, with what it asks of an agent.
    Rule {
        /// The version.
        version: Arc<Version>,
        /// Features that it requires.
        requires: Vec<String>,
        /// After this moment it must not be taken up anew.
        expires: Option<jiff::Timestamp>,
    },
    /// The object with this uid was deleted.
    Tombstone {
        /// Uid of the object.
        uid: String,
    },
    /// Something that this version cannot read.
    Unreadable {
        /// Uid, as far as it could be read.
        uid: String,
        /// Revision, as far as it could be read.
        wanted: Revision,
        /// Why it cannot be read.
        message: String,
    },
}

/// What one message did to the copy.
#[derive(Debug, PartialEq)]
pub enum Noted {
    /// The entry of this rule is new.
    Rule(RuleKey),
    /// The leader described the whole set.
    Checkpoint(Checkpoint),
    /// A new epoch, or nothing that changes the set.
    Nothing,
    /// The first message under a subject of a kind that this version does not know.
    Unsupported(String),
    /// Not accepted; the entry before it stands.
    Refused(DesiredSubject, String),
}

/// The stream, as far as it was read without a gap.
#[derive(Clone, Debug)]
pub struct StreamCopy {
    /// Which stream.
    pub stream: StreamId,
    /// Everything up to here was read.
    pub cursor: u64,
    /// Highest epoch in it.
    pub fence: Fence,
    /// One entry a rule.
    pub entries: BTreeMap<RuleKey, Entry>,
    /// Subjects of kinds that this version does not know, at most [`UNSUPPORTED_MAX`].
    pub unsupported: BTreeSet<String>,
}

/// Unsupported subjects that are remembered.
const UNSUPPORTED_MAX: usize = 1000;

impl StreamCopy {
    /// An empty copy of this stream. `fence` is what is known of its epochs from an earlier read.
    pub fn new(stream: StreamId, fence: Fence) -> Self {
        Self { stream, cursor: 0, fence, entries: BTreeMap::new(), unsupported: BTreeSet::new() }
    }

    /// Takes the next message. The caller has checked that it is the next one.
    pub fn note(&mut self, cluster: &str, message: &Message) -> Noted {
        self.cursor = self.cursor.max(message.sequence);
        match &message.subject {
            DesiredSubject::Epoch => match serde_json::from_slice::<EpochRecord>(&message.payload) {
                Ok(record) if record.cluster == cluster => self.fenced(record.epoch, message, Noted::Nothing),
                Ok(record) => refused(
                    message,
                    format!("expected the epoch of cluster {cluster}, found that of {}", record.cluster),
                ),
                Err(e) => refused(message, format!("expected an epoch record, found something else: {e}")),
            },
            DesiredSubject::Checkpoint => match serde_json::from_slice::<Checkpoint>(&message.payload) {
                Ok(checkpoint) if checkpoint.cluster != cluster => refused(
                    message,
                    format!(
                        "expected a checkpoint of cluster {cluster}, found one of {}",
                        checkpoint.cluster
                    ),
                ),
                Ok(checkpoint) if !checkpoint.is_understood() => refused(
                    message,
                    format!(
                        "expected a checkpoint in a schema that this version knows, found schema {}: upgrade this agent",
                        checkpoint.schema
                    ),
                ),
                Ok(checkpoint) => self.fenced(checkpoint.epoch, message, Noted::Checkpoint(checkpoint)),
                Err(e) => refused(message, format!("expected a checkpoint, found something else: {e}")),
            },
            DesiredSubject::Rule(key) => self.note_rule(cluster, key, message),
            // It has no say in what rules should run. Its sequence counts, or the next message would look like a gap.
            DesiredSubject::Unsupported(subject) => {
                let room = self.unsupported.len() < UNSUPPORTED_MAX;
                if room && self.unsupported.insert(subject.clone()) {
                    Noted::Unsupported(subject.clone())
                } else {
                    Noted::Nothing
                }
            }
        }
    }

    /// Hash and number of the rules in it; `None` while something in it cannot be read.
    pub fn set(&self) -> Option<(u64, SetHash)> {
        let mut rules = Vec::new();
        for (key, entry) in &self.entries {
            match &entry.content {
                Content::Rule { version, .. } => rules.push((key, version)),
                Content::Tombstone { .. } => {}
                Content::Unreadable { .. } => return None,
            }
        }
        let count = rules.len() as u64;
        let rows = rules.into_iter().flat_map(|(key, version)| rows(key, &version.uid, version.revisions()));
        Some((count, SetHash::of(rows)))
    }

    /// Sequence of the last rule or tombstone in it.
    pub fn rule_sequence(&self) -> u64 {
        self.entries.values().map(|e| e.sequence).max().unwrap_or(0)
    }

    /// What `checkpoint` says about this copy.
    pub fn compare(&self, checkpoint: &Checkpoint) -> Comparison {
        if checkpoint.stream != self.stream.as_str() {
            return Comparison::OtherStream;
        }
        if self.rule_sequence() > checkpoint.sequence {
            // Written before the last rules; the next checkpoint covers them.
            return Comparison::Outdated;
        }
        match self.set() {
            None => Comparison::Unreadable,
            Some((count, hash)) if count == checkpoint.count && hash == checkpoint.set => {
                Comparison::Complete
            }
            Some(_) => Comparison::Differs,
        }
    }

    fn note_rule(&mut self, cluster: &str, key: &RuleKey, message: &Message) -> Noted {
        let content = match Envelope::<Desired>::read(cluster, &message.payload) {
            Ok(envelope) => {
                if !self.fence.admits(envelope.epoch, message.sequence) {
                    return refused(message, self.stale(envelope.epoch));
                }
                self.fence.raise(envelope.epoch, message.sequence);
                content(key, message.sequence, envelope)
            }
            // Not this cluster's: as if it were not there.
            Err(e @ EnvelopeError::OtherCluster { .. }) => return refused(message, e.to_string()),
            Err(e) => unreadable(&message.payload, e.to_string()),
        };
        self.entries.insert(key.clone(), Entry { sequence: message.sequence, content });
        Noted::Rule(key.clone())
    }

    fn fenced(&mut self, epoch: u64, message: &Message, accepted: Noted) -> Noted {
        if !self.fence.admits(epoch, message.sequence) {
            return refused(message, self.stale(epoch));
        }
        self.fence.raise(epoch, message.sequence);
        accepted
    }

    fn stale(&self, epoch: u64) -> String {
        format!(
            "expected epoch {} or later, found {epoch}: written by an operator that no longer leads",
            self.fence.epoch
        )
    }
}

/// What a checkpoint says about a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The copy is complete: what is not in it does not exist.
    Complete,
    /// The copy lacks something, or has too much.
    Differs,
    /// The checkpoint was written before the last rules.
    Outdated,
    /// Something in the copy cannot be read, so it cannot be compared.
    Unreadable,
    /// The checkpoint is about another stream.
    OtherStream,
}

fn refused(message: &Message, why: String) -> Noted {
    Noted::Refused(message.subject.clone(), why)
}

fn content(key: &RuleKey, sequence: u64, envelope: Envelope<Desired>) -> Content {
    let Envelope { uid, generation, revision, epoch, requires, expires, payload, .. } = envelope;
    let named = match &payload {
        Desired::Rule(rule) => &rule.key,
        Desired::Tombstone(tombstone) => &tombstone.key,
    };
    if named != key {
        let message = format!("expected rule {key} under its own subject, found {named}");
        return Content::Unreadable { uid, wanted: revision, message };
    }
    match payload {
        Desired::Tombstone(_) => Content::Tombstone { uid },
        Desired::Rule(rule) => Content::Rule {
            version: Arc::new(Version { uid, generation, revision, epoch, sequence, rule }),
            requires,
            expires,
        },
    }
}

/// Reads what can be read, so that the report names the revision.
fn unreadable(payload: &[u8], message: String) -> Content {
    let json: Value = serde_json::from_slice(payload).unwrap_or_default();
    let text = |field: &str| json[field].as_str().unwrap_or("unknown").to_owned();
    Content::Unreadable { uid: text("uid"), wanted: Revision::from(text("revision")), message }
}
