//! What a rule's conditions say. No I/O.

use std::cmp::Ordering;

use jiff::Timestamp;
use portcullis_crds::condition::{ConditionStatus, ConditionType, Finding, Reason};
use portcullis_crds::status::{EnforcedRevision, NodeCounts, ResolvedModule};
use portcullis_crds::wasm_rule::Mode;

use super::aggregate::{Rollout, Verdict};
use crate::fleet::FleetView;
use crate::halt::{Halt, Retry};
use crate::outcome::Outcome;

/// Names listed in a message.
const NAMES_MAX: usize = 5;

/// All that a status is made of.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) generation: i64,
    pub(crate) mode: Mode,
    /// When it expired, if it has.
    pub(crate) expired_at: Option<Timestamp>,
    /// How far this generation has come.
    pub(crate) outcome: &'a Outcome,
    /// Why the last look at a polled tag failed.
    pub(crate) poll_failure: Option<&'a str>,
    /// What nodes are told to run of this object, whichever generation it is from.
    pub(crate) enforced: Option<&'a EnforcedRevision>,
    /// What the agents say of it.
    pub(crate) nodes: Nodes<'a>,
}

/// What is known of the nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Nodes<'a> {
    /// What they say.
    Reported(&'a Rollout),
    /// Reports have not arrived for long enough to say anything.
    NotYet,
    /// The bus has been away for three heartbeats.
    Unreachable,
}

impl<'a> Nodes<'a> {
    /// What is known with this rollout, or for want of one.
    pub(crate) fn of(rollout: Option<&'a Rollout>, fleet: &FleetView) -> Self {
        match (rollout, fleet) {
            (Some(rollout), _) => Self::Reported(rollout),
            (None, FleetView::Unreachable) => Self::Unreachable,
            (None, FleetView::Known(_) | FleetView::NotYet) => Self::NotYet,
        }
    }

    /// How many there are, after `before`.
    pub(crate) fn counts(self, before: Option<&NodeCounts>) -> Option<NodeCounts> {
        match self {
            Self::Reported(rollout) => Some(NodeCounts::from(rollout.counts)),
            Self::NotYet => before.cloned(),
            Self::Unreachable => before.map(NodeCounts::unreachable),
        }
    }

    pub(crate) fn rollout(self) -> Option<&'a Rollout> {
        match self {
            Self::Reported(rollout) => Some(rollout),
            Self::NotYet | Self::Unreachable => None,
        }
    }
}

impl Facts<'_> {
    fn revision(&self) -> &str {
        self.enforced.map_or("", |enforced| &enforced.revision)
    }
}

/// What is found of each condition, in their order.
pub(crate) fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    match facts.outcome {
        Outcome::Published(published) => published_findings(facts, &published.resolved),
        Outcome::Halted { halt, resolved } => halted_findings(facts, halt, resolved.as_ref()),
    }
}

pub(crate) fn finding(
    kind: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: String,
) -> Finding {
    Finding { kind, status, reason, message }
}

/// The findings that hold for every rule that came past a step.
fn passed(kind: ConditionType, facts: &Facts<'_>, resolved: Option<&ResolvedModule>) -> Finding {
    let (status, reason, message) = match kind {
        ConditionType::Accepted => (ConditionStatus::True, Reason::Valid, "The spec is valid".to_owned()),
        ConditionType::Resolved => {
            let mut message = resolved.map_or_else(
                || "The registry answered with a digest".to_owned(),
                |r| format!("{} is {}", r.reference, r.manifest_digest),
            );
            if let Some(failure) = facts.poll_failure {
                message = format!("{message}; it could not be looked at again: {failure}");
            }
            (ConditionStatus::True, Reason::DigestResolved, message)
        }
        ConditionType::Verified => (
            ConditionStatus::Unknown,
            Reason::SignatureNotChecked,
            "The module has the digest that its manifest names; signatures are not checked in this version"
                .to_owned(),
        ),
        ConditionType::Programmed => {
            (ConditionStatus::True, Reason::Published, format!("Revision {} is on the bus", facts.revision()))
        }
        // These are never passed on the way to another one.
        ConditionType::ResolvedRefs
        | ConditionType::Ready
        | ConditionType::Reconciling
        | ConditionType::Stalled => (ConditionStatus::Unknown, Reason::Pending, String::new()),
    };
    finding(kind, status, reason, message)
}

const STEPS: [ConditionType; 4] =
    [ConditionType::Accepted, ConditionType::Resolved, ConditionType::Verified, ConditionType::Programmed];

fn published_findings(facts: &Facts<'_>, resolved: &ResolvedModule) -> Vec<Finding> {
    let mut findings: Vec<_> = STEPS.iter().map(|kind| passed(*kind, facts, Some(resolved))).collect();
    let ready = ready_finding(facts);
    let kstatus = match facts.nodes.rollout().map(|rollout| &rollout.verdict) {
        Some(Verdict::Active { .. }) => None,
        Some(Verdict::Failed { stuck: true }) => Some(ConditionType::Stalled),
        _ => Some(ConditionType::Reconciling),
    };
    let kstatus = kstatus.map(|kind| Finding { kind, status: ConditionStatus::True, ..ready.clone() });
    findings.push(ready);
    findings.extend(kstatus);
    findings
}

fn ready_finding(facts: &Facts<'_>) -> Finding {
    let wording = match facts.mode {
        Mode::Disabled => Wording { runs: "is disabled", ..Wording::RULE },
        Mode::Enforce | Mode::Monitor => Wording::RULE,
    };
    let finding = ready(facts.nodes, facts.revision(), &wording);
    match facts.expired_at {
        // Whatever else is so has to be said, too.
        Some(at) if finding.reason == Reason::Active => {
            let message = format!(
                "{}; it expired at {at}, so it judges nothing any more: delete it, or give it a later expiresAt",
                finding.message
            );
            Finding { reason: Reason::Expired, message, ..finding }
        }
        _ => finding,
    }
}

/// How the message of Ready speaks of what nodes do with a kind.
#[derive(Debug)]
pub(crate) struct Wording {
    /// Of a node that does what is wanted.
    pub(crate) runs: &'static str,
    /// Of one that cannot.
    pub(crate) cannot_run: &'static str,
    /// What nothing does without nodes.
    pub(crate) nothing: &'static str,
}

impl Wording {
    pub(crate) const RULE: Self =
        Self { runs: "runs", cannot_run: "cannot run", nothing: "nothing enforces the rule" };
    pub(crate) const ROUTE: Self =
        Self { runs: "is served", cannot_run: "cannot be served", nothing: "nothing serves the route" };
}

/// Ready, by what nodes say of this revision.
pub(crate) fn ready(nodes: Nodes<'_>, revision: &str, wording: &Wording) -> Finding {
    let runs = wording.runs;
    let rollout = match nodes {
        Nodes::Reported(rollout) => rollout,
        Nodes::NotYet => {
            let message = format!("Revision {revision} is on the bus; the nodes have not been heard yet");
            return finding(ConditionType::Ready, ConditionStatus::False, Reason::Progressing, message);
        }
        Nodes::Unreachable => {
            let message = format!(
                "The bus cannot be reached, and no node was heard for 90 s; they go on with what they have, revision {revision} \
                 if they took it up before"
            );
            return finding(ConditionType::Ready, ConditionStatus::Unknown, Reason::BusUnavailable, message);
        }
    };
    let on = format!("{}/{} nodes", rollout.counts.ready, rollout.counts.desired);
    let (status, reason, message) = match &rollout.verdict {
        Verdict::Active { in_grace } => {
            let message = match in_grace {
                0 => format!("Revision {revision} {runs} on {on}"),
                n => {
                    format!("Revision {revision} {runs} on {on}; {n} joining or away for less than a minute")
                }
            };
            match &rollout.unsound[..] {
                [] => (ConditionStatus::True, Reason::Active, message),
                nodes => {
                    let on = listed(nodes);
                    let message = format!(
                        "{message}; its prefilter hid a request that the rule does not allow, so it runs on every request on {on}"
                    );
                    (ConditionStatus::True, Reason::PrefilterUnsound, message)
                }
            }
        }
        Verdict::Progressing => {
            (ConditionStatus::False, Reason::Progressing, format!("Revision {revision} {runs} on {on}"))
        }
        Verdict::Silent { nodes } => (
            ConditionStatus::Unknown,
            Reason::NodeSilent,
            format!("Revision {revision} {runs} on {on}; nothing was heard for 90 s from {}", listed(nodes)),
        ),
        Verdict::Failed { .. } => {
            let first = rollout.failing.first();
            let why =
                first.map_or_else(String::new, |f| format!(": {} on {}: {}", f.reason, f.node, f.message));
            let more = rollout.counts.failed.saturating_sub(rollout.failing.len());
            let more =
                if more > 0 { format!(" (+{more} more than status.failing lists)") } else { String::new() };
            let (failed, cannot_run) = (rollout.counts.failed, wording.cannot_run);
            let message =
                format!("Revision {revision} {runs} on {on} and {cannot_run} on {failed}{more}{why}");
            (ConditionStatus::False, Reason::NodeFailed, message)
        }
        Verdict::NoNodes => (
            ConditionStatus::False,
            Reason::NoNodes,
            format!("The node-agents' DaemonSet wants no agent on any node, so {}", wording.nothing),
        ),
    };
    finding(ConditionType::Ready, status, reason, message)
}

fn halted_findings(facts: &Facts<'_>, halt: &Halt, resolved: Option<&ResolvedModule>) -> Vec<Finding> {
    let mut findings: Vec<_> = STEPS
        .iter()
        .map(|kind| {
            let (status, message) = match kind.cmp(&halt.condition) {
                Ordering::Less => return passed(*kind, facts, resolved),
                Ordering::Equal => (ConditionStatus::False, halt.message.clone()),
                Ordering::Greater => (
                    ConditionStatus::Unknown,
                    format!("Not known while {} is False", halt.condition.as_str()),
                ),
            };
            finding(*kind, status, halt.reason, message)
        })
        .collect();
    let message = format!("{}; {}", halt.message, what_goes_on(facts));
    findings.push(finding(ConditionType::Ready, ConditionStatus::Unknown, halt.reason, message));
    let kstatus = match halt.retry {
        Retry::Soon => ConditionType::Reconciling,
        Retry::Slowly | Retry::OnChange => ConditionType::Stalled,
    };
    findings.push(finding(kstatus, ConditionStatus::True, halt.reason, halt.message.clone()));
    findings
}

/// What nodes enforce while the new generation cannot be.
fn what_goes_on(facts: &Facts<'_>) -> String {
    if facts.enforced.is_none() {
        return "no revision is enforced".to_owned();
    }
    let revision = facts.revision();
    match facts.nodes {
        Nodes::Reported(Rollout { counts, .. }) => {
            format!("revision {revision} stays enforced on {}/{} nodes", counts.ready, counts.desired)
        }
        Nodes::NotYet => format!("revision {revision} stays enforced where it was"),
        Nodes::Unreachable => {
            format!(
                "revision {revision} was enforced before; the bus cannot be reached, and no node was heard for 90 s"
            )
        }
    }
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} (+{more} more)"),
    }
}
