//! What a route's status says.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use portcullis_crds::Revision;
use portcullis_crds::condition::{self, ConditionStatus, ConditionType, Finding, Reason};
use portcullis_crds::waf_route::WafRouteStatus;

use super::plan::Planned;
use crate::reconcile::aggregate::Verdict;
use crate::reconcile::conditions::{Nodes, Wording, finding, ready};

/// All that a status is made of.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) planned: &'a Planned,
    /// What the bus has of this object.
    pub(crate) published: Option<&'a Revision>,
    /// Whether that is what is planned.
    pub(crate) is_current: bool,
    /// Why it could not be put on the bus.
    pub(crate) failure: Option<&'a (Reason, String)>,
    /// What the agents say of it.
    pub(crate) nodes: Nodes<'a>,
}

/// The status after `previous`.
pub(crate) fn status(facts: &Facts<'_>, previous: &WafRouteStatus, now: Timestamp) -> WafRouteStatus {
    let generation = facts.planned.generation;
    let nodes = facts.nodes.counts(previous.nodes.as_ref());
    let rollout = facts.nodes.rollout();
    WafRouteStatus {
        observed_generation: generation,
        nodes: nodes.filter(|_| facts.published.is_some()),
        last_report_time: rollout.map(|_| Time(now)).or_else(|| previous.last_report_time.clone()),
        conditions: condition::apply(&previous.conditions, &findings(facts), generation, now),
    }
}

fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let Planned { refusal, without_backend, .. } = facts.planned;
    let (yes, no, unknown) = (ConditionStatus::True, ConditionStatus::False, ConditionStatus::Unknown);
    if let Some(refusal) = refusal {
        let message = format!("{}; {}", refusal.message, what_goes_on(facts));
        let later =
            |kind| finding(kind, unknown, refusal.reason, "Not known while Accepted is False".to_owned());
        return vec![
            finding(ConditionType::Accepted, no, refusal.reason, refusal.message.clone()),
            later(ConditionType::ResolvedRefs),
            later(ConditionType::Programmed),
            finding(ConditionType::Ready, unknown, refusal.reason, message),
            finding(ConditionType::Stalled, yes, refusal.reason, refusal.message.clone()),
        ];
    }
    let mut findings =
        vec![finding(ConditionType::Accepted, yes, Reason::Valid, "The spec is valid".to_owned())];
    let missing = without_backend.join("; ");
    findings.push(if without_backend.is_empty() {
        finding(ConditionType::ResolvedRefs, yes, Reason::ResolvedRefs, "Every Service exists".to_owned())
    } else {
        finding(ConditionType::ResolvedRefs, no, Reason::BackendNotFound, missing.clone())
    });
    let Some(revision) = facts.published.filter(|_| facts.is_current) else {
        let on_its_way = (Reason::Progressing, "The route is not on the bus yet".to_owned());
        let (reason, message) = facts.failure.unwrap_or(&on_its_way).clone();
        let status = if facts.failure.is_some() { no } else { unknown };
        let ready = format!("{message}; {}", what_goes_on(facts));
        findings.extend([
            finding(ConditionType::Programmed, status, reason, message.clone()),
            finding(ConditionType::Ready, unknown, reason, ready),
            finding(ConditionType::Reconciling, yes, reason, message),
        ]);
        return findings;
    };
    let on_the_bus = format!("Revision {revision} is on the bus");
    findings.push(finding(ConditionType::Programmed, yes, Reason::Published, on_the_bus));
    let by_nodes = ready(facts.nodes, revision.as_str(), &Wording::ROUTE);
    let ready = if without_backend.is_empty() || by_nodes.status != yes {
        by_nodes
    } else {
        let message = format!("{missing}; requests for it are answered with 500");
        finding(ConditionType::Ready, no, Reason::BackendNotFound, message)
    };
    let kstatus = match facts.nodes.rollout().map(|rollout| &rollout.verdict) {
        _ if ready.reason == Reason::BackendNotFound => Some(ConditionType::Stalled),
        Some(Verdict::Active { .. }) => None,
        Some(Verdict::Failed { stuck: true }) => Some(ConditionType::Stalled),
        _ => Some(ConditionType::Reconciling),
    };
    let kstatus = kstatus.map(|kind| Finding { kind, status: yes, ..ready.clone() });
    findings.push(ready);
    findings.extend(kstatus);
    findings
}

/// What nodes serve while the new generation cannot be.
fn what_goes_on(facts: &Facts<'_>) -> String {
    match (facts.published, facts.nodes.rollout()) {
        (None, _) => "nothing is served of it".to_owned(),
        (Some(revision), Some(rollout)) => {
            format!(
                "revision {revision} stays served on {}/{} nodes",
                rollout.counts.ready, rollout.counts.desired
            )
        }
        (Some(revision), None) => format!("revision {revision} stays served where it was"),
    }
}
