//! Which Events a change of status is worth. No I/O.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use portcullis_crds::WasmRuleStatus;
use portcullis_crds::condition::{ConditionType, Reason};

/// Longest note that events.k8s.io accepts.
const NOTE_MAX: usize = 1000;

/// One Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) warning: bool,
    pub(crate) reason: String,
    pub(crate) action: &'static str,
    pub(crate) message: String,
}

/// What is told once, when it becomes so. Nothing is told twice while a cause lasts: neither retries nor other
/// words for the same reason.
pub(crate) fn transitions(before: Option<&WasmRuleStatus>, after: &WasmRuleStatus) -> Vec<Note> {
    let mut notes = Vec::new();
    let digest = |status: &WasmRuleStatus| status.resolved.as_ref().map(|r| r.manifest_digest.clone());
    if let Some(resolved) = &after.resolved
        && before.and_then(digest).as_ref() != Some(&resolved.manifest_digest)
    {
        let message = format!("{} is {}", resolved.reference, resolved.manifest_digest);
        notes.push(note(false, "Resolved", "Resolve", &message));
    }
    let published =
        |status: &WasmRuleStatus| status.enforced.as_ref().map(|enforced| enforced.revision.clone());
    if let Some(revision) = published(after)
        && before.and_then(published).as_ref() != Some(&revision)
    {
        notes.push(note(
            false,
            Reason::Published.as_str(),
            "Publish",
            &format!("Revision {revision} is on the bus"),
        ));
    }
    let worst =
        |status: &WasmRuleStatus| cause(&status.conditions).map(|c| (c.type_.clone(), c.reason.clone()));
    if let Some(cause) = cause(&after.conditions)
        && before.and_then(worst) != Some((cause.type_.clone(), cause.reason.clone()))
    {
        notes.push(note(true, &cause.reason, "Reconcile", &cause.message));
    }
    let ready = |status: &WasmRuleStatus| {
        let ready = find(&status.conditions, ConditionType::Ready).filter(|c| c.status == "True");
        ready.map(|c| (c.message.clone(), status.stable_revision.clone()))
    };
    if let Some((message, revision)) = ready(after) {
        let was = before.and_then(ready);
        if was.is_none_or(|(_, revision_before)| revision_before != revision) {
            notes.push(note(false, "Ready", "Roll out", &message));
        }
    }
    notes
}

fn note(warning: bool, reason: &str, action: &'static str, message: &str) -> Note {
    Note { warning, reason: reason.to_owned(), action, message: message.chars().take(NOTE_MAX).collect() }
}

/// The condition that keeps the rule from being Ready, unless that is just work under way; or what is wrong although it
/// is.
fn cause(conditions: &[Condition]) -> Option<&Condition> {
    let first_false = conditions.iter().find(|c| c.status == "False");
    let worth_a_warning = [Reason::NodeSilent.as_str(), Reason::PrefilterUnsound.as_str()];
    let ready =
        || find(conditions, ConditionType::Ready).filter(|c| worth_a_warning.contains(&c.reason.as_str()));
    first_false.or_else(ready).filter(|c| c.reason != Reason::Progressing.as_str())
}

fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == kind.as_str())
}

#[cfg(test)]
mod tests {
    use portcullis_crds::status::EnforcedRevision;

    use super::*;
    use crate::progress::Outcome;
    use crate::progress::tests::published;
    use crate::reconcile::aggregate::Verdict;
    use crate::reconcile::status::tests::{rollout, status_of};
    use crate::reconcile::{Halt, Retry};

    fn reasons(before: Option<&WasmRuleStatus>, after: &WasmRuleStatus) -> Vec<String> {
        transitions(before, after).into_iter().map(|note| note.reason).collect()
    }

    fn rolled_out(verdict: Verdict, ready: usize, before: &WasmRuleStatus) -> WasmRuleStatus {
        let revision = EnforcedRevision { revision: "r1".into(), module_digest: "sha256:1".into() };
        status_of(
            &Outcome::Published(Box::new(published())),
            Some(&revision),
            Some(&rollout(verdict, ready, 2)),
            before,
        )
    }

    fn unreachable(before: &WasmRuleStatus, message: &str) -> WasmRuleStatus {
        let halt =
            Halt::new(ConditionType::Resolved, Reason::RegistryUnreachable, message.into(), Retry::Soon);
        status_of(&Outcome::Halted(halt), None, None, before)
    }

    #[test]
    fn a_rollout_is_told_step_by_step() {
        let on_the_bus = rolled_out(Verdict::Progressing, 0, &WasmRuleStatus::default());
        assert_eq!(reasons(None, &on_the_bus), ["Resolved", "Published"]);
        let half = rolled_out(Verdict::Progressing, 1, &on_the_bus);
        assert!(reasons(Some(&on_the_bus), &half).is_empty());
        let done = rolled_out(Verdict::Active { in_grace: 0 }, 2, &half);
        assert_eq!(reasons(Some(&half), &done), ["Ready"]);
        assert!(reasons(Some(&done), &rolled_out(Verdict::Active { in_grace: 1 }, 1, &done)).is_empty());
    }

    #[test]
    fn a_failure_is_told_once_whatever_its_words() {
        let first = unreachable(&WasmRuleStatus::default(), "connection refused");
        assert_eq!(reasons(None, &first), ["RegistryUnreachable"]);
        assert!(transitions(None, &first)[0].warning);
        let again = unreachable(&first, "timed out");
        assert!(reasons(Some(&first), &again).is_empty());
    }
}
