//! What the leader asks an agent for when the bus has lost what the agent still runs.
//!
//! Nothing in an answer is taken on trust: a rule has to have the revision, and a module the digest, that the rule's status
//! names.

use serde::{Deserialize, Serialize};

use super::desired::DesiredRule;
use crate::module_digest::ModuleDigest;
use crate::rule_key::RuleKey;

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Recall {
    /// What should run of this rule, as the agent holds it. Answered with a [`Recalled`].
    Rule(RuleKey),
    /// One chunk of a module, counted from 0. Answered with its bytes.
    Chunk {
        /// Which module.
        digest: ModuleDigest,
        /// Which chunk of [`super::CHUNK_BYTES`].
        index: u32,
    },
}

/// A version of a rule, as an agent holds it. An empty answer means that it has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recalled {
    /// Uid of the object.
    pub uid: String,
    /// `metadata.generation` of the object.
    pub generation: i64,
    /// The rule. A candidate in it is named by no status, and not put back.
    pub rule: DesiredRule,
}
