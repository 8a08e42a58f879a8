//! First step: is the spec something that can be carried out? No I/O.

use kube::ResourceExt;
use portcullis_artifact::{Reference, ReferenceError};
use portcullis_crds::bus::{DesiredLimits, DesiredRule, ModuleRef, RevisionSpec};
use portcullis_crds::condition::{ConditionType, Reason};
use portcullis_crds::{CanonicalConfig, RuleConfig, RuleKey, WasmRule};
use thiserror::Error;

use crate::halt::{Halt, Retry};
use crate::object::Object;

/// Why a spec cannot be carried out.
#[derive(Debug, Error)]
pub(crate) enum AcceptError {
    /// The API server gives each object these.
    #[error("expected an object from the API server, found one without {0}")]
    Incomplete(&'static str),
    /// Stand-alone mode only.
    #[error(
        "spec.source.file works only with `portcullis serve`; push the module and set spec.source.oci.reference"
    )]
    FileSource,
    /// No source.
    #[error("spec.source.oci.reference is missing: set it to the module in your registry")]
    NoSource,
    /// Not a reference.
    #[error("spec.source.oci.reference: {0}")]
    Reference(#[from] ReferenceError),
}

/// A spec that can be carried out.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) key: RuleKey,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) generation: i64,
    pub(crate) reference: Reference,
    /// The reference as the user wrote it.
    pub(crate) written: String,
    pub(crate) pull_secret: Option<String>,
    config: Option<CanonicalConfig>,
    spec: portcullis_crds::WasmRuleSpec,
}

// === impl Accepted ===

impl Accepted {
    /// What is put on the bus, once the module is known.
    pub(crate) fn desired(&self, module: ModuleRef, abi: u32) -> DesiredRule {
        let stable = RevisionSpec {
            module,
            abi,
            config: self.config.clone(),
            isolation: self.spec.isolation,
            mode: self.spec.mode,
            priority: self.spec.priority,
            limits: DesiredLimits::from(&self.spec.limits),
            on_failure: self.spec.on_failure,
            block: self.spec.block.clone(),
            matches: self.spec.matches.clone(),
            rate_limit: self.spec.rate_limit.clone(),
            expires_at: self.spec.expires_at.as_ref().map(|at| at.0),
        };
        DesiredRule { key: self.key.clone(), stable, candidate: None }
    }

    /// What it was made from.
    pub(crate) fn object(&self) -> Object<'_> {
        Object { uid: &self.uid, generation: self.generation }
    }

    /// The rule does not run, whatever its module is.
    pub(crate) fn is_disabled(&self) -> bool {
        self.spec.mode == portcullis_crds::wasm_rule::Mode::Disabled
    }
}

impl From<AcceptError> for Halt {
    fn from(error: AcceptError) -> Self {
        Self::new(ConditionType::Accepted, Reason::Invalid, error.to_string(), Retry::OnChange)
    }
}

/// Checks what the API server could not.
pub(crate) fn accept(rule: &WasmRule) -> Result<Accepted, AcceptError> {
    let namespace = rule.namespace().ok_or(AcceptError::Incomplete("metadata.namespace"))?;
    let oci = match (&rule.spec.source.oci, &rule.spec.source.file) {
        (_, Some(_)) => return Err(AcceptError::FileSource),
        (None, None) => return Err(AcceptError::NoSource),
        (Some(oci), None) => oci,
    };
    Ok(Accepted {
        key: RuleKey::namespaced(&namespace, rule.name_any()),
        namespace,
        uid: rule.uid().ok_or(AcceptError::Incomplete("metadata.uid"))?,
        generation: rule.metadata.generation.ok_or(AcceptError::Incomplete("metadata.generation"))?,
        reference: oci.reference.parse()?,
        written: oci.reference.clone(),
        pull_secret: oci.pull_secret_ref.as_ref().map(|secret| secret.name.clone()),
        config: rule.spec.config.as_ref().map(RuleConfig::canonical),
        spec: rule.spec.clone(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn wasm_rule(source: &serde_json::Value) -> WasmRule {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "WasmRule",
            "metadata": {"name": "bots", "namespace": "shop", "uid": "u1", "generation": 4},
            "spec": {"source": source}}))
        .unwrap()
    }

    pub(crate) fn tagged() -> WasmRule {
        wasm_rule(&serde_json::json!({"oci": {"reference": "registry.example/rules/bots:1"}}))
    }

    #[test]
    fn a_spec_that_cannot_be_carried_out_says_what_to_write_instead() {
        let message = |source: serde_json::Value| accept(&wasm_rule(&source)).unwrap_err().to_string();
        assert!(message(serde_json::json!({"file": "a.wasm"})).contains("portcullis serve"));
        assert!(message(serde_json::json!({})).contains("spec.source.oci.reference"));
        assert!(message(serde_json::json!({"oci": {"reference": "no tag"}})).contains("reference"));
    }

    #[test]
    fn what_is_accepted_keeps_who_asked_for_it() {
        let accepted = accept(&tagged()).unwrap();
        assert_eq!((accepted.uid.as_str(), accepted.generation), ("u1", 4));
        assert_eq!(accepted.key, RuleKey::namespaced("shop", "bots"));
    }
}
