//! One version of what is desired of a rule, the revisions in it, and the set of versions that should run here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_bus::StreamId;
use portcullis_crds::bus::{Candidate, DesiredRoute, DesiredRule, RevisionSpec, SetHash};
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
    /// Whether both name the same revisions of the same object.
    pub fn has_revisions_of(&self, other: &Self) -> bool {
        (&self.uid, self.revisions()) == (&other.uid, other.revisions())
    }

    /// Whether both ask for the same of the same object: weight and shadow of a candidate included.
    pub fn asks_for_the_same_as(&self, other: &Self) -> bool {
        (&self.uid, &self.revision, &self.rule.candidate)
            == (&other.uid, &other.revision, &other.rule.candidate)
    }

    /// Names of the stable revision and of the candidate.
    pub fn revisions(&self) -> (&Revision, Option<&Revision>) {
        (&self.revision, self.rule.candidate_revision())
    }

    /// The stable revision.
    pub fn stable(self: &Arc<Self>) -> RuleRevision {
        RuleRevision { version: self.clone(), is_candidate: false }
    }

    /// The candidate, if there is one.
    pub fn candidate(self: &Arc<Self>) -> Option<RuleRevision> {
        self.rule.candidate.is_some().then(|| RuleRevision { version: self.clone(), is_candidate: true })
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
    /// Sequence of the last rule or tombstone that was read.
    pub rule_sequence: u64,
    /// A checkpoint said that the set is complete, since the process started.
    pub complete: bool,
    /// Complete reads since the process started.
    pub resyncs: u64,
    /// What should run.
    pub rules: BTreeMap<RuleKey, Arc<Version>>,
    /// Which requests go where, beside the default route.
    pub routes: BTreeMap<RouteKey, Arc<DesiredRoute>>,
    /// What should run but was refused; what ran before is still in `rules`.
    pub refused: BTreeMap<RuleKey, Refused>,
    /// Those of `rules` that are not on the stream: the leader does not know what should run of them.
    pub kept: BTreeSet<RuleKey>,
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
