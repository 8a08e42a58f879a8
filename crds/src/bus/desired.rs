//! Desired state of one rule.

use serde::{Deserialize, Serialize};

use crate::revision::ModuleDigest;
use crate::rule_key::RuleKey;
use crate::wasm_rule::{Block, Limits, Mode, OnFailure};

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
    /// ABI version to call it by.
    pub abi: u32,
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
        u32::try_from(self.size.div_ceil(super::CHUNK_BYTES as u64)).unwrap_or(u32::MAX)
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
            body_bytes: limits.body_bytes.map(crate::ByteSize::get),
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
    fn a_tombstone_is_never_empty() {
        let tombstone = Desired::Tombstone(Tombstone { key: RuleKey::namespaced("a", "b") });
        let json = serde_json::to_string(&tombstone).unwrap();
        assert_eq!(serde_json::from_str::<Desired>(&json).unwrap(), tombstone);
        assert!(json.contains("Tombstone"));
    }
}
