//! The rules that this node runs: an immutable set behind one pointer.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use portcullis_crds::wasm_rule::{Block, Mode, OnFailure};
use portcullis_crds::{Revision, RuleKey};

use crate::metrics::{RequestMetrics, RuleTally};

/// All rules that are run on a request, of one state of the bus.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// Which stream the state was read from; empty before the first.
    pub stream: String,
    /// Sequence of the newest message that is part of it.
    pub sequence: u64,
    /// The rules. A set that is active holds them in order of precedence, whatever order they came in.
    pub rules: Vec<ActiveRule>,
}

/// One rule, ready to run.
#[derive(Debug)]
pub struct ActiveRule {
    /// Which rule.
    pub key: RuleKey,
    /// UID of the object, so that a rule that was deleted and made again is another one.
    pub uid: String,
    /// What of it runs.
    pub revision: Revision,
    /// What a verdict does. Rules that are Disabled are never run, also when they are in a set.
    pub mode: Mode,
    /// Lower runs first.
    pub priority: i32,
    /// What one evaluation may cost.
    pub limits: portcullis_engine::Limits,
    /// Largest body that is inspected; `None` for a rule that reads no bodies.
    pub body_bytes: Option<u64>,
    /// What happens to a request that the rule could not judge.
    pub on_failure: OnFailure,
    /// The answer to a blocked request.
    pub block: Block,
    /// The module, if this node has a version that it can run.
    pub module: Loaded,
}

/// Whether there is something to run.
#[derive(Debug)]
pub enum Loaded {
    /// A compiled module.
    Module(portcullis_engine::Module),
    /// No version to run: `onFailure.unavailable` says what happens.
    Unavailable,
}

impl ActiveRule {
    /// Cluster rules first, then by priority, then by namespace and name.
    fn precedence(&self) -> (bool, i32, &RuleKey) {
        (self.key.namespace.is_some(), self.priority, &self.key)
    }
}

/// A set as requests see it: in order, by phase, each rule with its counters.
#[derive(Debug)]
pub struct ActiveSet {
    set: RuleSet,
    /// Counters of `set.rules`, by index.
    tallies: Vec<Arc<RuleTally>>,
    head_phase: Vec<usize>,
    body_phase: Vec<usize>,
    largest_body: Option<u64>,
}

impl ActiveSet {
    fn new(mut set: RuleSet, metrics: &RequestMetrics) -> Self {
        set.rules.retain(|rule| rule.mode != Mode::Disabled);
        set.rules.sort_by(|a, b| a.precedence().cmp(&b.precedence()));
        let tallies = set.rules.iter().map(|rule| metrics.rule(&rule.key)).collect();
        let (body_phase, head_phase) =
            (0..set.rules.len()).partition(|&i| reads_bodies(&set.rules[i]).is_some());
        let largest_body = set.rules.iter().filter_map(reads_bodies).max();
        Self { set, tallies, head_phase, body_phase, largest_body }
    }

    /// The set itself.
    pub fn set(&self) -> &RuleSet {
        &self.set
    }

    /// Rules that run before any byte of the body is read, in order of precedence.
    pub(crate) fn head_phase(&self) -> impl Iterator<Item = (&ActiveRule, &RuleTally)> {
        self.rules(&self.head_phase)
    }

    /// Rules that run with the body, in order of precedence.
    pub(crate) fn body_phase(&self) -> impl Iterator<Item = (&ActiveRule, &RuleTally)> {
        self.rules(&self.body_phase)
    }

    /// The most bytes of a body that any rule inspects; `None` when bodies stream through.
    pub(crate) fn largest_body(&self) -> Option<u64> {
        self.largest_body
    }

    fn rules<'a>(&'a self, which: &'a [usize]) -> impl Iterator<Item = (&'a ActiveRule, &'a RuleTally)> {
        which.iter().map(|&i| (&self.set.rules[i], &*self.tallies[i]))
    }
}

/// A rule without a module reads nothing: its answer does not depend on the body.
fn reads_bodies(rule: &ActiveRule) -> Option<u64> {
    match rule.module {
        Loaded::Module(_) => rule.body_bytes,
        Loaded::Unavailable => None,
    }
}

/// The one pointer to the active set. Clones are the same pointer.
#[derive(Clone, Debug)]
pub struct RuleSetHandle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    active: ArcSwap<ActiveSet>,
    /// Sets that requests may still hold. Dropping thousands of modules takes tens of
    /// milliseconds, so that is never left to whichever request ends last.
    retired: Mutex<Vec<Arc<ActiveSet>>>,
    metrics: RequestMetrics,
}

impl RuleSetHandle {
    /// A handle to the empty set.
    pub fn new(metrics: RequestMetrics) -> Self {
        let empty = ActiveSet::new(RuleSet::default(), &metrics);
        Self(Arc::new(Inner { active: ArcSwap::from_pointee(empty), retired: Mutex::default(), metrics }))
    }

    /// The active set. A request loads it once and holds it for its whole life.
    pub fn load(&self) -> Arc<ActiveSet> {
        self.0.active.load_full()
    }

    /// Makes a set active for every request that starts from now on, and drops the sets that no
    /// request holds any more. Called on the control thread.
    pub fn store(&self, set: RuleSet) {
        let set = Arc::new(ActiveSet::new(set, &self.0.metrics));
        let keys = set.set.rules.iter().map(|rule| &rule.key);
        self.0.metrics.forget_rules_except(&keys.collect());
        let old = self.0.active.swap(set);
        self.retired().push(old);
        self.collect();
    }

    /// Drops the sets that no request holds any more; returns how many are still held. Called on
    /// the control thread, now and then, so that a set does not outlive its requests for long.
    pub fn collect(&self) -> usize {
        let mut retired = self.retired();
        retired.retain(|set| Arc::strong_count(set) > 1);
        retired.len()
    }

    fn retired(&self) -> std::sync::MutexGuard<'_, Vec<Arc<ActiveSet>>> {
        // The list is whole after every step, so a panic elsewhere leaves nothing to repair.
        self.0.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
