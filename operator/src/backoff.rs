//! How long to wait before the next try.

use std::time::Duration;

use portcullis_daemon::backoff::{jitter, wait_after};

/// First wait.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(120);

/// The wait after `failures` failures in a row (at least one), so that rules that failed together do not come back
/// together.
pub(crate) fn delay(failures: u32) -> Duration {
    wait_after(failures, FIRST, LONGEST)
}

/// A span between half of `bound` and `bound`.
pub(crate) fn spread(bound: Duration) -> Duration {
    bound / 2 + jitter(bound / 2)
}
