//! The rules that a node is told to run, ready to run.

use std::sync::Arc;

use portcullis_crds::bus::{DesiredRoute, Shadow, Share};
use portcullis_crds::rate_limit::RateLimit;
use portcullis_crds::request_match::RuleMatch;
use portcullis_crds::wasm_rule::{Block, Isolation, Mode, OnFailure};
use portcullis_crds::{Revision, RuleKey};

/// All rules and routes of one state of the bus.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// Which stream the state was read from; empty before the first.
    pub stream: String,
    /// Sequence of the newest message that is part of it.
    pub sequence: u64,
    /// The rules, of each at most one stable version and one candidate. A set that is active holds them in order of
    /// precedence, whatever order they came in.
    pub rules: Vec<ActiveRule>,
    /// The routes, beside the default one.
    pub routes: Vec<Arc<DesiredRoute>>,
}

/// One version of a rule, ready to run: the stable one, or the candidate beside it.
#[derive(Debug)]
pub struct ActiveRule {
    /// Which rule.
    pub key: RuleKey,
    /// UID of the object, so that a rule that was deleted and made again is another one.
    pub uid: String,
    /// What of it runs.
    pub revision: Revision,
    /// Which of the rule's versions it is.
    pub role: Role,
    /// What a verdict does. Rules that are Disabled are never run, also when they are in a set.
    pub mode: Mode,
    /// Lower runs first.
    pub priority: i32,
    /// What one evaluation may cost.
    pub limits: portcullis_engine::Limits,
    /// Whether an evaluation may see what an earlier one left behind.
    pub isolation: Isolation,
    /// Largest body that is inspected; `None` for a rule that reads no bodies.
    pub body_bytes: Option<u64>,
    /// What happens to a request that the rule could not judge.
    pub on_failure: OnFailure,
    /// The answer to a blocked request.
    pub block: Block,
    /// Which requests it judges; `None` if all.
    pub matches: Option<RuleMatch>,
    /// What the verdict RateLimit means; without it, it is only told.
    pub rate_limit: Option<RateLimit>,
    /// From then on it judges nothing.
    pub expires_at: Option<jiff::Timestamp>,
    /// The module, if this node has a version that it can run.
    pub module: Loaded,
}

/// Which of its rule's versions something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one that requests get.
    Stable,
    /// The one that may become stable.
    Candidate {
        /// Share of the clients that get it in place of the stable one.
        weight: Share,
        /// How it runs beside the stable one without effect, if it does.
        shadow: Option<Shadow>,
    },
}

/// Whether there is something to run.
#[derive(Debug)]
pub enum Loaded {
    /// A compiled module.
    Module(portcullis_engine::Module),
    /// No version to run: `onFailure.unavailable` says what happens.
    Unavailable,
}
