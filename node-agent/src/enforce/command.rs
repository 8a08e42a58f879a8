//! What a person asks of the enforcer through the admin API.

use std::time::Duration;

use portcullis_crds::bus::DesiredRule;
use portcullis_crds::revision::{ModuleDigest, Revision};
use portcullis_crds::rule_key::RuleKey;
use portcullis_crds::wasm_rule::Mode;
use portcullis_engine::Module;
use tokio::sync::oneshot;

use super::local::LocalError;

/// What a person asks of the enforcer through the admin API.
#[derive(Debug)]
pub enum Command {
    /// Run this module as well.
    Load {
        /// The rule for it.
        rule: Box<DesiredRule>,
        /// The module, ready to run.
        module: Module,
        /// Replace one of the same name, rather than add.
        replace: bool,
        /// Answered when new requests see it, with how long they saw no version of it meanwhile.
        reply: oneshot::Sender<Result<Duration, LocalError>>,
    },
    /// Say what runs.
    List {
        /// The answer.
        reply: oneshot::Sender<Vec<ModuleInfo>>,
    },
}

/// A module that runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleInfo {
    /// Which rule.
    pub key: RuleKey,
    /// What of it runs.
    pub revision: Revision,
    /// Digest of the module.
    pub digest: ModuleDigest,
    /// Size of the module in bytes.
    pub size: u64,
    /// What a verdict does.
    pub mode: Mode,
    /// Since when this revision runs.
    pub loaded_at: jiff::Timestamp,
    /// Loaded by the admin API rather than desired.
    pub local: bool,
}
