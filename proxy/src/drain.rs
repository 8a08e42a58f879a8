//! The signal that ends a proxy without losing a request.

use tokio::sync::watch;

/// Tells every worker to drain. Given once; clones are the same signal.
#[derive(Clone, Debug)]
pub struct DrainSignal(watch::Sender<bool>);

impl DrainSignal {
    /// A signal that was not given yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Starts the drain. Giving the signal again changes nothing.
    pub fn start(&self) {
        self.0.send_replace(true);
    }

    /// Whether the drain has started.
    pub fn is_started(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for the start of the drain.
    pub async fn started(&self) {
        self.0.subscribe().wait_for(|started| *started).await.expect("self holds the sender");
    }
}

impl Default for DrainSignal {
    fn default() -> Self {
        Self::new()
    }
}
