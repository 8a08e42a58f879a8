//! Whether this node may get traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use portcullis_daemon::admin_server::AdminServer;
use portcullis_daemon::health::{self, Probes};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::enforce::Readiness;
use crate::enforce::readiness::NotReady;
use portcullis_proxy::DrainSignal;

/// Answers questions about this process. Clones are the same.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    readiness: watch::Receiver<Readiness>,
    drain: DrainSignal,
    registry: Arc<Registry>,
    was_ready: AtomicBool,
}

impl Health {
    /// Readiness comes from `readiness` until the drain starts.
    pub fn new(readiness: watch::Receiver<Readiness>, drain: DrainSignal, registry: Registry) -> Self {
        Self(Arc::new(Inner {
            readiness,
            drain,
            registry: Arc::new(registry),
            was_ready: AtomicBool::new(false),
        }))
    }

    /// Whether the node may get traffic now.
    fn is_ready(&self, now: Instant) -> Result<(), NotReady> {
        if self.0.drain.is_started() {
            return Err(NotReady::Draining);
        }
        if self.0.was_ready.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.0.readiness.borrow().check(now)?;
        self.0.was_ready.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Serves until it is dropped.
    pub async fn serve(self, server: AdminServer) {
        let registry = Arc::clone(&self.0.registry);
        health::serve(server, self, registry).await;
    }
}

impl Probes for Health {
    /// The control thread itself answers.
    fn live(&self) -> Result<String, String> {
        Ok("ok".into())
    }

    fn ready(&self) -> Result<String, String> {
        self.is_ready(Instant::now()).map(|()| "ok".into()).map_err(|why| why.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_once_stays_ready_until_the_drain() {
        let (readiness, receiver) = watch::channel(Readiness::default());
        let drain = DrainSignal::new();
        let health = Health::new(receiver, drain.clone(), Registry::default());
        assert!(health.live().is_ok());
        assert!(health.ready().is_err());
        readiness.send_replace(Readiness { complete: true, ..Readiness::default() });
        assert!(health.ready().is_ok());
        // A rule that fails later must not take all nodes away.
        let waiting_since = Some(Instant::now());
        readiness.send_replace(Readiness { complete: true, waiting_since, ..Readiness::default() });
        assert!(health.ready().is_ok());
        drain.start();
        assert!(health.ready().is_err());
        assert!(health.live().is_ok());
    }
}
