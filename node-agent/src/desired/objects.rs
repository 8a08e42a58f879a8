//! The objects of one kind: what is held of them, and what was refused. No I/O and no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use portcullis_crds::bus::missing_features;

use super::decision::{Decision, Refusal};
use super::stream_copy::{Content, Entry};
use super::version::{ObjectVersion, Refused};

/// Whether an entry may be older than what is held.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Order {
    /// It may, and then has no say.
    BySequence,
    /// It may not: the copy is complete.
    None,
}

/// See the module.
pub(super) struct Objects<V: ObjectVersion> {
    pub(super) held: BTreeMap<V::Key, Arc<V>>,
    pub(super) refused: BTreeMap<V::Key, Refused>,
    /// Held without being in the copy, because the leader does not know what should run of them.
    pub(super) kept: BTreeSet<V::Key>,
}

/// What the stream has of one kind.
pub(super) type Entries<V> = BTreeMap<<V as ObjectVersion>::Key, Entry<V>>;

impl<V: ObjectVersion> Objects<V> {
    pub(super) fn new(held: BTreeMap<V::Key, Arc<V>>) -> Self {
        Self { held, refused: BTreeMap::new(), kept: BTreeSet::new() }
    }

    /// Takes up what the copy has; what it has not stays.
    pub(super) fn merge(
        &mut self,
        entries: &Entries<V>,
        order: Order,
        features: &[&str],
        now: Timestamp,
    ) -> Vec<Decision> {
        self.refused.retain(|key, _| entries.contains_key(key));
        entries.iter().filter_map(|(key, entry)| self.offer(key, entry, order, features, now)).collect()
    }

    /// The copy is complete: what it has not is gone, but for what `is_unknown` to the leader.
    pub(super) fn drop_missing(
        &mut self,
        entries: &Entries<V>,
        is_unknown: impl Fn(&V) -> bool,
    ) -> Vec<Decision> {
        let exists = |key: &V::Key| {
            entries.get(key).is_some_and(|entry| !matches!(entry.content, Content::Tombstone { .. }))
        };
        let is_deleted = |key: &V::Key, held: &V| {
            let entry = entries.get(key).map(|entry| &entry.content);
            matches!(entry, Some(Content::Tombstone { uid }) if *uid == held.uid())
        };
        self.kept.clear();
        let mut gone = Vec::new();
        for (key, held) in self.held.iter_mut().filter(|(key, _)| !exists(key)) {
            if is_unknown(held) && !is_deleted(key, held) {
                self.kept.insert(key.clone());
                // Its sequence may be another stream's, and must not stand against what is put back.
                if held.sequence() > 0 {
                    *held = Arc::new(held.at(0));
                }
            } else {
                gone.push(key.clone());
            }
        }
        for key in &gone {
            self.held.remove(key);
        }
        gone.iter().map(|key| Decision::Drop(V::subject(key))).collect()
    }

    /// Decides about one entry of the copy.
    pub(super) fn offer(
        &mut self,
        key: &V::Key,
        entry: &Entry<V>,
        order: Order,
        features: &[&str],
        now: Timestamp,
    ) -> Option<Decision> {
        let held = self.held.get(key).cloned();
        if order == Order::BySequence && held.as_ref().is_some_and(|h| entry.sequence < h.sequence()) {
            return None;
        }
        let (refusal, uid, wanted, candidate) = match &entry.content {
            Content::Tombstone { uid } => {
                self.refused.remove(key);
                self.kept.remove(key);
                return match held {
                    Some(held) if held.uid() == *uid => {
                        self.held.remove(key);
                        Some(Decision::Drop(V::subject(key)))
                    }
                    Some(_) => Some(Decision::Keep(V::subject(key), Refusal::OtherUid(uid.clone()))),
                    None => None,
                };
            }
            Content::Wanted { version, requires, expires } => {
                match refusal(held.as_deref(), &**version, (requires, features), *expires, now) {
                    Some(refusal) => {
                        let (stable, candidate) = version.revisions();
                        (refusal, version.uid(), stable, candidate)
                    }
                    None => {
                        self.refused.remove(key);
                        self.kept.remove(key);
                        self.held.insert(key.clone(), version.clone());
                        let is_same = |h: Arc<V>| {
                            h.generation() == version.generation() && h.asks_for_the_same_as(version)
                        };
                        return if held.is_some_and(is_same) {
                            None
                        } else {
                            Some(Decision::TakeUp(V::subject(key)))
                        };
                    }
                }
            }
            Content::Unreadable { uid, wanted, message } => {
                (Refusal::Unreadable(message.clone()), uid.as_str(), wanted, None)
            }
        };
        let message = refusal.to_string();
        let refused =
            Refused { uid: uid.to_owned(), wanted: wanted.clone(), candidate: candidate.cloned(), message };
        if self.refused.get(key) == Some(&refused) {
            return None;
        }
        self.refused.insert(key.clone(), refused);
        Some(Decision::Keep(V::subject(key), refusal))
    }
}

fn refusal<V: ObjectVersion>(
    held: Option<&V>,
    version: &V,
    (requires, features): (&[String], &[&str]),
    expires: Option<Timestamp>,
    now: Timestamp,
) -> Option<Refusal> {
    if let Some(held) = held
        && held.uid() == version.uid()
        && version.generation() < held.generation()
    {
        return Some(Refusal::OlderGeneration { held: held.generation(), found: version.generation() });
    }
    let missing = missing_features(requires, features);
    if !missing.is_empty() {
        return Some(Refusal::Unsupported(missing));
    }
    // What runs already is not taken up anew.
    let anew = !held.is_some_and(|h| h.has_revisions_of(version));
    expires.filter(|at| anew && *at <= now).map(Refusal::Expired)
}
