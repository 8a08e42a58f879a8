//! The rules that this node runs: an immutable set behind one pointer.

mod active_set;
mod phase_plan;
mod prepared_rule;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use portcullis_crds::wasm_rule::{Block, Isolation, Mode, OnFailure};
use portcullis_crds::{Revision, RuleKey};

use crate::metrics::RequestMetrics;

pub use active_set::ActiveSet;
pub(crate) use phase_plan::PhasePlan;
pub use prepared_rule::KEPT_INSTANCES;
pub(crate) use prepared_rule::{Place, PreparedRule};

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
    /// Whether an evaluation may see what an earlier one left behind.
    pub isolation: Isolation,
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

/// The one pointer to the active set. Clones are the same pointer.
#[derive(Clone, Debug)]
pub struct RuleSetHandle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    active: ArcSwap<ActiveSet>,
    /// Sets that requests may still hold. Dropping thousands of modules takes tens of
    /// milliseconds, so that is never left to whichever request ends last.
    retired: Mutex<Vec<Arc<ActiveSet>>>,
    /// Sets that were made so far.
    generations: AtomicU64,
    metrics: RequestMetrics,
}

impl RuleSetHandle {
    /// A handle to the empty set.
    pub fn new(metrics: RequestMetrics) -> Self {
        let empty = ActiveSet::new(RuleSet::default(), 0, &metrics);
        Self(Arc::new(Inner {
            active: ArcSwap::from_pointee(empty),
            retired: Mutex::default(),
            generations: AtomicU64::new(1),
            metrics,
        }))
    }

    /// The active set. A request loads it once and holds it for its whole life.
    pub fn load(&self) -> Arc<ActiveSet> {
        self.0.active.load_full()
    }

    /// Makes a set active for every request that starts from now on, and drops the sets that no
    /// request holds any more. Called on the control thread.
    pub fn store(&self, set: RuleSet) {
        let generation = self.0.generations.fetch_add(1, Relaxed);
        let set = Arc::new(ActiveSet::new(set, generation, &self.0.metrics));
        set.warn_of_what_is_new_since(&self.load());
        let keys = set.set().rules.iter().map(|rule| &rule.key);
        self.0.metrics.forget_rules_except(&keys.collect());
        self.0.metrics.unfiltered(set.request().prefilter().unfiltered());
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
