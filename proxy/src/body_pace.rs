//! How fast a client has to send a request's body, whatever the protocol. Only the time spent waiting for it counts.

use std::time::{Duration, Instant};

use crate::config::Timeouts;
use crate::refusal::Refusal;

/// The waits for one body.
#[derive(Debug)]
pub(crate) struct BodyPace {
    /// The longest single wait.
    longest: Duration,
    /// Bytes a second.
    minimum_rate: u64,
    since: Option<Instant>,
    waited: Duration,
    bytes: u64,
}

impl BodyPace {
    /// At the start of a body.
    pub(crate) fn new(timeouts: &Timeouts) -> Self {
        let Timeouts { body, minimum_rate, .. } = *timeouts;
        Self { longest: body, minimum_rate, since: None, waited: Duration::ZERO, bytes: 0 }
    }

    /// There is nothing to read: until when the client is waited for.
    pub(crate) fn deadline(&mut self, now: Instant) -> Instant {
        *self.since.get_or_insert(now) + self.longest
    }

    /// `bytes` came.
    pub(crate) fn received(&mut self, bytes: usize, now: impl Fn() -> Instant) -> Result<(), Refusal> {
        if let Some(since) = self.since.take() {
            self.waited += now().saturating_duration_since(since);
        }
        self.bytes += bytes as u64;
        let due = u128::from(self.minimum_rate) * self.waited.as_millis() / 1000;
        if self.waited > self.longest / 2 && u128::from(self.bytes) < due {
            return Err(Refusal::BodyTimeout);
        }
        Ok(())
    }
}
