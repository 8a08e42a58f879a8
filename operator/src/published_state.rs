//! What is on the bus, as the leader knows it. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use portcullis_bus::{Message, Snapshot, StreamId};
use portcullis_crds::bus::subject::DesiredSubject;
use portcullis_crds::bus::{
    Checkpoint, Desired, DesiredRule, Envelope, ModuleRef, SCHEMA, SetHash, Tombstone,
};
use portcullis_crds::{ModuleDigest, Revision, RuleKey};

use crate::object::Object;

/// What the bus has for one object. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// Uid of the object that it was made from.
    pub(crate) uid: Arc<str>,
    /// Generation of the object that it was made from.
    pub(crate) generation: i64,
    /// Names its effect.
    pub(crate) revision: Revision,
    /// Sequence of the message; an agent that has read this far knows of it.
    pub(crate) sequence: u64,
    /// Never a tombstone.
    pub(crate) desired: Arc<Desired>,
}

/// All objects on one stream.
#[derive(Debug)]
pub(crate) struct PublishedState {
    stream: StreamId,
    entries: BTreeMap<DesiredSubject, Entry>,
    /// Messages that this version cannot read: to be written over, or removed. With the digests in them, which may be
    /// those of modules.
    unreadable: BTreeMap<DesiredSubject, BTreeSet<ModuleDigest>>,
    /// Of the last object or tombstone.
    last_sequence: u64,
    /// Of the rules as they are; made when somebody asks.
    set: OnceLock<SetHash>,
}

/// Something on the bus without an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Orphan {
    /// Where it is.
    pub(crate) subject: DesiredSubject,
    /// Uid of the object that it was made from; `None` if the message cannot be read.
    pub(crate) uid: Option<String>,
}

// === impl Entry ===

impl Entry {
    /// Whether it was made from this object, whichever generation of it.
    pub(crate) fn is_of(&self, uid: &str) -> bool {
        *self.uid == *uid
    }

    /// The rule, if it is one.
    pub(crate) fn rule(&self) -> Option<&DesiredRule> {
        match &*self.desired {
            Desired::Rule(rule) => Some(rule),
            Desired::Tombstone(_) => None,
        }
    }

    /// The module that it names.
    pub(crate) fn module(&self) -> Option<&ModuleRef> {
        self.rule().map(|rule| &rule.module)
    }
}

/// Where a message about this belongs.
pub(crate) fn subject_of(desired: &Desired) -> DesiredSubject {
    match desired {
        Desired::Rule(DesiredRule { key, .. }) | Desired::Tombstone(Tombstone { key }) => {
            DesiredSubject::Rule(key.clone())
        }
    }
}

// === impl PublishedState ===

impl PublishedState {
    /// What a complete read found.
    pub(crate) fn read(cluster: &str, snapshot: &Snapshot) -> Self {
        let mut state = Self {
            stream: snapshot.stream.clone(),
            entries: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            last_sequence: 0,
            set: OnceLock::new(),
        };
        for message in &snapshot.messages {
            if let DesiredSubject::Rule(_) = &message.subject {
                state.last_sequence = state.last_sequence.max(message.sequence);
                state.read_message(cluster, message);
            }
        }
        state
    }

    fn read_message(&mut self, cluster: &str, Message { subject, sequence, payload }: &Message) {
        match Envelope::<Desired>::read(cluster, payload) {
            Ok(Envelope { payload: Desired::Tombstone(_), .. }) => {}
            Ok(Envelope { payload, uid, generation, revision, .. }) if subject_of(&payload) == *subject => {
                let (uid, desired) = (uid.into(), Arc::new(payload));
                let entry = Entry { uid, generation, revision, sequence: *sequence, desired };
                self.entries.insert(subject.clone(), entry);
            }
            Ok(_) => {
                tracing::warn!(%subject, "a message on the bus is about something else than its subject");
                self.unreadable.insert(subject.clone(), digests_in(payload));
            }
            Err(error) => {
                tracing::warn!(%subject, %error, "a message on the bus cannot be read");
                self.unreadable.insert(subject.clone(), digests_in(payload));
            }
        }
    }

    /// Which stream this is about.
    pub(crate) fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Sequence of the last object or tombstone.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// What is on the bus there.
    pub(crate) fn get(&self, subject: &DesiredSubject) -> Option<&Entry> {
        self.entries.get(subject)
    }

    /// The entry that has exactly this.
    pub(crate) fn find_rule(&self, object: Object<'_>, rule: &DesiredRule) -> Option<&Entry> {
        let entry = self.get(&DesiredSubject::Rule(rule.key.clone()))?;
        let has = |found: &DesiredRule| std::ptr::eq(found, rule) || found == rule;
        let is_it =
            entry.is_of(object.uid) && entry.generation == object.generation && entry.rule().is_some_and(has);
        is_it.then_some(entry)
    }

    /// What is on the bus for the rules of a namespace.
    pub(crate) fn rules_of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Entry> {
        let entries = self.entries.range(DesiredSubject::Rule(RuleKey::namespaced(namespace, ""))..);
        let of_namespace = entries.take_while(move |(subject, _)| {
            matches!(subject, DesiredSubject::Rule(key) if key.namespace.as_deref() == Some(namespace))
        });
        of_namespace.map(|(_, entry)| entry)
    }

    /// Whether something names this module.
    pub(crate) fn names(&self, module: &ModuleDigest) -> bool {
        self.entries.values().filter_map(Entry::module).any(|named| named.digest == *module)
    }

    /// The modules that are named, or may be in a message that cannot be read.
    pub(crate) fn modules(&self) -> BTreeSet<ModuleDigest> {
        let named = self.entries.values().filter_map(Entry::module).map(|module| module.digest.clone());
        named.chain(self.unreadable.values().flatten().cloned()).collect()
    }

    /// All that is on the bus.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = Entry> {
        self.entries.into_values()
    }

    /// Something was written. Returns what was there before.
    pub(crate) fn put(&mut self, subject: DesiredSubject, entry: Entry) -> Option<Entry> {
        self.written(&subject, entry.sequence);
        self.entries.insert(subject, entry)
    }

    /// A tombstone was written. Returns what was there before.
    pub(crate) fn remove(&mut self, subject: &DesiredSubject, sequence: u64) -> Option<Entry> {
        self.written(subject, sequence);
        self.entries.remove(subject)
    }

    fn written(&mut self, subject: &DesiredSubject, sequence: u64) {
        self.last_sequence = self.last_sequence.max(sequence);
        self.set = OnceLock::new();
        self.unreadable.remove(subject);
    }

    /// Hash of the rules.
    pub(crate) fn set_hash(&self) -> &SetHash {
        self.set.get_or_init(|| {
            SetHash::of(self.entries.iter().filter_map(|(subject, entry)| match subject {
                DesiredSubject::Rule(key) => Some((key, &*entry.uid, &entry.revision)),
                _ => None,
            }))
        })
    }

    /// What the leader says of the whole set. `unknown` are the uids of rules that are not in it, and of which nodes
    /// keep what they have.
    pub(crate) fn checkpoint(&self, cluster: &str, epoch: u64, unknown: BTreeSet<String>) -> Checkpoint {
        Checkpoint {
            schema: Checkpoint::schema(&unknown),
            cluster: cluster.to_owned(),
            stream: self.stream.to_string(),
            epoch,
            sequence: self.last_sequence,
            count: self.entries.len() as u64,
            set: self.set_hash().clone(),
            unknown,
        }
    }

    /// What is on the bus and whose object, by this list of uids, is gone or is another one.
    pub(crate) fn orphans(&self, objects: &BTreeMap<DesiredSubject, &str>) -> Vec<Orphan> {
        let stale =
            self.entries.iter().filter(|(subject, entry)| objects.get(subject) != Some(&&*entry.uid)).map(
                |(subject, entry)| Orphan { subject: subject.clone(), uid: Some(entry.uid.to_string()) },
            );
        let unreadable = self
            .unreadable
            .keys()
            .filter(|subject| !objects.contains_key(subject))
            .map(|subject| Orphan { subject: subject.clone(), uid: None });
        stale.chain(unreadable).collect()
    }

    /// The tombstone for an orphan; `None` when the bus has something else by now.
    pub(crate) fn tombstone(&self, orphan: &Orphan, cluster: &str, epoch: u64) -> Option<Envelope<Desired>> {
        let DesiredSubject::Rule(key) = &orphan.subject else { return None };
        let (uid, generation, revision) = match (self.get(&orphan.subject), &orphan.uid) {
            (Some(entry), Some(uid)) if entry.is_of(uid) => {
                (uid.clone(), entry.generation, entry.revision.clone())
            }
            (None, None) if self.unreadable.contains_key(&orphan.subject) => {
                (String::new(), 0, Revision::from(String::new()))
            }
            _ => return None,
        };
        Some(Envelope {
            schema: SCHEMA,
            cluster: cluster.to_owned(),
            uid,
            generation,
            revision,
            epoch,
            requires: Vec::new(),
            expires: None,
            payload: Desired::Tombstone(Tombstone { key: key.clone() }),
        })
    }
}

/// Every digest in a text of whatever format.
fn digests_in(payload: &[u8]) -> BTreeSet<ModuleDigest> {
    const PREFIX: &str = "sha256:";
    const LENGTH: usize = PREFIX.len() + 64;
    let text = String::from_utf8_lossy(payload);
    let found = text.match_indices(PREFIX).filter_map(|(at, _)| text.get(at..at + LENGTH)?.parse().ok());
    found.collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;
    use portcullis_crds::bus::{DesiredLimits, ModuleRef};
    use portcullis_crds::wasm_rule::{Block, Isolation, Limits, Mode, OnFailure};

    use super::*;

    const CLUSTER: &str = "cluster";

    pub(crate) fn rule(name: &str) -> DesiredRule {
        DesiredRule {
            key: RuleKey::namespaced("shop", name),
            module: ModuleRef {
                digest: ModuleDigest::of(b"module"),
                size: 6,
                reference: "registry.example/rules/a:1".into(),
                manifest_digest: ModuleDigest::of(b"manifest").to_string(),
            },
            abi: 1,
            config: None,
            isolation: Isolation::PerRequest,
            mode: Mode::Enforce,
            priority: 100,
            limits: DesiredLimits::from(&Limits::default()),
            on_failure: OnFailure::default(),
            block: Block::default(),
        }
    }

    pub(crate) fn entry_of(uid: &str, sequence: u64, rule: DesiredRule) -> Entry {
        let revision = Revision::of(&rule);
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
            subject: subject_of(&entry.desired),
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
        let checkpoint = state.checkpoint(CLUSTER, 4, BTreeSet::new());
        assert_eq!((checkpoint.sequence, checkpoint.count, checkpoint.epoch), (7, 1, 4));
    }

    #[test]
    fn the_checkpoint_follows_every_write() {
        let mut state = state(&[entry("a", "u1", 3)]);
        let before = state.checkpoint(CLUSTER, 1, BTreeSet::new());
        state.put(subject("b"), entry("b", "u2", 5));
        let with_b = state.checkpoint(CLUSTER, 1, BTreeSet::new());
        assert_eq!((with_b.sequence, with_b.count), (5, 2));
        assert_ne!(with_b.set, before.set);
        state.remove(&subject("b"), 6);
        let after = state.checkpoint(CLUSTER, 1, BTreeSet::new());
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
}
