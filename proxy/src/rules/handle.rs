//! The pointer to the set that is active.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use portcullis_engine::Phase;

use super::active_rule::RuleSet;
use super::active_set::ActiveSet;
use crate::config::Upstream;
use crate::metrics::RequestMetrics;

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
    /// Of the default route.
    upstream: Upstream,
}

impl RuleSetHandle {
    /// A handle to the empty set, whose default route goes to `upstream`.
    pub fn new(metrics: RequestMetrics, upstream: Upstream) -> Self {
        let empty = ActiveSet::new(RuleSet::default(), 0, &upstream, &metrics, None);
        Self(Arc::new(Inner {
            active: ArcSwap::from_pointee(empty),
            retired: Mutex::default(),
            generations: AtomicU64::new(1),
            metrics,
            upstream,
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
        let before = self.load();
        let set = ActiveSet::new(set, generation, &self.0.upstream, &self.0.metrics, Some(&before));
        let set = Arc::new(set);
        set.warn_of_what_is_new_since(&before);
        drop(before);
        let keys = set.set().rules.iter().map(|rule| &rule.key);
        self.0.metrics.forget_rules_except(&keys.collect());
        let unfiltered = set.routes().plans(Phase::Request).map(|plan| plan.prefilter().unfiltered());
        self.0.metrics.unfiltered(unfiltered.max().unwrap_or_default());
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
