//! How long to wait before something is tried again.

use std::time::Duration;

/// Doubling waits with jitter, so that a fleet does not come back in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits between `first` and `most`.
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// The next wait: between half of the step and the whole of it.
    pub(crate) fn wait(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.most);
        step / 2 + jitter(step / 2)
    }

    /// Starts over, after a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A random span up to `most`.
pub(crate) fn jitter(most: Duration) -> Duration {
    most.mul_f64(rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_most_and_start_over() {
        let (first, most) = (Duration::from_secs(1), Duration::from_secs(4));
        let mut backoff = Backoff::new(first, most);
        for step in [1, 2, 4, 4] {
            let (wait, step) = (backoff.wait(), Duration::from_secs(step));
            assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= first);
    }
}
