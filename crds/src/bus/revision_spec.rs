//! What a node needs to run one revision of a rule.

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::feature::{CONFIG_FEATURE, EXPIRY_FEATURE, MATCH_FEATURE, PER_WORKER_FEATURE, RATE_LIMIT_FEATURE};
use super::module_ref::ModuleRef;
use crate::quantity::ByteSize;
use crate::rate_limit::RateLimit;
use crate::request_match::RuleMatch;
use crate::rule_config::CanonicalConfig;
use crate::wasm_rule::{Block, Isolation, Limits, Mode, OnFailure, default_priority};

/// One revision of a rule, with everything that a node needs to run it. [`crate::Revision`] is its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionSpec {
    /// The module.
    pub module: ModuleRef,
    /// ABI version that the operator found it to have; 0 where there is no operator, and the node sees for itself.
    pub abi: u32,
    /// What the module is configured with; `None` if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<CanonicalConfig>,
    /// Whether an evaluation may see what an earlier one left behind.
    #[serde(default)]
    pub isolation: Isolation,
    /// What a verdict does.
    pub mode: Mode,
    /// Lower runs first.
    pub priority: i32,
    /// What an evaluation may cost.
    pub limits: DesiredLimits,
    /// What happens to a request that the rule could not judge.
    pub on_failure: OnFailure,
    /// The answer to a blocked request.
    pub block: Block,
    /// Which requests it judges; `None` if all.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<RuleMatch>,
    /// What the verdict RateLimit means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// From then on it judges nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl RevisionSpec {
    /// This module as a `WasmRule` runs it that says nothing but where it is from.
    pub fn with_defaults(module: ModuleRef, abi: u32) -> Self {
        Self {
            module,
            abi,
            config: None,
            isolation: Isolation::default(),
            mode: Mode::default(),
            priority: default_priority(),
            limits: DesiredLimits::from(&Limits::default()),
            on_failure: OnFailure::default(),
            block: Block::default(),
            matches: None,
            rate_limit: None,
            expires_at: None,
        }
    }

    /// Features without which a node would run something else than is wanted.
    pub fn requires(&self) -> Vec<String> {
        let abi = (self.abi > 0).then(|| format!("abi/{}", self.abi));
        let config = self.config.as_ref().map(|_| CONFIG_FEATURE.to_owned());
        let isolation = (self.isolation == Isolation::PerWorker).then(|| PER_WORKER_FEATURE.to_owned());
        let matches = self.matches.as_ref().map(|_| MATCH_FEATURE.to_owned());
        let expires = self.expires_at.map(|_| EXPIRY_FEATURE.to_owned());
        let limits = self.rate_limit.as_ref().map(|_| RATE_LIMIT_FEATURE.to_owned());
        [abi, config, isolation, matches, expires, limits].into_iter().flatten().collect()
    }
}

/// [`Limits`] in plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredLimits {
    /// Fuel of one evaluation.
    pub fuel: u64,
    /// Fuel added for each byte handed over beyond the first KiB.
    pub fuel_per_byte: u64,
    /// Linear memory of one instance.
    pub memory_bytes: u64,
    /// CPU time of one evaluation.
    pub deadline_micros: u64,
    /// Largest body that is inspected; `None` if the rule reads no bodies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
}

impl From<&Limits> for DesiredLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            fuel: limits.fuel.into(),
            fuel_per_byte: limits.fuel_per_byte.into(),
            memory_bytes: limits.memory.get(),
            deadline_micros: u64::try_from(limits.deadline.get().as_micros()).unwrap_or(u64::MAX),
            body_bytes: limits.body_bytes.map(ByteSize::get),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::module_digest::ModuleDigest;

    pub(crate) fn a_spec() -> RevisionSpec {
        RevisionSpec::with_defaults(
            ModuleRef {
                digest: ModuleDigest::of(b"module"),
                size: 300_000,
                reference: "registry.example/rules/bad-bot:1".into(),
                manifest_digest: ModuleDigest::of(b"manifest").to_string(),
            },
            1,
        )
    }

    #[test]
    fn what_an_older_node_would_pass_over_is_required_of_it() {
        assert_eq!(a_spec().requires(), ["abi/1"]);
        let config = Some(CanonicalConfig::from("{}".to_owned()));
        let spec = RevisionSpec {
            config,
            isolation: Isolation::PerWorker,
            matches: Some(RuleMatch::default()),
            expires_at: Some(Timestamp::UNIX_EPOCH),
            ..a_spec()
        };
        let required = ["abi/1", CONFIG_FEATURE, PER_WORKER_FEATURE, MATCH_FEATURE, EXPIRY_FEATURE];
        assert_eq!(spec.requires(), required);
        assert_eq!(RevisionSpec { abi: 0, ..a_spec() }.requires(), [""; 0]);
    }
}
