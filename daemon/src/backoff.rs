//! How long to wait before something is tried again: doubling waits with jitter, so that a fleet does not come back in
//! step (docs/decisions/0022-backoff-with-jitter-below-the-cap.md).

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// After so many doublings every cap is reached.
const DOUBLINGS: u32 = 64;

/// The waits of tries that fail one after the other.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Steps double from `first` to `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// The next wait.
    pub fn wait(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        wait_after(self.failures, self.first, self.most)
    }

    /// Starts over, after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The wait after `failures` in a row, at least one: between half of its step and the whole of it.
pub fn wait_after(failures: u32, first: Duration, most: Duration) -> Duration {
    // The crate adds its jitter to the step, up to as much again.
    let mut waits = ExponentialBuilder::new()
        .with_min_delay(first / 2)
        .with_max_delay(most / 2)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build();
    (0..failures.clamp(1, DOUBLINGS)).fold(first, |_, _| waits.next().expect("tries are not counted"))
}

/// A random span up to `most`.
pub fn jitter(most: Duration) -> Duration {
    most.mul_f64(rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(1);
    const MOST: Duration = Duration::from_secs(4);

    fn is_of(wait: Duration, step: u64) -> bool {
        let step = Duration::from_secs(step);
        wait >= step / 2 && wait <= step
    }

    #[test]
    fn waits_double_to_the_most_and_start_over() {
        let mut backoff = Backoff::new(FIRST, MOST);
        for step in [1, 2, 4, 4, 4] {
            let wait = backoff.wait();
            assert!(is_of(wait, step), "{wait:?} of {step} s");
        }
        backoff.reset();
        assert!(is_of(backoff.wait(), 1));
    }

    #[test]
    fn a_wait_after_failures_is_the_one_of_the_last_of_them() {
        for (failures, step) in [(0, 1), (1, 1), (2, 2), (3, 4), (40, 4), (u32::MAX, 4)] {
            let wait = wait_after(failures, FIRST, MOST);
            assert!(is_of(wait, step), "{wait:?} after {failures}");
        }
    }

    #[test]
    fn waits_of_the_same_step_differ() {
        let waits: std::collections::BTreeSet<_> = (0..10).map(|_| wait_after(3, FIRST, MOST)).collect();
        assert!(waits.len() > 1, "{waits:?}");
    }
}
