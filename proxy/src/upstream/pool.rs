//! Connections to the upstream that wait for their next request. One pool a worker: no locks.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::connection::UpstreamConnection;
use super::stream::Unasked;
use crate::config::{ProxyLimits, Timeouts};
use crate::metrics::{RequestMetrics, UpstreamFailure};

/// The unused connections of one worker, the most recently used last.
#[derive(Debug)]
pub(super) struct Pool {
    idle: RefCell<Vec<Idle>>,
    most: usize,
    idle_for: Duration,
    age: Duration,
    metrics: RequestMetrics,
}

#[derive(Debug)]
struct Idle {
    connection: UpstreamConnection,
    since: Instant,
}

impl Pool {
    pub(super) fn new(limits: &ProxyLimits, timeouts: &Timeouts, metrics: RequestMetrics) -> Self {
        Self {
            idle: RefCell::default(),
            most: limits.idle_upstream,
            idle_for: timeouts.upstream_idle,
            age: timeouts.upstream_age,
            metrics,
        }
    }

    /// The connection that was used last, if it can be used again. The last one, so that the
    /// others grow old and a burst's connections are closed after it.
    pub(super) fn take(&self, now: Instant) -> Option<UpstreamConnection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { mut connection, since }) = idle.pop() {
            let fresh = now.saturating_duration_since(since) < self.idle_for
                && now.saturating_duration_since(connection.opened()) < self.age;
            if self.is_usable(&mut connection) && fresh {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose answer was read to its end, and drops those that nobody used for too long.
    pub(super) fn keep(&self, connection: UpstreamConnection, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        // The oldest are first.
        let expired = idle.partition_point(|i| now.saturating_duration_since(i.since) >= self.idle_for);
        idle.drain(..expired);
        if idle.len() < self.most {
            idle.push(Idle { connection, since: now });
        }
    }

    /// Drops what nobody used for too long; whoever holds a worker calls it now and then.
    pub(super) fn expire(&self, now: Instant) {
        self.idle.borrow_mut().retain_mut(|i| {
            now.saturating_duration_since(i.since) < self.idle_for && self.is_usable(&mut i.connection)
        });
    }

    fn is_usable(&self, connection: &mut UpstreamConnection) -> bool {
        let unasked = connection.unasked();
        if unasked == Unasked::Bytes {
            tracing::debug!("the upstream sent more than its answer announced");
            self.metrics.upstream_failed(UpstreamFailure::Surplus);
        }
        unasked == Unasked::Nothing
    }
}
