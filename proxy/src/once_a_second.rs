//! Log lines of failures that may come with every request: writing one may block, so there is one a second of them. The
//! metrics count all.

use std::cell::Cell;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(1);

/// Says when a line is due. For one thread.
#[derive(Debug, Default)]
pub(crate) struct OnceASecond(Cell<Option<Instant>>);

impl OnceASecond {
    /// Whether a line is due, which is written then.
    pub(crate) fn is_due(&self) -> bool {
        let is_due = self.0.get().is_none_or(|at| at.elapsed() >= EVERY);
        if is_due {
            self.0.set(Some(Instant::now()));
        }
        is_due
    }
}
