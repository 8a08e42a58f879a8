//! `operator uninstall`: says in every rule's status that nothing enforces it any more. Run by the chart before it is
//! removed: afterwards nobody is left to say so, and `kubectl wait` would go on finding the last word of the operator.

use futures::{StreamExt, stream};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use portcullis_crds::condition::{self, ConditionStatus, ConditionType, Finding, Reason};
use portcullis_crds::{WasmRule, WasmRuleStatus};
use thiserror::Error;

use crate::api_error::said;
use crate::clock;
use crate::config::UninstallArgs;
use crate::lease::{Candidate, Lost, STEPPED_DOWN};

/// Statuses that are written at once.
const TOGETHER: usize = 10;
/// Rules that are listed at once.
const PAGE: u32 = 500;

/// Why not every status says so.
#[derive(Debug, Error)]
pub enum UninstallError {
    /// The API server refused, or did not answer.
    #[error("{what}: {}", said(source))]
    Api {
        /// What it was asked for.
        what: String,
        /// What it said.
        source: kube::Error,
    },
    /// The lease could not be kept.
    #[error("the statuses could not be written: {0}")]
    Lost(String),
}

/// Takes the lease away from the operator that leads, waits until it has stepped down, and marks every rule.
pub async fn uninstall(args: &UninstallArgs) -> Result<(), UninstallError> {
    let client = Client::try_default().await.map_err(api("the Kubernetes API"))?;
    let identity = format!("{}_uninstall_{:08x}", args.identity, rand::random::<u32>());
    let mut candidate = Candidate::new(client.clone(), &args.namespace, &args.lease_name, &identity);
    candidate.seize().await.map_err(|e| UninstallError::Lost(e.to_string()))?;
    let marked = async {
        tokio::time::sleep(STEPPED_DOWN).await;
        mark_all(&client).await
    };
    let marked = tokio::select! {
        marked = marked => marked?,
        lost = candidate.hold(|| {}) => return Err(lost_lease(&lost)),
    };
    println!("marked {marked} rules as no longer enforced");
    // The lease is not released: an operator that is still there would lead again, and say the opposite.
    Ok(())
}

fn lost_lease(lost: &Lost) -> UninstallError {
    UninstallError::Lost(lost.to_string())
}

fn api(what: &str) -> impl FnOnce(kube::Error) -> UninstallError {
    let what = what.to_owned();
    move |source| UninstallError::Api { what, source }
}

async fn mark_all(client: &Client) -> Result<usize, UninstallError> {
    let all: Api<WasmRule> = Api::all(client.clone());
    let (mut page, mut marked) = (ListParams::default().limit(PAGE), 0);
    loop {
        let listed = match all.list(&page).await {
            Ok(listed) => listed,
            // The CRD is gone, and every rule with it.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(marked),
            Err(source) => return Err(UninstallError::Api { what: "the WasmRules".into(), source }),
        };
        let token = listed.metadata.continue_.clone().filter(|token| !token.is_empty());
        let done = stream::iter(listed.items).map(|rule| mark(client, rule)).buffer_unordered(TOGETHER);
        for result in done.collect::<Vec<_>>().await {
            marked += usize::from(result?);
        }
        match token {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(marked),
        }
    }
}

/// False if the rule was deleted in the meantime.
async fn mark(client: &Client, rule: WasmRule) -> Result<bool, UninstallError> {
    let name = format!("WasmRule {}/{}", rule.namespace().unwrap_or_default(), rule.name_any());
    let rules: Api<WasmRule> = Api::namespaced(client.clone(), &rule.namespace().unwrap_or_default());
    let status = uninstalled(&rule.status.clone().unwrap_or_default(), rule.metadata.generation);
    // No resourceVersion: whatever was written in between, this is the last word.
    let patch = serde_json::json!({"status": status});
    match rules.patch_status(&rule.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(source) => Err(UninstallError::Api { what: name, source }),
    }
}

/// What the status says from now on, as a merge patch.
fn uninstalled(before: &WasmRuleStatus, generation: Option<i64>) -> serde_json::Value {
    let message = "Portcullis was uninstalled, so nothing enforces the rule";
    let finding =
        |kind, status| Finding { kind, status, reason: Reason::Uninstalled, message: message.to_owned() };
    let ready = finding(ConditionType::Ready, ConditionStatus::Unknown);
    let stalled = finding(ConditionType::Stalled, ConditionStatus::True);
    let generation = generation.unwrap_or(before.observed_generation);
    let conditions = condition::apply(&before.conditions, &[ready, stalled], generation, clock::now());
    serde_json::json!({
        "observedGeneration": generation,
        "conditions": conditions,
        "enforced": null,
        "candidateRevision": null,
        "weight": null,
        "nodes": null,
        "failing": [],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_of_an_uninstalled_release_is_neither_ready_nor_enforced() {
        let patch =
            uninstalled(&WasmRuleStatus { observed_generation: 2, ..WasmRuleStatus::default() }, Some(3));
        assert_eq!(patch["observedGeneration"], 3);
        let conditions: Vec<_> = patch["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| format!("{}={}/{}", c["type"], c["status"], c["reason"]).replace('"', ""))
            .collect();
        assert_eq!(conditions, ["Ready=Unknown/Uninstalled", "Stalled=True/Uninstalled"]);
        for gone in ["enforced", "nodes", "candidateRevision"] {
            assert!(patch[gone].is_null(), "{gone}");
        }
    }
}
