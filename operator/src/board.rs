//! What is on the bus, as the leader knows it. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_bus::{Message, Snapshot, StreamId};
use portcullis_crds::bus::subject::DesiredSubject;
use portcullis_crds::bus::{Checkpoint, Desired, DesiredRule, Envelope, SCHEMA, SetHash, Tombstone};
use portcullis_crds::{ModuleDigest, Revision, RuleKey};

/// One rule on the bus.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// Uid of the object that it was made from.
    pub(crate) uid: String,
    /// Generation of the object that it was made from.
    pub(crate) generation: i64,
    /// Names its effect.
    pub(crate) revision: Revision,
    /// Sequence of the message; an agent that has read this far knows of it.
    pub(crate) sequence: u64,
    /// The rule.
    pub(crate) rule: DesiredRule,
}

/// All rules on one stream.
#[derive(Debug)]
pub(crate) struct Board {
    stream: StreamId,
    rules: BTreeMap<RuleKey, Entry>,
    /// Messages of rules that this version cannot read: to be written over, or removed. With the digests in them, which
    /// may be those of modules.
    unreadable: BTreeMap<RuleKey, BTreeSet<ModuleDigest>>,
    /// Of the last rule or tombstone.
    last_sequence: u64,
    /// Of the rules as they are; made when somebody asks.
    set: Option<SetHash>,
}

// === impl Board ===

impl Board {
    /// Takes over what a complete read found.
    pub(crate) fn adopt(cluster: &str, snapshot: &Snapshot) -> Self {
        let mut board = Self {
            stream: snapshot.stream.clone(),
            rules: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            last_sequence: 0,
            set: None,
        };
        for message in &snapshot.messages {
            if let DesiredSubject::Rule(key) = &message.subject {
                board.last_sequence = board.last_sequence.max(message.sequence);
                board.adopt_rule(cluster, key, message);
            }
        }
        board
    }

    fn adopt_rule(&mut self, cluster: &str, key: &RuleKey, message: &Message) {
        match Envelope::<Desired>::read(cluster, &message.payload) {
            Ok(Envelope { payload: Desired::Rule(rule), uid, generation, revision, .. })
                if rule.key == *key =>
            {
                let entry = Entry { uid, generation, revision, sequence: message.sequence, rule };
                self.rules.insert(key.clone(), entry);
            }
            Ok(Envelope { payload: Desired::Tombstone(_), .. }) => {}
            Ok(_) => {
                tracing::warn!(rule = %key, "a message about another rule is on this rule's subject");
                self.unreadable.insert(key.clone(), digests_in(&message.payload));
            }
            Err(error) => {
                tracing::warn!(rule = %key, %error, "a message on the bus cannot be read");
                self.unreadable.insert(key.clone(), digests_in(&message.payload));
            }
        }
    }

    /// Which stream this is about.
    pub(crate) fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Sequence of the last rule or tombstone.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// What is on the bus for a rule.
    pub(crate) fn get(&self, key: &RuleKey) -> Option<&Entry> {
        self.rules.get(key)
    }

    /// What is on the bus for the rules of a namespace.
    pub(crate) fn of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Entry> {
        let rules = self.rules.range(RuleKey::namespaced(namespace, "")..);
        let of_namespace = rules.take_while(move |(key, _)| key.namespace.as_deref() == Some(namespace));
        of_namespace.map(|(_, entry)| entry)
    }

    /// Whether a rule names this module.
    pub(crate) fn names(&self, module: &ModuleDigest) -> bool {
        self.rules.values().any(|entry| entry.rule.module.digest == *module)
    }

    /// The modules that rules name, or may name in a message that cannot be read.
    pub(crate) fn modules(&self) -> BTreeSet<ModuleDigest> {
        let named = self.rules.values().map(|entry| entry.rule.module.digest.clone());
        named.chain(self.unreadable.values().flatten().cloned()).collect()
    }

    /// All rules.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = Entry> {
        self.rules.into_values()
    }

    /// A rule was written. Returns what was there before.
    pub(crate) fn put(&mut self, entry: Entry) -> Option<Entry> {
        self.last_sequence = self.last_sequence.max(entry.sequence);
        self.set = None;
        self.unreadable.remove(&entry.rule.key);
        self.rules.insert(entry.rule.key.clone(), entry)
    }

    /// A tombstone was written. Returns what was there before.
    pub(crate) fn remove(&mut self, key: &RuleKey, sequence: u64) -> Option<Entry> {
        self.last_sequence = self.last_sequence.max(sequence);
        self.set = None;
        self.unreadable.remove(key);
        self.rules.remove(key)
    }

    /// Hash of the rules.
    pub(crate) fn set_hash(&mut self) -> SetHash {
        let rules = &self.rules;
        self.set
            .get_or_insert_with(|| {
                SetHash::of(rules.iter().map(|(key, e)| (key, e.uid.as_str(), &e.revision)))
            })
            .clone()
    }

    /// What the leader says of the whole set. `unknown` are the uids of rules that are not in it, and of which nodes
    /// keep what they have.
    pub(crate) fn checkpoint(&mut self, cluster: &str, epoch: u64, unknown: BTreeSet<String>) -> Checkpoint {
        Checkpoint {
            schema: Checkpoint::schema(&unknown),
            cluster: cluster.to_owned(),
            stream: self.stream.to_string(),
            epoch,
            sequence: self.last_sequence,
            count: self.rules.len() as u64,
            set: self.set_hash(),
            unknown,
        }
    }

    /// Keys on the bus whose object, by this list of (key, uid), is gone or is another one.
    pub(crate) fn orphans(&self, objects: &BTreeMap<RuleKey, String>) -> Vec<Orphan> {
        let stale = self
            .rules
            .iter()
            .filter(|(key, entry)| objects.get(key) != Some(&entry.uid))
            .map(|(key, entry)| Orphan { key: key.clone(), uid: Some(entry.uid.clone()) });
        let unreadable = self
            .unreadable
            .keys()
            .filter(|key| !objects.contains_key(key))
            .map(|key| Orphan { key: key.clone(), uid: None });
        stale.chain(unreadable).collect()
    }

    /// The tombstone for an orphan; `None` when the bus has something else by now.
    pub(crate) fn tombstone(&self, orphan: &Orphan, cluster: &str, epoch: u64) -> Option<Envelope<Desired>> {
        let (uid, generation, revision) = match (self.rules.get(&orphan.key), &orphan.uid) {
            (Some(entry), Some(uid)) if entry.uid == *uid => {
                (entry.uid.clone(), entry.generation, entry.revision.clone())
            }
            (None, None) if self.unreadable.contains_key(&orphan.key) => {
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
            payload: Desired::Tombstone(Tombstone { key: orphan.key.clone() }),
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

/// Something on the bus without an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Orphan {
    /// Which rule.
    pub(crate) key: RuleKey,
    /// Uid of the object that it was made from; `None` if the message cannot be read.
    pub(crate) uid: Option<String>,
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

    pub(crate) fn entry(name: &str, uid: &str, sequence: u64) -> Entry {
        let rule = rule(name);
        Entry { uid: uid.into(), generation: 1, revision: Revision::of(&rule), sequence, rule }
    }

    fn message(entry: &Entry, payload: Desired) -> Message {
        let envelope = Envelope {
            schema: SCHEMA,
            cluster: CLUSTER.into(),
            uid: entry.uid.clone(),
            generation: entry.generation,
            revision: entry.revision.clone(),
            epoch: 1,
            requires: vec![],
            expires: None,
            payload,
        };
        Message {
            subject: DesiredSubject::Rule(entry.rule.key.clone()),
            sequence: entry.sequence,
            payload: serde_json::to_vec(&envelope).unwrap().into(),
        }
    }

    pub(crate) fn board(entries: &[Entry]) -> Board {
        let messages: Vec<_> = entries.iter().map(|e| message(e, Desired::Rule(e.rule.clone()))).collect();
        let last_sequence = entries.iter().map(|e| e.sequence).max().unwrap_or(0);
        Board::adopt(CLUSTER, &Snapshot { stream: StreamId::from("s1".to_owned()), messages, last_sequence })
    }

    fn objects(list: &[(&str, &str)]) -> BTreeMap<RuleKey, String> {
        list.iter().map(|(name, uid)| (RuleKey::namespaced("shop", *name), (*uid).to_owned())).collect()
    }

    #[test]
    fn what_is_on_the_bus_is_taken_over_without_tombstones() {
        let (a, b) = (entry("a", "u1", 3), entry("b", "u2", 7));
        let tombstone = Desired::Tombstone(Tombstone { key: b.rule.key.clone() });
        let messages = vec![message(&a, Desired::Rule(a.rule.clone())), message(&b, tombstone)];
        let mut board = Board::adopt(
            CLUSTER,
            &Snapshot { stream: StreamId::from("s1".to_owned()), messages, last_sequence: 9 },
        );
        assert_eq!(board.get(&a.rule.key), Some(&a));
        assert_eq!(board.get(&b.rule.key), None);
        let checkpoint = board.checkpoint(CLUSTER, 4, BTreeSet::new());
        assert_eq!((checkpoint.sequence, checkpoint.count, checkpoint.epoch), (7, 1, 4));
    }

    #[test]
    fn the_checkpoint_follows_every_write() {
        let mut board = board(&[entry("a", "u1", 3)]);
        let before = board.checkpoint(CLUSTER, 1, BTreeSet::new());
        board.put(entry("b", "u2", 5));
        let with_b = board.checkpoint(CLUSTER, 1, BTreeSet::new());
        assert_eq!((with_b.sequence, with_b.count), (5, 2));
        assert_ne!(with_b.set, before.set);
        board.remove(&RuleKey::namespaced("shop", "b"), 6);
        let after = board.checkpoint(CLUSTER, 1, BTreeSet::new());
        assert_eq!((after.sequence, after.count, after.set), (6, 1, before.set));
    }

    #[test]
    fn only_what_has_no_object_or_another_one_is_an_orphan() {
        let board = board(&[entry("a", "u1", 1), entry("b", "u2", 2), entry("c", "u3", 3)]);
        let orphans = board.orphans(&objects(&[("a", "u1"), ("b", "other")]));
        let keys: Vec<_> = orphans.iter().map(|o| o.key.name.as_str()).collect();
        assert_eq!(keys, ["b", "c"]);
    }

    #[test]
    fn an_orphan_that_was_written_anew_gets_no_tombstone() {
        let mut board = board(&[entry("a", "u1", 1)]);
        let orphan = board.orphans(&objects(&[])).remove(0);
        let envelope = board.tombstone(&orphan, CLUSTER, 2).unwrap();
        assert_eq!((envelope.uid.as_str(), envelope.epoch), ("u1", 2));
        board.put(entry("a", "u9", 2));
        assert_eq!(board.tombstone(&orphan, CLUSTER, 2), None);
    }

    #[test]
    fn a_message_that_cannot_be_read_is_removed_once_nobody_wants_it() {
        let mut broken = message(&entry("a", "u1", 1), Desired::Rule(rule("a")));
        let named = ModuleDigest::of(b"named");
        broken.payload = Bytes::from(format!(r#"{{"schema": 9, "modules": ["{named}", "sha256:12"]}}"#));
        let snapshot =
            Snapshot { stream: StreamId::from("s1".to_owned()), messages: vec![broken], last_sequence: 1 };
        let board = Board::adopt(CLUSTER, &snapshot);
        assert_eq!(board.modules(), BTreeSet::from([named]), "it may need what it names, and nothing else");
        assert!(board.orphans(&objects(&[("a", "u1")])).is_empty());
        let orphan = board.orphans(&objects(&[])).remove(0);
        assert!(board.tombstone(&orphan, CLUSTER, 2).is_some());
    }
}
