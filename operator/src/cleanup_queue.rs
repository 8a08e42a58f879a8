//! What is to be removed from the bus, as far as somebody has noticed.

use futures::channel::mpsc;
use tokio::sync::Notify;

use crate::published_state::Orphan;

/// See the module.
#[derive(Debug)]
pub(crate) struct CleanupQueue {
    orphans: mpsc::UnboundedSender<Orphan>,
    /// The bus is to be compared with the API server.
    compare: Notify,
}

// === impl CleanupQueue ===

impl CleanupQueue {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Orphan>) {
        let (orphans, receiver) = mpsc::unbounded();
        (Self { orphans, compare: Notify::new() }, receiver)
    }

    /// An object was deleted.
    pub(crate) fn deleted(&self, orphan: Orphan) {
        // The receiver lives as long as this operator leads.
        if self.orphans.unbounded_send(orphan).is_err() {
            self.compare();
        }
    }

    /// Something may have been missed: the bus is compared with the API server.
    pub(crate) fn compare(&self) {
        self.compare.notify_one();
    }

    /// Returns when a comparison was asked for since the last call.
    pub(crate) async fn comparison(&self) {
        self.compare.notified().await;
    }
}
