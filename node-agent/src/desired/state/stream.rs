//! The stream as the server and a leader make it, for tests.

use std::collections::BTreeMap;

use bytes::Bytes;
use portcullis_bus::{Message, Snapshot};
use portcullis_crds::bus::subject::DesiredSubject;
use portcullis_crds::bus::{
    Checkpoint, Desired as Wanted, DesiredRoute, Envelope, EpochRecord, RouteTombstone, SCHEMA, SetHash,
    SetRecord, Tombstone,
};
use portcullis_crds::revision::Revision;
use portcullis_crds::route_key::RouteKey;
use portcullis_crds::rule_key::RuleKey;
use portcullis_crds::waf_route::AmbiguousPaths;

use super::{Desired, State, Timestamp};
use crate::desired::Version;
use crate::desired::tests::a_version;

pub(super) const CLUSTER: &str = "c";
pub(super) const FEATURES: &[&str] = &["abi/1", "route"];

/// The stream as the server and a leader make it.
#[derive(Clone)]
pub(super) struct Stream {
    pub(super) id: String,
    pub(super) epoch: u64,
    pub(super) last: u64,
    /// One message a subject.
    pub(super) messages: BTreeMap<String, Message>,
    /// Heard by whoever listens.
    pub(super) heard: Vec<Message>,
    /// What the leader wants: object and generation.
    pub(super) rules: BTreeMap<RuleKey, (String, i64)>,
    /// Rules of the leader that are not in the stream (any more).
    pub(super) unpublished: Vec<RuleKey>,
    /// What the leader wants of routes: object and generation.
    pub(super) routes: BTreeMap<RouteKey, (String, i64)>,
    /// Routes of the leader that are not in the stream (any more).
    pub(super) unpublished_routes: Vec<RouteKey>,
}

impl Stream {
    pub(super) fn new(id: &str) -> Self {
        let mut stream = Self {
            id: id.to_owned(),
            epoch: 0,
            last: 0,
            messages: BTreeMap::new(),
            heard: Vec::new(),
            rules: BTreeMap::new(),
            unpublished: Vec::new(),
            routes: BTreeMap::new(),
            unpublished_routes: Vec::new(),
        };
        stream.new_epoch();
        stream
    }

    pub(super) fn accept(&mut self, subject: DesiredSubject, payload: impl serde::Serialize) -> Message {
        self.last += 1;
        let payload = Bytes::from(serde_json::to_vec(&payload).unwrap());
        let message = Message { subject, sequence: self.last, payload };
        self.messages.insert(format!("{:?}", message.subject), message.clone());
        self.heard.push(message.clone());
        message
    }

    pub(super) fn new_epoch(&mut self) -> Message {
        self.epoch += 1;
        let record =
            EpochRecord { schema: SCHEMA, cluster: CLUSTER.into(), epoch: self.epoch, holder: "o".into() };
        self.accept(DesiredSubject::Epoch, record)
    }

    pub(super) fn envelope(&self, uid: &str, version: &Version, payload: Wanted) -> Envelope<Wanted> {
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

    pub(super) fn write_envelope(&mut self, key: &RuleKey, envelope: Envelope<Wanted>) -> Message {
        self.accept(DesiredSubject::Rule(key.clone()), envelope)
    }

    pub(super) fn publish(&mut self, name: &str, uid: &str, generation: i64) -> Message {
        let version = a_version("shop", name, generation);
        let key = version.rule.key.clone();
        self.rules.insert(key.clone(), (uid.to_owned(), generation));
        let envelope = self.envelope(uid, &version, Wanted::Rule(version.rule.clone()));
        self.write_envelope(&key, envelope)
    }

    pub(super) fn delete(&mut self, name: &str, uid: &str) -> Message {
        let version = a_version("shop", name, 1);
        let key = version.rule.key.clone();
        self.rules.remove(&key);
        let envelope = self.envelope(uid, &version, Wanted::Tombstone(Tombstone { key: key.clone() }));
        self.write_envelope(&key, envelope)
    }

    pub(super) fn publish_route(&mut self, name: &str, uid: &str, generation: i64) -> Message {
        let route = a_route(name, generation);
        self.routes.insert(route.key.clone(), (uid.to_owned(), generation));
        let revision = route.revision();
        self.write_route(uid, generation, &revision, Wanted::Route(route))
    }

    pub(super) fn delete_route(&mut self, name: &str, uid: &str) -> Message {
        let route = a_route(name, 1);
        self.routes.remove(&route.key);
        let tombstone = Wanted::RouteTombstone(RouteTombstone { key: route.key.clone() });
        self.write_route(uid, 1, &route.revision(), tombstone)
    }

    fn write_route(&mut self, uid: &str, generation: i64, revision: &Revision, payload: Wanted) -> Message {
        let version = Version { generation, revision: revision.clone(), ..a_version("shop", "any", 1) };
        let subject = payload.subject();
        let envelope = self.envelope(uid, &version, payload);
        self.accept(subject, envelope)
    }

    /// A message is gone without a trace, as by its time to live.
    pub(super) fn forget(&mut self, name: &str) {
        self.messages.remove(&format!("{:?}", DesiredSubject::Rule(key(name))));
    }

    /// Of the rules that the stream does not have, nobody knows what should run.
    pub(super) fn checkpoint(&mut self) -> Message {
        let (published, lost): (Vec<_>, Vec<_>) = self.rules.iter().partition(|(key, _)| {
            self.messages.contains_key(&format!("{:?}", DesiredSubject::Rule((*key).clone())))
        });
        let unknown = lost.into_iter().map(|(_, (uid, _))| uid.clone()).collect();
        let revisions: Vec<(RuleKey, String, Revision)> = published
            .into_iter()
            .map(|(key, (uid, generation))| {
                (key.clone(), uid.clone(), a_version("shop", &key.name, *generation).revision)
            })
            .collect();
        let routes: Vec<(RouteKey, String, Revision)> = self
            .routes
            .iter()
            .map(|(key, (uid, generation))| {
                (key.clone(), uid.clone(), a_route(&key.name, *generation).revision())
            })
            .collect();
        let record = SetRecord {
            count: routes.len() as u64,
            set: SetHash::of_routes(routes.iter().map(|(key, uid, revision)| (key, uid.as_str(), revision))),
        };
        let checkpoint = Checkpoint {
            schema: Checkpoint::schema(&unknown, false),
            cluster: CLUSTER.into(),
            stream: self.id.clone(),
            epoch: self.epoch,
            sequence: self.last,
            count: revisions.len() as u64,
            set: SetHash::of(revisions.iter().map(|(key, uid, revision)| (key, uid.as_str(), revision))),
            unknown,
            routes: Some(record).filter(|_| self.unpublished_routes.is_empty()),
        };
        self.accept(DesiredSubject::Checkpoint, checkpoint)
    }

    pub(super) fn read(&self) -> Snapshot {
        let mut messages: Vec<_> = self.messages.values().cloned().collect();
        messages.sort_by_key(|m| m.sequence);
        Snapshot { stream: self.id.clone().into(), messages, last_sequence: self.last }
    }

    /// Another stream in its place: the same objects, none of them published yet.
    pub(super) fn wiped(&self, id: &str) -> Self {
        let (rules, routes) = (self.rules.clone(), self.routes.clone());
        Self {
            unpublished: rules.keys().cloned().collect(),
            unpublished_routes: routes.keys().cloned().collect(),
            rules,
            routes,
            ..Self::new(id)
        }
    }

    /// The leader publishes everything that is not there, from its own record.
    pub(super) fn republish(&mut self) -> Vec<Message> {
        let missing = std::mem::take(&mut self.unpublished);
        let wanted: Vec<_> = missing
            .into_iter()
            .filter_map(|key| Some((key.name.clone(), self.rules.get(&key)?.clone())))
            .collect();
        let mut written: Vec<_> =
            wanted.iter().map(|(name, (uid, generation))| self.publish(name, uid, *generation)).collect();
        for key in std::mem::take(&mut self.unpublished_routes) {
            if let Some((uid, generation)) = self.routes.get(&key).cloned() {
                written.push(self.publish_route(&key.name, &uid, generation));
            }
        }
        written
    }
}

pub(super) fn key(name: &str) -> RuleKey {
    RuleKey::namespaced("shop", name)
}

pub(super) fn subject(name: &str) -> DesiredSubject {
    DesiredSubject::Rule(key(name))
}

pub(super) fn route_key(name: &str) -> RouteKey {
    RouteKey::new("shop", name)
}

/// A route whose host name follows from its generation.
fn a_route(name: &str, generation: i64) -> DesiredRoute {
    DesiredRoute {
        key: route_key(name),
        hostnames: vec![format!("{name}-{generation}.example").parse().unwrap()],
        rules: Vec::new(),
        ambiguous_paths: AmbiguousPaths::Keep,
        overrides: Vec::new(),
    }
}

pub(super) fn state() -> State {
    State::new(CLUSTER, FEATURES, Desired::default())
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(1_000).unwrap()
}

/// A state that has read `stream` as it is.
pub(super) fn following(stream: &Stream) -> State {
    let mut state = state();
    state.apply_snapshot(&stream.read(), now());
    state
}
