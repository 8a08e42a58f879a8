//! Last step: the status goes to the API server, if it differs from what is there.

use std::fmt::Debug;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::events::Reporter;
use kube::{Client, Resource, ResourceExt};
use portcullis_crds::condition::ConditionType;
use portcullis_crds::status::EnforcedRevision;
use portcullis_crds::{WasmRule, WasmRuleStatus};
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::api_error::said;
use crate::events::{Note, event, transitions};
use crate::lease::Validity;
use crate::metrics::Metrics;
use crate::patch_rate_limit::PatchRateLimit;

/// Why a status was not written.
#[derive(Debug, Error)]
pub(crate) enum UpdateError {
    /// Somebody else wrote the object in between; its new state will come by the watch.
    #[error("the object has changed in between")]
    Conflict,
    /// The object is gone.
    #[error("the object is gone")]
    Gone,
    /// The lease ran out: this operator writes nothing more.
    #[error("the lease of this operator is no longer valid")]
    LeaseOver,
    /// The API server refused, or did not answer.
    #[error("the status could not be written: {}", said(.0))]
    Api(#[source] kube::Error),
}

/// Writes statuses, as many as the API server should get, and Events about them.
pub(crate) struct StatusWriter {
    pub(crate) client: Client,
    pub(crate) validity: Validity,
    pub(crate) rate: PatchRateLimit,
    pub(crate) reporter: Reporter,
    pub(crate) metrics: Metrics,
}

/// Whether a status tells more than numbers: then it goes before those that do not.
pub(crate) fn is_significant(before: Option<&WasmRuleStatus>, after: &WasmRuleStatus) -> bool {
    before.map(told) != Some(told(after))
}

fn told(status: &WasmRuleStatus) -> (i64, Option<&EnforcedRevision>, Option<(&str, &str)>) {
    let ready = status.conditions.iter().find(|c| c.type_ == ConditionType::Ready.as_str());
    let ready = ready.map(|c| (c.status.as_str(), c.reason.as_str()));
    (status.observed_generation, status.enforced.as_ref(), ready)
}

/// After this long a status is written again although it says nothing new, so that its `lastReportTime` tells a status that
/// somebody keeps from one that nobody does.
pub(crate) const RENEW: SignedDuration = SignedDuration::from_secs(300);

/// Whether a status says something else, or has not been confirmed for a while.
pub(crate) fn is_due(before: Option<&WasmRuleStatus>, after: &WasmRuleStatus) -> bool {
    let Some(before) = before else { return true };
    match (&before.last_report_time, &after.last_report_time) {
        (Some(said), Some(now)) if is_renewal(Some(before), after) => now.0.duration_since(said.0) >= RENEW,
        _ => before != after,
    }
}

/// Whether a status differs from the one before in its time alone.
pub(crate) fn is_renewal(before: Option<&WasmRuleStatus>, after: &WasmRuleStatus) -> bool {
    // Field by field, and all of them: ten thousand statuses are not copied to be compared.
    let WasmRuleStatus {
        observed_generation,
        resolved,
        enforced,
        stable_revision,
        candidate_revision,
        weight,
        nodes,
        last_report_time: _,
        failing,
        conditions,
    } = after;
    before.is_some_and(|before| {
        before.observed_generation == *observed_generation
            && before.resolved == *resolved
            && before.enforced == *enforced
            && before.stable_revision == *stable_revision
            && before.candidate_revision == *candidate_revision
            && before.weight == *weight
            && before.nodes == *nodes
            && before.failing == *failing
            && before.conditions == *conditions
    })
}

/// Patches the status, whose turn by the rate has come, and tells about what has changed.
pub(crate) async fn update_status(
    rule: &WasmRule,
    status: &WasmRuleStatus,
    writer: &StatusWriter,
) -> Result<(), UpdateError> {
    let notes = transitions(rule.status.as_ref(), status);
    writer.write(rule, &patch(rule.resource_version().as_deref(), status), notes).await
}

impl StatusWriter {
    /// Patches the status of an object, then tells these notes about it.
    pub(crate) async fn write<K>(
        &self,
        object: &K,
        patch: &serde_json::Value,
        notes: Vec<Note>,
    ) -> Result<(), UpdateError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        if !self.validity.holds() {
            return Err(UpdateError::LeaseOver);
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let written =
            api.patch_status(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
        self.metrics.patched(&written);
        match written {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => return Err(UpdateError::Conflict),
            Err(kube::Error::Api(status)) if status.code == 404 => return Err(UpdateError::Gone),
            Err(error) => return Err(UpdateError::Api(error)),
        }
        for note in notes {
            tell(self, object.object_ref(&()), note).await;
        }
        Ok(())
    }
}

/// A merge patch that leaves nothing of the old status behind: a field that is absent would stay as it is.
/// With the resourceVersion a writer that read an older state gets a conflict.
fn patch(resource_version: Option<&str>, status: &WasmRuleStatus) -> serde_json::Value {
    let mut written = serde_json::to_value(status).expect("a status is plain data with string keys");
    if let Some(fields) = written.as_object_mut() {
        for field in [
            "resolved",
            "enforced",
            "stableRevision",
            "candidateRevision",
            "weight",
            "nodes",
            "lastReportTime",
            "failing",
        ] {
            fields.entry(field).or_insert(serde_json::Value::Null);
        }
        if let Some(resolved) = fields.get_mut("resolved").and_then(|r| r.as_object_mut()) {
            resolved.entry("signer").or_insert(serde_json::Value::Null);
        }
    }
    serde_json::json!({"metadata": {"resourceVersion": resource_version}, "status": written})
}

/// An Event is for people: that it could not be written is no reason to do anything again. There is one a
/// transition, so none is counted up.
async fn tell(writer: &StatusWriter, about: ObjectReference, note: Note) {
    let api: Api<Event> =
        Api::namespaced(writer.client.clone(), about.namespace.as_deref().unwrap_or_default());
    let event = event(note, about, &writer.reporter, Timestamp::now());
    if let Err(error) = api.create(&PostParams::default(), &event).await {
        tracing::warn!(error = said(&error), reason = event.reason, "an Event could not be written");
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn a_status_that_says_nothing_new_is_confirmed_every_five_minutes() {
        let at = |second: i64| WasmRuleStatus {
            last_report_time: Some(Time(Timestamp::from_second(second).unwrap())),
            ..WasmRuleStatus::default()
        };
        assert!(is_due(None, &at(0)));
        assert!(!is_due(Some(&at(0)), &at(299)) && is_due(Some(&at(0)), &at(300)));
        assert!(!is_due(Some(&at(0)), &at(0)), "nobody was heard since");
        let other = WasmRuleStatus { weight: Some(100), ..at(1) };
        assert!(is_due(Some(&at(0)), &other) && !is_renewal(Some(&at(0)), &other));
    }

    #[test]
    fn a_patch_removes_what_is_no_longer_so_and_is_bound_to_what_was_read() {
        let written = patch(Some("17"), &WasmRuleStatus { weight: Some(100), ..WasmRuleStatus::default() });
        assert_eq!(written["metadata"]["resourceVersion"], "17");
        assert_eq!(written["status"]["weight"], 100);
        for field in ["resolved", "stableRevision", "candidateRevision", "nodes", "failing"] {
            assert!(written["status"].get(field).is_some_and(serde_json::Value::is_null), "{field}");
        }
    }
}
