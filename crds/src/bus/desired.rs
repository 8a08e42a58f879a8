//! Desired state of one rule.

use serde::{Deserialize, Serialize};

use super::feature::{CONFIG_FEATURE, PER_WORKER_FEATURE};
use crate::module_digest::ModuleDigest;
use crate::quantity::ByteSize;
use crate::rule_config::CanonicalConfig;
use crate::rule_key::RuleKey;
use crate::wasm_rule::{Block, Isolation, Limits, Mode, OnFailure};

/// Bytes of a module in one message.
pub const CHUNK_BYTES: usize = 128 * 1024;

/// What is wanted for one rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
#[allow(clippy::large_enum_variant)] // read once, taken apart at once; tombstones are the rare case
pub enum Desired {
    /// Run it.
    Rule(DesiredRule),
    /// It was deleted. (A message of its own: an empty payload would end a batched read early.)
    Tombstone(Tombstone),
}

/// A rule, with everything that a node needs to run it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredRule {
    /// Which rule.
    pub key: RuleKey,
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
}

impl DesiredRule {
    /// Features without which a node would run something else than is wanted.
    pub fn requires(&self) -> Vec<String> {
        let abi = (self.abi > 0).then(|| format!("abi/{}", self.abi));
        let config = self.config.as_ref().map(|_| CONFIG_FEATURE.to_owned());
        let isolation = (self.isolation == Isolation::PerWorker).then(|| PER_WORKER_FEATURE.to_owned());
        abi.into_iter().chain(config).chain(isolation).collect()
    }
}

/// A rule that was deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tombstone {
    /// Which rule.
    pub key: RuleKey,
}

/// A module on the bus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModuleRef {
    /// Digest of the module.
    pub digest: ModuleDigest,
    /// Its size in bytes.
    pub size: u64,
    /// Where it came from, for people.
    pub reference: String,
    /// Digest of the OCI manifest, for people.
    pub manifest_digest: String,
}

impl ModuleRef {
    /// Number of chunks on the bus.
    pub fn chunks(&self) -> u32 {
        u32::try_from(self.size.div_ceil(CHUNK_BYTES as u64)).unwrap_or(u32::MAX)
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

    pub(crate) fn a_rule() -> DesiredRule {
        DesiredRule {
            key: RuleKey::namespaced("shop", "bad-bot-blocker"),
            module: ModuleRef {
                digest: ModuleDigest::of(b"module"),
                size: 300_000,
                reference: "registry.example/rules/bad-bot:1".into(),
                manifest_digest: ModuleDigest::of(b"manifest").to_string(),
            },
            abi: 1,
            config: None,
            isolation: Isolation::PerRequest,
            mode: Mode::Enforce,
            priority: 100,
            limits: DesiredLimits::from(&Limits::default()),
            on_failure: OnFailure::default(),
            block: Block::default(),
        }
    }

    #[test]
    fn the_last_chunk_may_be_short() {
        assert_eq!(a_rule().module.chunks(), 3);
    }

    #[test]
    fn a_message_from_before_configurations_reads_as_one_without() {
        let mut old = serde_json::to_value(Desired::Rule(a_rule())).unwrap();
        old.as_object_mut().unwrap().remove("isolation");
        assert_eq!(old.get("config"), None);
        assert_eq!(serde_json::from_value::<Desired>(old).unwrap(), Desired::Rule(a_rule()));
    }

    #[test]
    fn a_configuration_is_the_same_text_at_both_ends() {
        let config: crate::RuleConfig = serde_json::from_str(r#"{"share": 0.1, "deny": ["a\"b"]}"#).unwrap();
        let rule = DesiredRule { config: Some(config.canonical()), ..a_rule() };
        let json = serde_json::to_vec(&Desired::Rule(rule.clone())).unwrap();
        assert_eq!(serde_json::from_slice::<Desired>(&json).unwrap(), Desired::Rule(rule));
    }

    #[test]
    fn what_an_older_node_would_pass_over_is_required_of_it() {
        let rule = a_rule();
        assert_eq!(rule.requires(), ["abi/1"]);
        let config = Some(CanonicalConfig::from("{}".to_owned()));
        let rule = DesiredRule { config, isolation: Isolation::PerWorker, ..rule };
        assert_eq!(rule.requires(), ["abi/1", CONFIG_FEATURE, PER_WORKER_FEATURE]);
        assert_eq!(DesiredRule { abi: 0, ..a_rule() }.requires(), [""; 0]);
    }

    #[test]
    fn a_tombstone_is_never_empty() {
        let tombstone = Desired::Tombstone(Tombstone { key: RuleKey::namespaced("a", "b") });
        let json = serde_json::to_string(&tombstone).unwrap();
        assert_eq!(serde_json::from_str::<Desired>(&json).unwrap(), tombstone);
        assert!(json.contains("Tombstone"));
    }
}
