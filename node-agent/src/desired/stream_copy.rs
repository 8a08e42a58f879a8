//! What the stream holds, as far as it was read: the raw material of every decision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_bus::{Message, StreamId};
use portcullis_crds::bus::subject::DesiredSubject;
use portcullis_crds::bus::{Checkpoint, Desired, Envelope, EnvelopeError, EpochRecord, SetHash, SetRecord};
use portcullis_crds::revision::Revision;
use portcullis_crds::route_key::RouteKey;
use portcullis_crds::rule_key::RuleKey;
use serde_json::Value;

use super::fence::Fence;
use super::version::{ObjectVersion, RouteVersion, Version, rows};

/// What is under one object's subject.
#[derive(Clone, Debug)]
pub struct Entry<V> {
    /// Its sequence.
    pub sequence: u64,
    /// What it says.
    pub content: Content<V>,
}

/// The three things that an object's subject can hold.
#[derive(Clone, Debug)]
pub enum Content<V> {
    /// A version to take up, with what it asks of an agent.
    Wanted {
        /// The version.
        version: Arc<V>,
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
    /// The entry of this route is new.
    Route(RouteKey),
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
    pub rules: BTreeMap<RuleKey, Entry<Version>>,
    /// One entry a route.
    pub routes: BTreeMap<RouteKey, Entry<RouteVersion>>,
    /// Subjects of kinds that this version does not know, at most [`UNSUPPORTED_MAX`].
    pub unsupported: BTreeSet<String>,
}

/// Unsupported subjects that are remembered.
const UNSUPPORTED_MAX: usize = 1000;

impl StreamCopy {
    /// An empty copy of this stream. `fence` is what is known of its epochs from an earlier read.
    pub fn new(stream: StreamId, fence: Fence) -> Self {
        Self {
            stream,
            cursor: 0,
            fence,
            rules: BTreeMap::new(),
            routes: BTreeMap::new(),
            unsupported: BTreeSet::new(),
        }
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
            DesiredSubject::Rule(key) => match self.read(cluster, key, message) {
                Ok(entry) => {
                    self.rules.insert(key.clone(), entry);
                    Noted::Rule(key.clone())
                }
                Err(why) => refused(message, why),
            },
            DesiredSubject::Route(key) => match self.read(cluster, key, message) {
                Ok(entry) => {
                    self.routes.insert(key.clone(), entry);
                    Noted::Route(key.clone())
                }
                Err(why) => refused(message, why),
            },
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

    /// Number and hash of the rules in it; `None` while something in it cannot be read.
    pub fn rule_set(&self) -> Option<SetRecord> {
        let versions = wanted(&self.rules)?;
        let rows = versions.iter().flat_map(|v| rows(v.key(), v.uid(), v.revisions()));
        Some(SetRecord { count: versions.len() as u64, set: SetHash::of(rows) })
    }

    /// Number and hash of the routes in it; `None` while something in it cannot be read.
    pub fn route_set(&self) -> Option<SetRecord> {
        let versions = wanted(&self.routes)?;
        let rows = versions.iter().map(|v| (v.key(), v.uid(), &v.revision));
        Some(SetRecord { count: versions.len() as u64, set: SetHash::of_routes(rows) })
    }

    /// Sequence of the last rule, route or tombstone in it.
    pub fn object_sequence(&self) -> u64 {
        let rules = self.rules.values().map(|entry| entry.sequence);
        rules.chain(self.routes.values().map(|entry| entry.sequence)).max().unwrap_or(0)
    }

    /// What `checkpoint` says about this copy.
    pub fn compare(&self, checkpoint: &Checkpoint) -> Comparison {
        if checkpoint.stream != self.stream.as_str() {
            return Comparison::OtherStream;
        }
        if self.object_sequence() > checkpoint.sequence {
            // Written before the last objects; the next checkpoint covers them.
            return Comparison::Outdated;
        }
        // A kind about which the checkpoint says nothing cannot differ.
        let routes = checkpoint.routes.as_ref().map(|said| (self.route_set(), said));
        let said = SetRecord { count: checkpoint.count, set: checkpoint.set.clone() };
        let compared: Vec<_> = [(self.rule_set(), &said)].into_iter().chain(routes).collect();
        if compared.iter().any(|(found, _)| found.is_none()) {
            Comparison::Unreadable
        } else if compared.iter().all(|(found, said)| found.as_ref() == Some(said)) {
            Comparison::Complete
        } else {
            Comparison::Differs
        }
    }

    /// Reads what stands under the subject of an object; or says why it may not stand there.
    fn read<V: ObjectVersion>(
        &mut self,
        cluster: &str,
        key: &V::Key,
        message: &Message,
    ) -> Result<Entry<V>, String> {
        let content = match Envelope::<Desired>::read(cluster, &message.payload) {
            Ok(envelope) => {
                if !self.fence.admits(envelope.epoch, message.sequence) {
                    return Err(self.stale(envelope.epoch));
                }
                self.fence.raise(envelope.epoch, message.sequence);
                content(key, message.sequence, envelope)
            }
            // Not this cluster's: as if it were not there.
            Err(e @ EnvelopeError::OtherCluster { .. }) => return Err(e.to_string()),
            Err(e) => unreadable(&message.payload, e.to_string()),
        };
        Ok(Entry { sequence: message.sequence, content })
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
    /// The checkpoint was written before the last objects.
    Outdated,
    /// Something in the copy cannot be read, so it cannot be compared.
    Unreadable,
    /// The checkpoint is about another stream.
    OtherStream,
}

fn refused(message: &Message, why: String) -> Noted {
    Noted::Refused(message.subject.clone(), why)
}

/// The versions of one kind; `None` if something cannot be read.
fn wanted<V: ObjectVersion>(entries: &BTreeMap<V::Key, Entry<V>>) -> Option<Vec<&V>> {
    let mut versions = Vec::with_capacity(entries.len());
    for entry in entries.values() {
        match &entry.content {
            Content::Wanted { version, .. } => versions.push(&**version),
            Content::Tombstone { .. } => {}
            Content::Unreadable { .. } => return None,
        }
    }
    Some(versions)
}

fn content<V: ObjectVersion>(key: &V::Key, sequence: u64, envelope: Envelope<Desired>) -> Content<V> {
    let (expected, found) = (V::subject(key), envelope.payload.subject());
    if found != expected {
        let message = format!("expected {expected} under its own subject, found {found}");
        return Content::Unreadable { uid: envelope.uid, wanted: envelope.revision, message };
    }
    let (uid, requires, expires) = (envelope.uid.clone(), envelope.requires.clone(), envelope.expires);
    match V::of(envelope, sequence) {
        Some(version) => Content::Wanted { version: Arc::new(version), requires, expires },
        None => Content::Tombstone { uid },
    }
}

/// Reads what can be read, so that the report names the revision.
fn unreadable<V>(payload: &[u8], message: String) -> Content<V> {
    let json: Value = serde_json::from_slice(payload).unwrap_or_default();
    let text = |field: &str| json[field].as_str().unwrap_or("unknown").to_owned();
    Content::Unreadable { uid: text("uid"), wanted: Revision::from(text("revision")), message }
}
