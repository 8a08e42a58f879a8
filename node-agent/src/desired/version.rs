//! One version of what is desired of a rule, the revisions in it, and the set of versions that should run here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_bus::StreamId;
use portcullis_crds::bus::subject::DesiredSubject;
use portcullis_crds::bus::{Candidate, Desired, DesiredRoute, DesiredRule, Envelope, RevisionSpec, SetHash};
use portcullis_crds::revision::Revision;
use portcullis_crds::{RouteKey, RuleKey};
use serde::{Deserialize, Serialize};

use super::fence::Fence;

/// A version of a rule, with what orders it among other versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// Uid of the object; another one is another rule, whatever its name.
    pub uid: String,
    /// `metadata.generation` of the object; only grows for one uid.
    pub generation: i64,
    /// Names the stable revision.
    pub revision: Revision,
    /// Epoch of the leader that wrote it.
    pub epoch: u64,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// The rule.
    pub rule: DesiredRule,
}

impl Version {
    /// The stable revision.
    pub fn stable(self: &Arc<Self>) -> RuleRevision {
        RuleRevision { version: self.clone(), is_candidate: false }
    }

    /// The candidate, if there is one.
    pub fn candidate(self: &Arc<Self>) -> Option<RuleRevision> {
        self.rule.candidate.is_some().then(|| RuleRevision { version: self.clone(), is_candidate: true })
    }
}

/// A version of a route, with what orders it among other versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteVersion {
    /// Uid of the object.
    pub uid: String,
    /// `metadata.generation` of the object; only grows for one uid.
    pub generation: i64,
    /// Names what the route asks for.
    pub revision: Revision,
    /// Epoch of the leader that wrote it.
    pub epoch: u64,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// The route.
    pub route: Arc<DesiredRoute>,
}

/// What orders the versions of an object, whatever its kind.
pub trait ObjectVersion: Clone + PartialEq {
    /// What names the object.
    type Key: Ord + Clone;

    /// The version that a message has; `None` for a tombstone, or if it is about another kind.
    fn of(envelope: Envelope<Desired>, sequence: u64) -> Option<Self>;
    /// Which object.
    fn key(&self) -> &Self::Key;
    /// Where it is in the stream.
    fn subject(key: &Self::Key) -> DesiredSubject;
    /// Uid of the object.
    fn uid(&self) -> &str;
    /// `metadata.generation` of the object.
    fn generation(&self) -> i64;
    /// Its sequence in the stream.
    fn sequence(&self) -> u64;
    /// The same, at another sequence.
    fn at(&self, sequence: u64) -> Self;
    /// Names of what is wanted, and of what is wanted beside it.
    fn revisions(&self) -> (&Revision, Option<&Revision>);
    /// Whether both ask for the same of the same object.
    fn asks_for_the_same_as(&self, other: &Self) -> bool;

    /// Whether both name the same revisions of the same object.
    fn has_revisions_of(&self, other: &Self) -> bool {
        (self.uid(), self.revisions()) == (other.uid(), other.revisions())
    }
}

impl ObjectVersion for Version {
    type Key = RuleKey;

    fn of(envelope: Envelope<Desired>, sequence: u64) -> Option<Self> {
        let Envelope { uid, generation, revision, epoch, payload, .. } = envelope;
        let Desired::Rule(rule) = payload else { return None };
        Some(Self { uid, generation, revision, epoch, sequence, rule })
    }

    fn key(&self) -> &RuleKey {
        &self.rule.key
    }

    fn subject(key: &RuleKey) -> DesiredSubject {
        DesiredSubject::Rule(key.clone())
    }

    fn uid(&self) -> &str {
        &self.uid
    }

    fn generation(&self) -> i64 {
        self.generation
    }

    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn at(&self, sequence: u64) -> Self {
        Self { sequence, ..self.clone() }
    }

    fn revisions(&self) -> (&Revision, Option<&Revision>) {
        (&self.revision, self.rule.candidate_revision())
    }

    /// Weight and shadow of a candidate included.
    fn asks_for_the_same_as(&self, other: &Self) -> bool {
        (&self.uid, &self.revision, &self.rule.candidate)
            == (&other.uid, &other.revision, &other.rule.candidate)
    }
}

impl ObjectVersion for RouteVersion {
    type Key = RouteKey;

    fn of(envelope: Envelope<Desired>, sequence: u64) -> Option<Self> {
        let Envelope { uid, generation, revision, epoch, payload, .. } = envelope;
        let Desired::Route(route) = payload else { return None };
        Some(Self { uid, generation, revision, epoch, sequence, route: route.into() })
    }

    fn key(&self) -> &RouteKey {
        &self.route.key
    }

    fn subject(key: &RouteKey) -> DesiredSubject {
        DesiredSubject::Route(key.clone())
    }

    fn uid(&self) -> &str {
        &self.uid
    }

    fn generation(&self) -> i64 {
        self.generation
    }

    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn at(&self, sequence: u64) -> Self {
        Self { sequence, ..self.clone() }
    }

    fn revisions(&self) -> (&Revision, Option<&Revision>) {
        (&self.revision, None)
    }

    fn asks_for_the_same_as(&self, other: &Self) -> bool {
        self.has_revisions_of(other)
    }
}

/// One revision of a rule: the stable one of a version, or its candidate. It is what is made ready and what runs.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleRevision {
    version: Arc<Version>,
    /// Then the version has one.
    is_candidate: bool,
}

impl RuleRevision {
    /// The version that names it.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Which rule.
    pub fn key(&self) -> &RuleKey {
        &self.version.rule.key
    }

    /// Uid of the object.
    pub fn uid(&self) -> &str {
        &self.version.uid
    }

    /// What it is as a candidate; `None` if it is the stable one.
    pub fn as_candidate(&self) -> Option<&Candidate> {
        self.version.rule.candidate.as_ref().filter(|_| self.is_candidate)
    }

    /// Its name.
    pub fn revision(&self) -> &Revision {
        self.as_candidate().map_or(&self.version.revision, |candidate| &candidate.revision)
    }

    /// What it is.
    pub fn spec(&self) -> &RevisionSpec {
        self.as_candidate().map_or(&self.version.rule.stable, |candidate| &candidate.spec)
    }

    /// Whether both are the same revision of the same object, and so give the same verdicts.
    pub fn is_same(&self, other: &Self) -> bool {
        self.uid() == other.uid() && self.revision() == other.revision()
    }
}

/// A version that is wanted but was not taken up.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Uid of the object, if it could be read.
    pub uid: String,
    /// The stable revision that is wanted, if it could be read.
    pub wanted: Revision,
    /// The candidate that is wanted, if it could be read and there is one.
    pub candidate: Option<Revision>,
    /// What was expected, what was found, what to do.
    pub message: String,
}

impl Refused {
    /// Names of the stable revision and of the candidate that are wanted.
    pub fn revisions(&self) -> (&Revision, Option<&Revision>) {
        (&self.wanted, self.candidate.as_ref())
    }
}

/// What a [`SetHash`] is made of, for one rule.
pub fn rows<'a>(
    key: &'a RuleKey,
    uid: &'a str,
    (stable, candidate): (&'a Revision, Option<&'a Revision>),
) -> impl Iterator<Item = (&'a RuleKey, &'a str, &'a Revision)> {
    std::iter::once(stable).chain(candidate).map(move |revision| (key, uid, revision))
}

/// The desired set at one moment. Cheap to clone but for the maps' nodes; versions are shared.
#[derive(Clone, Debug)]
pub struct View {
    /// The stream that was read; `None` before the first read.
    pub stream: Option<StreamId>,
    /// Highest epoch seen.
    pub fence: Fence,
    /// Everything up to this sequence was read.
    pub sequence: u64,
    /// Sequence of the last rule, route or tombstone that was read.
    pub object_sequence: u64,
    /// A checkpoint said that the set is complete, since the process started.
    pub complete: bool,
    /// Complete reads since the process started.
    pub resyncs: u64,
    /// What should run.
    pub rules: BTreeMap<RuleKey, Arc<Version>>,
    /// Which requests go where, beside the default route.
    pub routes: BTreeMap<RouteKey, Arc<RouteVersion>>,
    /// What should run but was refused; what ran before is still in `rules`.
    pub refused: BTreeMap<RuleKey, Refused>,
    /// Those of `rules` that are not on the stream: the leader does not know what should run of them.
    pub kept: BTreeSet<RuleKey>,
    /// What should be served but was refused; what was served before is still in `routes`.
    pub refused_routes: BTreeMap<RouteKey, Refused>,
    /// Hash of the routes as they were read, refused ones included.
    pub routes_hash: SetHash,
}

impl View {
    /// Hash of the set as it was read: of the wanted revisions, refused ones included, kept ones not.
    pub fn hash(&self) -> SetHash {
        let read = self.rules.iter().filter(|(key, _)| !self.kept.contains(key));
        let mut wanted: BTreeMap<&RuleKey, (&str, (&Revision, Option<&Revision>))> =
            read.map(|(key, version)| (key, (version.uid.as_str(), version.revisions()))).collect();
        wanted.extend(self.refused.iter().map(|(key, r)| (key, (r.uid.as_str(), r.revisions()))));
        SetHash::of(wanted.into_iter().flat_map(|(key, (uid, revisions))| rows(key, uid, revisions)))
    }
}
