//! What an agent says of itself: on every change and as a heartbeat.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use sha2::{Digest, Sha256};

use super::checkpoint::SetHash;
use crate::revision::Revision;
use crate::route_key::RouteKey;
use crate::rule_key::RuleKey;

/// At most this many exceptions are sent: a report stays far below the bus's payload limit at any number of rules.
pub const EXCEPTIONS_MAX: usize = 200;

/// At most this many exceptions are sent as marks, which take 19 bytes each.
pub const MARKS_MAX: usize = 10_000;

/// One agent's state, compressed: "I have read the desired state up to `sequence`, its hash is `desired`,
/// and I run all of it, except ...".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Envelope schema of the writer.
    pub schema: u32,
    /// Uid of the cluster's kube-system namespace.
    pub cluster: String,
    /// Name of the agent's pod. Two agents may share a node during an upgrade.
    pub agent: String,
    /// Name of its node.
    pub node: String,
    /// New for every start of the process.
    pub instance: String,
    /// Version of the agent.
    pub version: String,
    /// Features it has; the operator publishes nothing that needs more.
    pub features: Vec<String>,
    /// The stream that `sequence` belongs to.
    pub stream: String,
    /// Highest epoch seen.
    pub epoch: u64,
    /// Everything up to this sequence was read.
    pub sequence: u64,
    /// Hash of the desired set as it was read.
    pub desired: SetHash,
    /// Hash of what is active right now, candidates that are held ready included; equal to `desired` when there are no
    /// exceptions.
    pub active: SetHash,
    /// Number of rules being enforced right now.
    pub active_count: u64,
    /// Desired revisions that are not active, two of a rule if neither its stable revision nor its candidate is; at most [`EXCEPTIONS_MAX`].
    pub exceptions: Vec<Exception>,
    /// Exceptions for whose text there was no room, by their state; at most [`MARKS_MAX`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub marks: BTreeMap<ExceptionState, BTreeSet<Mark>>,
    /// Exceptions that are not even among the marks: which rules they concern, nobody can tell.
    #[serde(default)]
    pub more: u64,
    /// Rules that the stream does not have and that the agent keeps, because the leader said that it does not know what
    /// should run; at most [`EXCEPTIONS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Kept>,
    /// Rules that are active and run on every request, because their prefilter hid one from them that they do not
    /// allow; at most [`EXCEPTIONS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsound: Vec<Unsound>,
    /// Its routes; `None` from an agent that does not know any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<RoutesReport>,
    /// When it was sent, by the agent's clock; for people, never compared.
    pub at: Timestamp,
}

/// "My routes are those of `desired`, and I serve all of them, except ...".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutesReport {
    /// Hash of the routes as they were read.
    pub desired: SetHash,
    /// Desired routes that are not served; at most [`EXCEPTIONS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<RouteException>,
    /// Exceptions for which there was no room: which routes they concern, nobody can tell.
    #[serde(default)]
    pub more: u64,
}

/// A desired revision of a route that is not served on this agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteException {
    /// Which route.
    pub key: RouteKey,
    /// The revision that is wanted.
    pub wanted: Revision,
    /// [`ExceptionState::Progressing`] or [`ExceptionState::Unsupported`].
    pub state: ExceptionState,
    /// What was expected, what was found, what to do.
    pub message: String,
}

/// A desired revision of a rule, stable or candidate, that is not active on this agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exception {
    /// Which rule.
    pub key: RuleKey,
    /// The revision that is wanted.
    pub wanted: Revision,
    /// The revision that requests get instead, if any.
    pub active: Option<Revision>,
    /// Why.
    pub state: ExceptionState,
    /// What was expected, what was found, what to do.
    pub message: String,
}

/// Stands for a rule and the revision that is wanted of it: 16 hex digits of a SHA-256 over both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mark(String);

impl Mark {
    /// The mark of this revision of a rule.
    pub fn of(key: &RuleKey, wanted: &Revision) -> Self {
        let mut hash = Sha256::new();
        // 0 occurs in none of the fields.
        for field in [key.namespace.as_deref().unwrap_or(""), &key.name, wanted.as_str()] {
            hash.update(field.as_bytes());
            hash.update([0]);
        }
        Self(hex::encode(&hash.finalize()[..8]))
    }
}

/// A rule that the agent keeps although the stream does not have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Which rule.
    pub key: RuleKey,
    /// Uid of the object.
    pub uid: String,
    /// The revision that it keeps.
    pub revision: Revision,
}

/// An active rule whose prefilter is switched off on this agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unsound {
    /// Which rule.
    pub key: RuleKey,
    /// Its active revision.
    pub revision: Revision,
}

/// Why a desired revision is not active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ExceptionState {
    /// Being fetched or compiled.
    Progressing,
    /// The module could not be had; tried again.
    ModuleUnavailable,
    /// The module's bytes do not have its digest.
    DigestMismatch,
    /// The sandbox refused the module.
    CompileFailed,
    /// The module refused its configuration, or takes none.
    ConfigInvalid,
    /// The module cannot judge a harmless request within its limits.
    ProbeFailed,
    /// The agent lacks a required feature.
    Unsupported,
}
