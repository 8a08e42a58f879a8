//! `operator uninstall`: says in every rule's and route's status that nothing carries it out any more. Run by the chart before it is
//! removed: afterwards nobody is left to say so, and `kubectl wait` would go on finding the last word of the operator.

use futures::{StreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use portcullis_crds::condition::{self, ConditionStatus, ConditionType, Finding, Reason};
use portcullis_crds::{WafRoute, WasmRule, WasmRuleStatus};
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::api_error::said;
use crate::clock;
use crate::config::UninstallArgs;
use crate::lease::{Candidate, Lost, STEPPED_DOWN};

/// Statuses that are written at once.
const TOGETHER: usize = 10;
/// Objects that are listed at once.
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
        Ok((mark_all::<WasmRule>(&client).await?, mark_all::<WafRoute>(&client).await?))
    };
    let marked = tokio::select! {
        marked = marked => marked?,
        lost = candidate.hold(|| {}) => return Err(lost_lease(&lost)),
    };
    let (rules, routes) = marked;
    println!("marked {rules} rules as no longer enforced and {routes} routes as no longer served");
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

/// What of an object says that something carries it out.
trait Marked:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned
{
    /// What the status says from now on, as a merge patch.
    fn uninstalled(&self) -> serde_json::Value;
}

impl Marked for WasmRule {
    fn uninstalled(&self) -> serde_json::Value {
        rule_uninstalled(&self.status.clone().unwrap_or_default(), self.metadata.generation)
    }
}

impl Marked for WafRoute {
    fn uninstalled(&self) -> serde_json::Value {
        let before = self.status.clone().unwrap_or_default();
        let generation = self.metadata.generation.unwrap_or(before.observed_generation);
        let message = "Portcullis was uninstalled, so nothing serves the route";
        serde_json::json!({
            "observedGeneration": generation,
            "conditions": conditions(&before.conditions, generation, message),
            "nodes": null,
        })
    }
}

async fn mark_all<K: Marked>(client: &Client) -> Result<usize, UninstallError> {
    let all: Api<K> = Api::all(client.clone());
    let (mut page, mut marked) = (ListParams::default().limit(PAGE), 0);
    loop {
        let listed = match all.list(&page).await {
            Ok(listed) => listed,
            // The CRD is gone, and every rule with it.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(marked),
            Err(source) => {
                return Err(UninstallError::Api { what: format!("the {}s", K::kind(&())), source });
            }
        };
        let token = listed.metadata.continue_.clone().filter(|token| !token.is_empty());
        let done = stream::iter(listed.items).map(|object| mark(client, object)).buffer_unordered(TOGETHER);
        for result in done.collect::<Vec<_>>().await {
            marked += usize::from(result?);
        }
        match token {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(marked),
        }
    }
}

/// False if the object was deleted in the meantime.
async fn mark<K: Marked>(client: &Client, object: K) -> Result<bool, UninstallError> {
    let namespace = object.namespace().unwrap_or_default();
    let name = format!("{} {namespace}/{}", K::kind(&()), object.name_any());
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    // No resourceVersion: whatever was written in between, this is the last word.
    let patch = serde_json::json!({"status": object.uninstalled()});
    match api.patch_status(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(source) => Err(UninstallError::Api { what: name, source }),
    }
}

fn conditions(before: &[Condition], generation: i64, message: &str) -> Vec<Condition> {
    let finding =
        |kind, status| Finding { kind, status, reason: Reason::Uninstalled, message: message.to_owned() };
    let ready = finding(ConditionType::Ready, ConditionStatus::Unknown);
    let stalled = finding(ConditionType::Stalled, ConditionStatus::True);
    condition::apply(before, &[ready, stalled], generation, clock::now())
}

fn rule_uninstalled(before: &WasmRuleStatus, generation: Option<i64>) -> serde_json::Value {
    let generation = generation.unwrap_or(before.observed_generation);
    let message = "Portcullis was uninstalled, so nothing enforces the rule";
    serde_json::json!({
        "observedGeneration": generation,
        "conditions": conditions(&before.conditions, generation, message),
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
        let patch = rule_uninstalled(
            &WasmRuleStatus { observed_generation: 2, ..WasmRuleStatus::default() },
            Some(3),
        );
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
