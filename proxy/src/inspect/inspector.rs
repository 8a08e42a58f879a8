//! What the inspections of one thread share.

use std::cell::RefCell;

use super::input::Buffers;
use super::rule_log::LogAllowance;
use super::sample::Sampler;
use super::worker_instances::WorkerInstances;
use crate::event::EventQueue;
use crate::metrics::RequestMetrics;
use crate::once_a_second::OnceASecond;
use crate::thread_pool::ThreadPool;

/// Sets of buffers that are kept for the phases of later requests.
const BUFFERS: usize = 4;

/// What the inspections of one thread share, and where they put what they find. Never leaves its thread.
pub(crate) struct Inspector {
    /// What rules are handed, for the next requests to fill.
    buffers: RefCell<Vec<Buffers>>,
    /// Instances of rules with `isolation: PerWorker`.
    pub(super) instances: RefCell<WorkerInstances>,
    pub(super) sampler: RefCell<Sampler>,
    pub(super) log: LogAllowance,
    pub(super) warnings: OnceASecond,
    /// Runs the rules that take too long for this thread.
    pub(super) offload: ThreadPool<WorkerInstances>,
    pub(super) events: EventQueue,
    pub(super) metrics: RequestMetrics,
}

impl Inspector {
    pub(crate) fn new(
        offload: ThreadPool<WorkerInstances>,
        events: EventQueue,
        metrics: RequestMetrics,
    ) -> Self {
        Self {
            buffers: RefCell::default(),
            instances: RefCell::default(),
            sampler: RefCell::new(Sampler::new()),
            log: LogAllowance::new(),
            warnings: OnceASecond::default(),
            offload,
            events,
            metrics,
        }
    }

    /// Buffers for one phase of a request.
    pub(super) fn take_buffers(&self) -> Buffers {
        self.buffers.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes buffers back. More than one set is in use only while rules run on other threads.
    pub(super) fn give_back(&self, buffers: Buffers) {
        let mut all = self.buffers.borrow_mut();
        if all.len() < BUFFERS {
            all.push(buffers);
        }
    }
}

#[cfg(test)]
impl Inspector {
    /// One without threads, which takes no samples: a sample takes the buffers with it.
    pub(super) fn alone() -> Self {
        let metrics = RequestMetrics::register(&mut prometheus_client::registry::Registry::default());
        let inspector =
            Self::new(ThreadPool::without_threads(), EventQueue::without_thread(&metrics), metrics);
        inspector.sampler.replace(Sampler::never());
        inspector
    }
}
