//! What is on the bus, as the leader knows it. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use portcullis_bus::{Message, Snapshot, StreamId};
use portcullis_crds::bus::subject::DesiredSubject;
use portcullis_crds::bus::{
    Checkpoint, Desired, DesiredRoute, DesiredRule, Envelope, ModuleRef, RouteTombstone, SCHEMA, SetHash,
    SetRecord, Tombstone,
};
use portcullis_crds::status::EnforcedRevision;
use portcullis_crds::{ModuleDigest, Revision, RouteKey, RuleKey};

use crate::object::Object;

/// What the bus has for one object. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// Uid of the object that it was made from.
    pub(crate) uid: Arc<str>,
    /// Generation of the object that it was made from.
    pub(crate) generation: i64,
    /// Names the effect of it, of a rule that of its stable revision.
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
    /// The same of the routes.
    route_set: OnceLock<SetHash>,
}

/// What may be missing on the bus although it exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gaps {
    /// Uids of rules that are not on it, and of which nodes keep what they have.
    pub(crate) unknown_rules: BTreeSet<String>,
    /// The stream that has all routes; `None` if no stream is known to.
    pub(crate) routes_on: Option<StreamId>,
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
            Desired::Tombstone(_) | Desired::Route(_) | Desired::RouteTombstone(_) => None,
        }
    }

    /// The route, if it is one.
    pub(crate) fn route(&self) -> Option<&DesiredRoute> {
        match &*self.desired {
            Desired::Route(route) => Some(route),
            Desired::Rule(_) | Desired::Tombstone(_) | Desired::RouteTombstone(_) => None,
        }
    }

    /// How a status names it.
    pub(crate) fn enforced(&self) -> EnforcedRevision {
        EnforcedRevision {
            revision: self.revision.to_string(),
            module_digest: self.module().map(|module| module.digest.to_string()).unwrap_or_default(),
        }
    }

    /// The module of its stable revision.
    pub(crate) fn module(&self) -> Option<&ModuleRef> {
        self.modules().next()
    }

    /// The modules that it names: that of the stable revision, then that of the candidate.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &ModuleRef> {
        self.rule().into_iter().flat_map(DesiredRule::specs).map(|spec| &spec.module)
    }

    /// Name of its candidate, if it has one.
    pub(crate) fn candidate(&self) -> Option<&Revision> {
        self.rule().and_then(DesiredRule::candidate_revision)
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
            route_set: OnceLock::new(),
        };
        for message in &snapshot.messages {
            if let DesiredSubject::Rule(_) | DesiredSubject::Route(_) = &message.subject {
                state.last_sequence = state.last_sequence.max(message.sequence);
                state.read_message(cluster, message);
            }
        }
        state
    }

    fn read_message(&mut self, cluster: &str, Message { subject, sequence, payload }: &Message) {
        match Envelope::<Desired>::read(cluster, payload) {
            Ok(Envelope { payload: Desired::Tombstone(_) | Desired::RouteTombstone(_), .. }) => {}
            Ok(Envelope { payload, uid, generation, revision, .. }) if payload.subject() == *subject => {
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

    /// What is on the bus of routes.
    pub(crate) fn routes(&self) -> impl Iterator<Item = (&RouteKey, &Entry)> {
        self.entries.iter().filter_map(|(subject, entry)| match subject {
            DesiredSubject::Route(key) => Some((key, entry)),
            _ => None,
        })
    }

    /// Messages about routes that this version cannot read.
    pub(crate) fn unreadable_routes(&self) -> impl Iterator<Item = &DesiredSubject> {
        self.unreadable.keys().filter(|subject| matches!(subject, DesiredSubject::Route(_)))
    }

    /// Whether something names this module.
    pub(crate) fn names(&self, module: &ModuleDigest) -> bool {
        self.entries.values().flat_map(Entry::modules).any(|named| named.digest == *module)
    }

    /// The modules that are named, or may be in a message that cannot be read.
    pub(crate) fn modules(&self) -> BTreeSet<ModuleDigest> {
        let named = self.entries.values().flat_map(Entry::modules).map(|module| module.digest.clone());
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
        match subject {
            DesiredSubject::Route(_) => self.route_set = OnceLock::new(),
            _ => self.set = OnceLock::new(),
        }
        self.unreadable.remove(subject);
    }

    /// Hash of the rules.
    pub(crate) fn set_hash(&self) -> &SetHash {
        self.set.get_or_init(|| {
            let rules = self.entries.iter().filter_map(|(subject, entry)| match subject {
                DesiredSubject::Rule(key) => Some((key, entry)),
                _ => None,
            });
            SetHash::of(rules.flat_map(|(key, entry)| {
                let revisions = std::iter::once(&entry.revision).chain(entry.candidate());
                revisions.map(move |revision| (key, &*entry.uid, revision))
            }))
        })
    }

    /// Hash of the routes.
    pub(crate) fn route_set_hash(&self) -> &SetHash {
        self.route_set.get_or_init(|| {
            SetHash::of_routes(self.routes().map(|(key, entry)| (key, &*entry.uid, &entry.revision)))
        })
    }

    /// What the leader says of the whole set.
    pub(crate) fn checkpoint(&self, cluster: &str, epoch: u64, gaps: Gaps) -> Checkpoint {
        let Gaps { unknown_rules: unknown, routes_on } = gaps;
        let routes = self.routes().count() as u64;
        // Before they have all been written to this stream, one that is not there may exist all the same.
        let are_complete = routes_on.as_ref() == Some(&self.stream);
        let record = SetRecord { count: routes, set: self.route_set_hash().clone() };
        let has_candidates = self.entries.values().any(|entry| entry.candidate().is_some());
        Checkpoint {
            schema: Checkpoint::schema(&unknown, has_candidates),
            cluster: cluster.to_owned(),
            stream: self.stream.to_string(),
            epoch,
            sequence: self.last_sequence,
            count: self.entries.len() as u64 - routes,
            set: self.set_hash().clone(),
            unknown,
            routes: Some(record).filter(|_| are_complete),
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
        let payload = match &orphan.subject {
            DesiredSubject::Rule(key) => Desired::Tombstone(Tombstone { key: key.clone() }),
            DesiredSubject::Route(key) => Desired::RouteTombstone(RouteTombstone { key: key.clone() }),
            DesiredSubject::Checkpoint | DesiredSubject::Epoch | DesiredSubject::Unsupported(_) => {
                return None;
            }
        };
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
            payload,
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
pub(crate) mod tests;
