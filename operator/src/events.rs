//! Which Events a change of status is worth, and what they are to the API server. No I/O.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, ObjectMeta};
use kube::runtime::events::Reporter;
use portcullis_artifact::Digest;
use portcullis_crds::WasmRuleStatus;
use portcullis_crds::condition::{ConditionType, Reason};
use portcullis_crds::waf_route::WafRouteStatus;

/// Bytes of the longest note that events.k8s.io accepts.
const NOTE_MAX: usize = 1024;
/// Bytes of the longest reportingInstance.
const INSTANCE_MAX: usize = 128;
/// Bytes of the longest name of an object (RFC 1123 subdomain).
const NAME_MAX: usize = 253;
/// Hexadecimal digits of a hash that stands for what was cut off.
const HASH_DIGITS: usize = 16;

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
    notes.extend(new_cause(before.map(|status| &status.conditions[..]), &after.conditions));
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

/// The same of a route.
pub(crate) fn route_transitions(before: Option<&WafRouteStatus>, after: &WafRouteStatus) -> Vec<Note> {
    let before = before.map(|status| &status.conditions[..]);
    let ready =
        |conditions: &[Condition]| find(conditions, ConditionType::Ready).is_some_and(|c| c.status == "True");
    let became_ready = ready(&after.conditions) && !before.is_some_and(ready);
    let message = find(&after.conditions, ConditionType::Ready).map_or("", |c| &c.message);
    let ready = became_ready.then(|| note(false, "Ready", "Roll out", message));
    new_cause(before, &after.conditions).into_iter().chain(ready).collect()
}

/// What is wrong, if it is something else than before.
fn new_cause(before: Option<&[Condition]>, after: &[Condition]) -> Option<Note> {
    let named = |c: &Condition| (c.type_.clone(), c.reason.clone());
    let cause_now = cause(after)?;
    let is_new = before.and_then(cause).map(named) != Some(named(cause_now));
    is_new.then(|| note(true, &cause_now.reason, "Reconcile", &cause_now.message))
}

fn note(warning: bool, reason: &str, action: &'static str, message: &str) -> Note {
    Note { warning, reason: reason.to_owned(), action, message: start(message, NOTE_MAX).to_owned() }
}

/// What is written about an object, `at` being now. kube's Recorder would name it after the whole object, which has no
/// room for that when its own name is long.
pub(crate) fn event(note: Note, about: ObjectReference, reporter: &Reporter, at: Timestamp) -> Event {
    let object = about.name.as_deref().unwrap_or_default();
    let instance = reporter.instance.as_ref().unwrap_or(&reporter.controller);
    Event {
        metadata: ObjectMeta {
            name: Some(event_name(object, at)),
            namespace: about.namespace.clone(),
            ..ObjectMeta::default()
        },
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(note.reason),
        action: Some(note.action.to_owned()),
        note: Some(note.message),
        regarding: Some(about),
        event_time: Some(MicroTime(at)),
        reporting_controller: Some(reporter.controller.clone()),
        reporting_instance: Some(start(instance, INSTANCE_MAX).to_owned()),
        ..Event::default()
    }
}

/// `NAME.TIME`, as Kubernetes names Events; of a name that leaves no room for the time, its start and its hash.
fn event_name(object: &str, at: Timestamp) -> String {
    let time = format!(".{:x}", at.as_nanosecond());
    let room = NAME_MAX - time.len();
    if object.len() <= room {
        return format!("{object}{time}");
    }
    let hash = Digest::of(object.as_bytes());
    // A label ends with a letter or digit, also where it was cut.
    let start = start(object, room - HASH_DIGITS - 1).trim_end_matches(['-', '.']);
    format!("{start}-{}{time}", &hash.hex()[..HASH_DIGITS])
}

/// As much of a text as `max` bytes hold.
fn start(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
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
    use crate::halt::{Halt, Retry};
    use crate::outcome::Outcome;
    use crate::progress::tests::published;
    use crate::reconcile::aggregate::Verdict;
    use crate::reconcile::status::tests::{rollout, status_of};

    fn reasons(before: Option<&WasmRuleStatus>, after: &WasmRuleStatus) -> Vec<String> {
        transitions(before, after).into_iter().map(|note| note.reason).collect()
    }

    fn rolled_out(verdict: Verdict, ready: usize, before: &WasmRuleStatus) -> WasmRuleStatus {
        let revision = EnforcedRevision { revision: "r1".into(), module_digest: "sha256:1".into() };
        status_of(
            &Outcome::Published(published()),
            Some(&revision),
            Some(&rollout(verdict, ready, 2)),
            before,
        )
    }

    fn unreachable(before: &WasmRuleStatus, message: &str) -> WasmRuleStatus {
        let halt =
            Halt::new(ConditionType::Resolved, Reason::RegistryUnreachable, message.into(), Retry::Soon);
        status_of(&Outcome::Halted { halt, resolved: None }, None, None, before)
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

    fn is_subdomain(name: &str) -> bool {
        let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let is_label = |label: &str| {
            let bytes = label.as_bytes();
            bytes.iter().all(|b| alphanumeric(*b) || *b == b'-')
                && bytes.first().is_some_and(|b| alphanumeric(*b))
                && bytes.last().is_some_and(|b| alphanumeric(*b))
        };
        name.len() <= 253 && name.split('.').all(is_label)
    }

    #[test]
    fn the_name_of_an_event_is_valid_however_long_the_rules_name_is() {
        let at = "2026-11-26T12:00:00.123456789Z".parse().unwrap();
        for length in [1, 63, 220, 236, 237, 238, 252, 253] {
            let plain = "a".repeat(length);
            // Wherever it is cut, a dot or a dash may be there.
            let dots: String = "a.".chars().cycle().take(length - 1).chain(['a']).collect();
            let dashes: String = "a-".chars().cycle().take(length - 1).chain(['a']).collect();
            for name in [plain, dots, dashes] {
                let event = event_name(&name, at);
                assert!(is_subdomain(&event), "{event}");
                assert!(event.starts_with(&name[..length.min(200)]), "{event}");
            }
        }
        assert_eq!(event_name("bots", at), "bots.18eb968afc844d15");
    }

    #[test]
    fn events_of_long_names_that_differ_only_at_their_ends_do_not_collide() {
        let at = "2026-11-26T12:00:00Z".parse().unwrap();
        let name = |last: char| format!("{}{last}", "a".repeat(252));
        assert_ne!(event_name(&name('a'), at), event_name(&name('b'), at));
    }

    #[test]
    fn an_event_keeps_within_what_the_api_server_accepts() {
        let long = "ü".repeat(2000);
        let about = ObjectReference {
            name: Some("bots".into()),
            namespace: Some("shop".into()),
            ..ObjectReference::default()
        };
        let reporter = Reporter { controller: "portcullis-operator".into(), instance: Some("p".repeat(253)) };
        let event = event(note(true, "Stalled", "Reconcile", &long), about, &reporter, Timestamp::UNIX_EPOCH);
        assert_eq!(event.metadata.namespace.as_deref(), Some("shop"));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        assert_eq!(event.note.unwrap().len(), 1024);
        assert_eq!(event.reporting_instance.unwrap().len(), 128);
    }

    #[test]
    fn of_a_route_is_told_what_becomes_wrong_and_that_it_is_served() {
        let status = |kind: ConditionType, is: &str, reason: &str| WafRouteStatus {
            conditions: vec![Condition {
                type_: kind.as_str().to_owned(),
                status: is.to_owned(),
                reason: reason.to_owned(),
                message: "m".to_owned(),
                observed_generation: None,
                last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                    Timestamp::UNIX_EPOCH,
                ),
            }],
            ..WafRouteStatus::default()
        };
        let refused = status(ConditionType::Accepted, "False", "Conflicted");
        let served = status(ConditionType::Ready, "True", "Active");
        let told = |before: Option<&WafRouteStatus>, after: &WafRouteStatus| {
            let notes = route_transitions(before, after).into_iter();
            notes.map(|note| (note.warning, note.reason)).collect::<Vec<_>>()
        };
        assert_eq!(told(None, &refused), [(true, "Conflicted".to_owned())]);
        assert_eq!(told(Some(&refused), &refused), []);
        assert_eq!(told(Some(&refused), &served), [(false, "Ready".to_owned())]);
        assert_eq!(told(Some(&served), &served), []);
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
