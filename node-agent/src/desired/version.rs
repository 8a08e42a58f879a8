//! One version of a rule, and the set of them that should run here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_bus::StreamId;
use portcullis_crds::bus::{DesiredRoute, DesiredRule, SetHash};
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
    /// Names everything that affects a verdict.
    pub revision: Revision,
    /// Epoch of the leader that wrote it.
    pub epoch: u64,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// The rule.
    pub rule: DesiredRule,
}

impl Version {
    /// Whether both are the same revision of the same object, and so give the same verdicts.
    pub fn is_same_revision(&self, other: &Self) -> bool {
        self.uid == other.uid && self.revision == other.revision
    }
}

/// A version that is wanted but was not taken up.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Uid of the object, if it could be read.
    pub uid: String,
    /// The revision that is wanted, if it could be read.
    pub wanted: Revision,
    /// What was expected, what was found, what to do.
    pub message: String,
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
        let mut wanted: BTreeMap<&RuleKey, (&str, &Revision)> =
            read.map(|(key, v)| (key, (v.uid.as_str(), &v.revision))).collect();
        wanted.extend(self.refused.iter().map(|(key, r)| (key, (r.uid.as_str(), &r.wanted))));
        SetHash::of(wanted.into_iter().map(|(key, (uid, revision))| (key, uid, revision)))
    }
}
