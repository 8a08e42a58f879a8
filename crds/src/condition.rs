//! Conditions of rules and routes: the one place that knows their types, reasons and order.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Condition types, in the order in which they become true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The spec is valid, its references are allowed, and the namespace may have the rule.
    Accepted,
    /// The registry answered with a digest.
    Resolved,
    /// Of a route: what it sends requests to exists.
    ResolvedRefs,
    /// Signature and policy hold.
    Verified,
    /// The desired state of this generation is on the bus.
    Programmed,
    /// Every desired node reported this very revision as active.
    Ready,
    /// kstatus: work is under way. Present only when true.
    Reconciling,
    /// kstatus: nothing moves without a change. Present only when true.
    Stalled,
}

impl ConditionType {
    /// The text in `conditions[].type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Resolved => "Resolved",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::Verified => "Verified",
            Self::Programmed => "Programmed",
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }
}

/// Every reason that a condition may carry. docs/reference/conditions.md is made from this table.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident => $todo:literal,)+) => {
        /// Why a condition is as it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// All reasons, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The CamelCase text in `conditions[].reason`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What it means, in one sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// What a person does about it.
            pub fn what_to_do(self) -> &'static str {
                match self { $(Self::$name => $todo,)+ }
            }
        }
    };
}

reasons! {
    /// The operator has not seen this generation yet.
    Pending => "Wait; if it stays, look at the operator's pods.",
    /// The spec is valid.
    Valid => "Nothing.",
    /// The spec cannot be carried out as it is written.
    Invalid => "Correct the field that the message names.",
    /// The Secret named by pullSecretRef does not exist or is not of type kubernetes.io/dockerconfigjson.
    PullSecretInvalid => "Create the Secret with `kubectl create secret docker-registry`, in the rule's namespace.",
    /// The operator may not read Secrets in this namespace.
    NotPermitted => "Add the namespace to `operator.pullSecretNamespaces` in the chart's values.",
    /// The registry answered with a digest.
    DigestResolved => "Nothing.",
    /// The namespace may not serve a host name of the route.
    HostnameNotPermitted => "Have the platform add the host name to `routes.hostnames` in the chart's values, or use another one.",
    /// An older route has the same host name and match, or serves the host name in another namespace.
    Conflicted => "Change one of the two routes, or delete one.",
    /// What the route sends requests to exists.
    ResolvedRefs => "Nothing.",
    /// A Service or port that the route names does not exist, or has no cluster IP; its requests are answered with 500.
    BackendNotFound => "Create the Service, or correct `backend.service`.",
    /// The registry could not be reached or answered with a server error; it is tried again.
    RegistryUnreachable => "Check the registry and the network between the operator and it.",
    /// The registry refused the credentials, or asked for some where none were given.
    Unauthorized => "Correct the Secret named by pullSecretRef.",
    /// The registry does not have this tag, digest or repository.
    NotFound => "Push the module, or correct the reference.",
    /// What the reference names is no rule artifact.
    UnsupportedArtifact => "Push the module with `portcullis push`.",
    /// The module is larger than the operator accepts.
    TooLarge => "Make the module smaller, or raise `operator.maxModuleBytes`.",
    /// The bytes do not have the digest that the manifest or the registry promised.
    DigestMismatch => "Push the module again; if it stays, distrust the registry.",
    /// Signatures are not verified in this version; the digest was.
    SignatureNotChecked => "Nothing.",
    /// The layer is no WebAssembly module.
    NotWasm => "Push a module built for wasm32-unknown-unknown.",
    /// The module lacks an export that the ABI requires, needs imports that no node offers, or describes itself wrongly.
    AbiMismatch => "Build the rule as docs/abi/README.md says; `portcullis inspect` shows what is missing.",
    /// The module cannot be compiled, or breaks a bound of the sandbox.
    ModuleInvalid => "See the message; `portcullis inspect` shows the module's sizes.",
    /// The module refuses spec.config or takes none, or spec.config is larger than 64 KiB.
    ConfigInvalid => "Correct spec.config as the message says; the module's own documentation has its schema.",
    /// The rule's limits do not let it judge every request that it may be shown.
    LimitsTooSmall => "Raise the limit that the message names, or set it.",
    /// The module cannot judge a harmless request within its limits.
    ProbeFailed => "Correct the module, or raise the limit that the message names.",
    /// The desired state of this generation is on the bus.
    Published => "Nothing.",
    /// The operator cannot reach the bus, so it can neither publish nor hear the nodes, which go on with what they have.
    BusUnavailable => "Check NATS; the operator goes on when it is back.",
    /// The bus has no room for the rule or its module; it is tried again every minute.
    BusFull => "Delete rules or make modules smaller, or give the bus more room: `nats.storeSize`, `bus.maxBytes` in the chart's values.",
    /// The rules of the namespace take up as much as they may; it is tried again every minute.
    QuotaExceeded => "Do what the message says, or raise `operator.quota` in the chart's values.",
    /// Every desired node runs this revision.
    Active => "Nothing.",
    /// Every desired node has this revision, and its `expiresAt` has passed: it judges nothing any more.
    Expired => "Delete the rule, or give it a later `expiresAt`.",
    /// Every desired node runs this revision, on at least one of them on every request: its prefilter hid a request that
    /// the rule does not allow, and is not used there any more.
    PrefilterUnsound => "Correct the literals in the module's `portcullis.describe`, or leave its prefilter out; the log of the node that the message names says which they are.",
    /// Nodes are taking up this revision.
    Progressing => "Wait.",
    /// At least one node cannot run this revision and goes on with its last good one.
    NodeFailed => "See `status.failing`.",
    /// At least one node has not reported for three heartbeats, or has no agent.
    NodeSilent => "Look at the agent on that node.",
    /// No node should run an agent, so nothing enforces the rule.
    NoNodes => "Check the node-agent DaemonSet.",
    /// Portcullis was uninstalled: nothing enforces the rule or serves the route, and nobody keeps its status.
    Uninstalled => "Install Portcullis again, or delete the object.",
    /// The rule needs a feature that the node, or this version of Portcullis, lacks.
    Unsupported => "Upgrade the node-agent, or leave out what the message names.",
    /// The node could not get the module from the bus; it tries again.
    ModuleUnavailable => "Check NATS and the operator; the module is published again within ten minutes.",
    /// The node's sandbox refused or could not compile the module.
    CompileFailed => "See the message.",
}

/// True, False or Unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody can tell yet.
    Unknown,
}

impl ConditionStatus {
    /// The text in `conditions[].status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One finding, before it is dated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which condition.
    pub kind: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why.
    pub reason: Reason,
    /// One sentence for a person: expected, found, what to do.
    pub message: String,
}

/// Longest message that the API accepts for a condition (metav1.Condition).
const MESSAGE_MAX: usize = 32 * 1024;

/// The condition list after these findings. A type that is not among the findings is dropped;
/// `lastTransitionTime` moves only when the status does.
pub fn apply(
    previous: &[Condition],
    findings: &[Finding],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    findings
        .iter()
        .map(|finding| {
            let status = finding.status.as_str();
            let kind = finding.kind.as_str();
            let since = previous
                .iter()
                .find(|c| c.type_ == kind && c.status == status)
                .map_or_else(|| Time(now), |c| c.last_transition_time.clone());
            Condition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: finding.reason.as_str().to_owned(),
                message: shortened(&finding.message),
                observed_generation: Some(generation),
                last_transition_time: since,
            }
        })
        .collect()
}

fn shortened(message: &str) -> String {
    if message.len() <= MESSAGE_MAX {
        return message.to_owned();
    }
    let mut end = MESSAGE_MAX - "...".len();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: ConditionStatus, reason: Reason) -> Finding {
        Finding { kind: ConditionType::Ready, status, reason, message: "m".into() }
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let first = Timestamp::from_second(1_000).unwrap();
        let later = Timestamp::from_second(2_000).unwrap();
        let a = apply(&[], &[ready(ConditionStatus::False, Reason::Progressing)], 1, first);
        let b = apply(&a, &[ready(ConditionStatus::False, Reason::NodeFailed)], 2, later);
        assert_eq!(b[0].last_transition_time.0, first);
        assert_eq!((b[0].reason.as_str(), b[0].observed_generation), ("NodeFailed", Some(2)));
        let c = apply(&b, &[ready(ConditionStatus::True, Reason::Active)], 2, later);
        assert_eq!(c[0].last_transition_time.0, later);
    }

    #[test]
    fn a_condition_that_is_no_longer_found_disappears() {
        let now = Timestamp::UNIX_EPOCH;
        let stalled =
            Finding { kind: ConditionType::Stalled, ..ready(ConditionStatus::True, Reason::NotFound) };
        let before = apply(&[], &[stalled], 1, now);
        assert!(
            apply(&before, &[ready(ConditionStatus::True, Reason::Active)], 1, now)
                .iter()
                .all(|c| c.type_ != "Stalled")
        );
    }

    #[test]
    fn an_overlong_message_is_cut_at_a_character() {
        let finding =
            Finding { message: "ü".repeat(MESSAGE_MAX), ..ready(ConditionStatus::False, Reason::Invalid) };
        let message = &apply(&[], &[finding], 1, Timestamp::UNIX_EPOCH)[0].message;
        assert!(message.len() <= MESSAGE_MAX && message.ends_with("..."));
    }

    #[test]
    fn every_reason_is_a_valid_condition_reason_with_a_meaning() {
        for reason in Reason::ALL {
            assert!(reason.as_str().bytes().all(|b| b.is_ascii_alphanumeric()));
            assert!(!reason.meaning().is_empty() && !reason.what_to_do().is_empty());
        }
    }
}
