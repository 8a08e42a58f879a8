//! A WasmRule on the cluster.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use portcullis_crds::WasmRule;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Look, until};

/// Long enough for a node to fetch and compile, short enough to notice that nothing moves.
pub const SOON: Duration = Duration::from_secs(60);

/// One rule, by name.
#[derive(Clone)]
pub struct Rule {
    api: Api<WasmRule>,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

impl Rule {
    /// Names a rule; nothing is created.
    pub fn new(cluster: &Cluster, namespace: &str, name: &str) -> Self {
        Self {
            api: Api::namespaced(cluster.client.clone(), namespace),
            name: name.into(),
            namespace: namespace.into(),
        }
    }

    /// Applies the rule with this module, and further fields of the spec.
    pub async fn apply(&self, reference: &str, more: Value) -> Result<i64> {
        let mut spec = json!({"source": {"oci": {"reference": reference}}});
        merge(&mut spec, more);
        let object = json!({
            "apiVersion": "portcullis.dev/v1alpha1",
            "kind": "WasmRule",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        });
        let applied = self
            .api
            .patch(&self.name, &PatchParams::apply("e2e").force(), &Patch::Apply(&object))
            .await
            .with_context(|| format!("apply {}", self.name))?;
        applied.metadata.generation.context("an applied object has a generation")
    }

    /// The object as it is.
    pub async fn get(&self) -> Result<WasmRule> {
        Ok(self.api.get(&self.name).await?)
    }

    /// Deletes the rule.
    pub async fn delete(&self) -> Result<()> {
        self.api.delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// A condition, if the operator has seen the present generation.
    pub async fn condition(&self, kind: &str) -> Result<Option<Condition>> {
        let rule = self.get().await?;
        let generation = rule.metadata.generation;
        Ok(rule
            .status
            .and_then(|status| status.conditions.into_iter().find(|c| c.type_ == kind))
            .filter(|c| c.observed_generation == generation))
    }

    /// Waits until a condition of the present generation has this status and reason.
    pub async fn wait(&self, kind: &str, status: &str, reason: &str, limit: Duration) -> Result<Condition> {
        until(&format!("{}: {kind}={status}/{reason}", self.name), limit, || async {
            let rule = self.get().await?;
            Ok(match self.condition(kind).await? {
                Some(c) if c.status == status && c.reason == reason => Look::Done(c),
                _ => Look::NotYet(format!("{:?}", rule.status)),
            })
        })
        .await
    }

    /// Waits until every node reported the present generation's revision, and returns the revision.
    pub async fn wait_ready(&self) -> Result<String> {
        self.wait("Ready", "True", "Active", SOON).await?;
        let status = self.get().await?.status.context("a ready rule has a status")?;
        status.stable_revision.context("a ready rule has a stable revision")
    }
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (into, more) => *into = more,
    }
}
