//! What a `WasmRule` says of itself: resolved, rolled out, and enforced where.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// At most this many failing nodes are listed; the message of `Ready` counts the rest.
pub const FAILING_MAX: usize = 5;

/// Written by the operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WasmRuleStatus {
    /// The generation that the conditions speak of. -1 until the operator has seen the object.
    #[serde(default)]
    pub observed_generation: i64,

    /// What the reference led to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<ResolvedModule>,

    /// What the nodes are told to run: `nodes` counts those that do. While the present generation cannot be carried
    /// out this is an earlier one, and `resolved` speaks of another module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforced: Option<EnforcedRevision>,

    /// The last revision that every desired node reported as active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_revision: Option<String>,

    /// The revision on its way to the nodes; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate_revision: Option<String>,

    /// Share of clients, in percent, that the candidate is enforced for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub weight: Option<i32>,

    /// Nodes by what they reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,

    /// When the operator last compared this status with what the nodes report. It is renewed every five minutes, or as
    /// often as ten thousand rules allow: an older one says that nobody can tell any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_report_time: Option<Time>,

    /// Nodes that cannot run the enforced revision; at most five.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["node"]))]
    pub failing: Vec<FailingNode>,

    /// See docs/reference/conditions.md.
    #[serde(default)]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What the reference led to, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedModule {
    /// The reference as it was in the spec.
    pub reference: String,
    /// Digest of the OCI manifest.
    pub manifest_digest: String,
    /// Digest of the module itself.
    pub module_digest: String,
    /// Who signed it; absent until signatures are verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// ABI version of the module.
    #[schemars(extend("format" = "int32"))]
    pub abi: u32,
    /// Size of the module in bytes.
    pub size: i64,
    /// When the registry answered.
    pub resolved_at: Time,
}

/// What nodes are told to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnforcedRevision {
    /// Names everything that affects a verdict.
    pub revision: String,
    /// Digest of its module.
    pub module_digest: String,
}

/// Nodes by what they reported. Desired nodes come from Kubernetes (what the node-agents' DaemonSet wants), never from
/// reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounts {
    /// Nodes that should run the rule.
    pub desired: i32,
    /// Nodes that received the enforced revision.
    pub updated: i32,
    /// Nodes that reported it as active within the last three heartbeats.
    pub ready: i32,
    /// Nodes that cannot run it.
    pub failed: i32,
    /// `ready/desired`, for people; `?/desired` while no node can be heard.
    pub summary: String,
}

impl NodeCounts {
    /// The counts while no node can be heard: how many there should be is all that is known.
    pub fn unreachable(&self) -> Self {
        Self { desired: self.desired, summary: format!("?/{}", self.desired), ..Self::default() }
    }
}

/// A node that cannot run the enforced revision, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailingNode {
    /// Name of the node.
    pub node: String,
    /// CamelCase, from the table of reasons.
    pub reason: String,
    /// What was expected, what was found, what to do.
    pub message: String,
}

/// The default of a status that nobody has written: never reads as healthy (kstatus, `kubectl wait`).
pub(crate) fn pending() -> serde_json::Value {
    serde_json::json!({
        "observedGeneration": -1,
        "conditions": [{
            "type": "Ready",
            "status": "Unknown",
            "reason": "Pending",
            "message": "Waiting for the operator",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }],
    })
}
