//! `WasmRule`: a tenant's rule.

// The derive macro repeats each struct inside a private function, where `pub` reaches nobody.
#![allow(unreachable_pub, clippy::duplicated_attributes)]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_core::CustomResourceExt;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::definition::{complete, yaml};
use crate::quantity::{ByteSize, Span};
use crate::range::{sizes, spans};
use crate::rate_limit::RateLimit;
use crate::request_match::RuleMatch;
use crate::rule_config::RuleConfig;
use crate::status::WasmRuleStatus;

/// Smallest `limits.fuel`.
pub const FUEL_FLOOR: u32 = 1_000;
/// Largest `limits.fuel`.
pub const FUEL_CEILING: u32 = 1_000_000;
/// Largest `limits.fuelPerByte`.
pub const FUEL_PER_BYTE_CEILING: u32 = 1_000;
/// Smallest `limits.memory`: one page.
pub const MEMORY_FLOOR: ByteSize = ByteSize::kib(64);
/// Largest `limits.memory`: what one instance slot of the nodes' pool holds.
pub const MEMORY_CEILING: ByteSize = ByteSize::mib(16);
/// Smallest `limits.deadline`.
pub const DEADLINE_FLOOR: Span = Span::micros(100);
/// Largest `limits.deadline`.
pub const DEADLINE_CEILING: Span = Span::millis(10);
/// Smallest `limits.bodyBytes`.
pub const BODY_FLOOR: ByteSize = ByteSize::bytes(1);
/// Largest `limits.bodyBytes`.
pub const BODY_CEILING: ByteSize = ByteSize::mib(1);
/// Shortest `pollInterval`.
pub const POLL_FLOOR: Span = Span::secs(10);
/// Longest `pollInterval`.
pub const POLL_CEILING: Span = Span::secs(24 * 60 * 60);

/// What artifact's `Reference` reads, but for details of the host.
const REFERENCE: &str = "^([a-z0-9.-]+|[[][0-9a-f:.]+[]])(:[0-9]{1,5})?(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)+\
    (:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?$";
/// The tag or digest of it; a port is followed by a slash.
const VERSION: &str = "(:[A-Za-z0-9._-]+|@sha256:[0-9a-f]{64})$";
/// The host of it, as Docker tells one from the first part of a repository.
const HOST: &str = "^(localhost/|[^/]*[.:])";
/// RFC 1123, as the API server has it for names.
const NAME: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A web application firewall rule: a sandboxed Wasm module in an OCI registry, run on every request.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[kube(
    crates(kube_core = "::kube_core"),
    group = "portcullis.dev",
    version = "v1alpha1",
    kind = "WasmRule",
    plural = "wasmrules",
    singular = "wasmrule",
    shortname = "wr",
    category = "portcullis",
    namespaced,
    status = "WasmRuleStatus",
    derive = "PartialEq",
    doc = "A web application firewall rule: a sandboxed Wasm module in an OCI registry, run on every request.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.nodes.summary",
        description = "Nodes that reported the revision of the column Revision as active, of the nodes that should run it"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Revision",
        type_ = "string",
        json_path = ".status.enforced.revision",
        description = "What the nodes are told to run"
    ),
    printcolumn(
        name = "Reported",
        type_ = "date",
        json_path = ".status.lastReportTime",
        description = "How long ago the operator last compared this with what the nodes report"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Module",
        type_ = "string",
        json_path = ".status.enforced.moduleDigest",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct WasmRuleSpec {
    /// Where the module comes from.
    pub source: Source,

    /// Which requests the rule judges, of those of its namespace's routes and of the default route; without it all of them.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<RuleMatch>,

    /// Enforce acts on a Block verdict. Monitor only counts and logs it. Disabled does not run the module.
    #[serde(default)]
    pub mode: Mode,

    /// Rules run in ascending order of priority, then of namespace/name.
    #[serde(default = "default_priority")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub priority: i32,

    /// What one evaluation may cost.
    #[serde(default)]
    pub limits: Limits,

    /// What happens to a request that the rule could not judge.
    #[serde(default)]
    pub on_failure: OnFailure,

    /// The answer to a blocked request.
    #[serde(default)]
    pub block: Block,

    /// What the verdict RateLimit means; without it such a request is logged and goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,

    /// Whether an evaluation may see what an earlier one left behind.
    #[serde(default)]
    pub isolation: Isolation,

    /// What the module is configured with: an object of its own schema, at most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<RuleConfig>,

    /// From then on the rule judges nothing; each node keeps to it by its own clock. The object stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

/// Exactly one source of a module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.file)", "source.file works only with `portcullis serve`; in a cluster push the module (`portcullis push`) and set source.oci.reference"),
    validation = ("has(self.oci) || has(self.file)", "set source.oci.reference to the module in your registry, for example registry.example/rules/bad-bot:1.0.0")
)]
pub struct Source {
    /// A module in an OCI registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<OciSource>,

    /// A file beside the manifest. Stand-alone mode (`portcullis serve`) only; refused in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub file: Option<String>,
}

/// A module in an OCI registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!(has(self.pollInterval) && self.reference.contains('@'))", "a digest never moves: drop pollInterval, or reference a tag")
)]
pub struct OciSource {
    /// `registry/repository:tag` or `registry/repository@sha256:...`.
    #[schemars(length(max = 512))]
    #[x_kube(
        validation = ("!self.contains('://')", "write the reference without a scheme, for example registry.example/rules/bad-bot:1.0.0"),
        validation = (
            format!("self.contains('://') || (self.matches('{REFERENCE}') && self.matches('{VERSION}') && self.matches('{HOST}'))").as_str(),
            "write registry/repository in lower case with a tag or digest, for example registry.example/rules/bad-bot:1.0.0 or registry.example/rules/bad-bot@sha256:... (64 hexadecimal digits); the registry has a dot or a port, or is localhost"
        )
    )]
    pub reference: String,

    /// A Secret of type kubernetes.io/dockerconfigjson in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret_ref: Option<SecretRef>,

    /// How often a tag is resolved again. Without it a tag is resolved once for each change of the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = spans(POLL_FLOOR, POLL_CEILING, "for example 5m"))]
    pub poll_interval: Option<Span>,
}

/// A Secret in the namespace of the object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(max = 253))]
    #[x_kube(validation = (
        format!("self.matches('{NAME}')").as_str(),
        "write the name of a Secret, of lower-case letters, digits, - and ., for example regcred"
    ))]
    pub name: String,
}

/// What a verdict does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Act on the verdict.
    #[default]
    Enforce,
    /// Count and log the verdict.
    Monitor,
    /// Do not run the module. (Not `Off`: YAML 1.1 reads that as false.)
    Disabled,
}

/// Whether an evaluation may see what an earlier one left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Isolation {
    /// Each evaluation has a fresh instance.
    #[default]
    PerRequest,
    /// The evaluations of one thread share an instance, which is renewed after many of them and after any error.
    PerWorker,
}

/// What one evaluation may cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Fuel of one evaluation: about one unit a Wasm instruction.
    #[serde(default = "default_fuel")]
    #[schemars(range(min = FUEL_FLOOR, max = FUEL_CEILING), extend("format" = "int32"))]
    pub fuel: u32,

    /// Fuel added for each byte handed over beyond the first KiB.
    #[serde(default = "default_fuel_per_byte")]
    #[schemars(range(min = 0, max = FUEL_PER_BYTE_CEILING), extend("format" = "int32"))]
    pub fuel_per_byte: u32,

    /// Linear memory of one instance.
    #[serde(default = "default_memory")]
    #[schemars(transform = sizes(MEMORY_FLOOR, MEMORY_CEILING, "for example 4Mi"))]
    pub memory: ByteSize,

    /// CPU time of one evaluation.
    #[serde(default = "default_deadline")]
    #[schemars(transform = spans(DEADLINE_FLOOR, DEADLINE_CEILING, "for example 1ms"))]
    pub deadline: Span,

    /// The rule inspects request bodies up to this size. Without it bodies are neither buffered nor shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = sizes(BODY_FLOOR, BODY_CEILING, "for example 128Ki; leave it out for a rule that reads no bodies"))]
    pub body_bytes: Option<ByteSize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: default_fuel(),
            fuel_per_byte: default_fuel_per_byte(),
            memory: default_memory(),
            deadline: default_deadline(),
            body_bytes: None,
        }
    }
}

/// What happens to a request that a rule could not judge, by cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct OnFailure {
    /// The module trapped or returned no verdict.
    #[serde(default = "block")]
    pub error: FailureAction,
    /// Fuel, memory or deadline ran out.
    #[serde(default = "block")]
    pub budget: FailureAction,
    /// The body is larger than `limits.bodyBytes`.
    #[serde(default = "block")]
    pub body_too_large: FailureAction,
    /// A part of the request that the rule inspects could not be decoded.
    #[serde(default = "block")]
    pub malformed: FailureAction,
    /// The node has no version of the rule that it could run.
    #[serde(default = "allow")]
    pub unavailable: FailureAction,
}

impl Default for OnFailure {
    fn default() -> Self {
        // The first four can be caused by whoever sends the request, so they block.
        Self {
            error: FailureAction::Block,
            budget: FailureAction::Block,
            body_too_large: FailureAction::Block,
            malformed: FailureAction::Block,
            unavailable: FailureAction::Allow,
        }
    }
}

/// Block or let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailureAction {
    /// Answer as for a Block verdict.
    Block,
    /// Go on to the next rule.
    Allow,
}

/// The answer to a blocked request. `{eventId}` in a response is replaced by the event's id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// HTTP status.
    #[serde(default = "default_block_status")]
    #[schemars(range(min = 400, max = 599), extend("format" = "int32"))]
    pub status: u16,
    /// Bodies by what the client accepts. Without one: `Blocked by WASM rule: NAME`, or
    /// `Could not judge the request by WASM rule: NAME (CAUSE)` where `onFailure` blocks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub responses: Option<Responses>,
}

impl Default for Block {
    fn default() -> Self {
        Self { status: default_block_status(), responses: None }
    }
}

/// Bodies of a block answer, chosen by the `Accept` header; `text` is the fallback.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct Responses {
    /// Sent as `text/plain; charset=utf-8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16_384))]
    pub text: Option<String>,
    /// Sent as `application/json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16_384))]
    pub json: Option<String>,
    /// Sent as `text/html; charset=utf-8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16_384))]
    pub html: Option<String>,
}

/// The CustomResourceDefinition.
pub fn crd() -> CustomResourceDefinition {
    complete(WasmRule::crd())
}

/// [`crd`] as it is committed under crds/generated/ and shipped in the chart.
pub fn crd_yaml() -> String {
    yaml(&crd(), "crds/src/wasm_rule.rs")
}

pub(crate) fn default_priority() -> i32 {
    100
}

fn default_fuel() -> u32 {
    100_000
}

fn default_fuel_per_byte() -> u32 {
    100
}

fn default_memory() -> ByteSize {
    ByteSize::mib(4)
}

fn default_deadline() -> Span {
    Span::millis(1)
}

fn default_block_status() -> u16 {
    403
}

fn block() -> FailureAction {
    FailureAction::Block
}

fn allow() -> FailureAction {
    FailureAction::Allow
}
