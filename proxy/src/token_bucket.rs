//! A token bucket that takes no lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How much a bucket gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Tokens in a full bucket.
    pub(crate) burst: u32,
    /// After how long a token that was taken is back.
    pub(crate) every: Duration,
}

/// Full at first. It is kept as the moment at which it will be full again, one number, so that threads can share it
/// without a lock (the generic cell rate algorithm of ITU-T I.371).
#[derive(Debug, Default)]
pub(crate) struct TokenBucket {
    /// Nanoseconds since the moment that callers count from.
    full_at: AtomicU64,
}

impl TokenBucket {
    /// Takes a token. False if there is none. `now` is the time since a moment that is the same at each call.
    pub(crate) fn take(&self, rate: Rate, now: Duration) -> bool {
        let (now, every) = (nanos(now), nanos(rate.every));
        let to_fill = every.saturating_mul(rate.burst.into());
        let taken = |full_at: u64| {
            let full_at = full_at.max(now).saturating_add(every);
            (full_at - now <= to_fill).then_some(full_at)
        };
        self.full_at.fetch_update(Relaxed, Relaxed, taken).is_ok()
    }
}

/// Enough for five centuries.
fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 10, every: Duration::from_secs(1) };

    fn taken(bucket: &TokenBucket, now: Duration) -> usize {
        (0..1_000).filter(|_| bucket.take(RATE, now)).count()
    }

    #[test]
    fn a_burst_is_taken_and_then_one_token_for_each_interval() {
        let bucket = TokenBucket::default();
        let start = Duration::from_secs(1_000);
        assert_eq!(taken(&bucket, start), 10);
        assert_eq!(taken(&bucket, start + Duration::from_millis(999)), 0);
        assert_eq!(taken(&bucket, start + Duration::from_secs(1)), 1);
        assert_eq!(taken(&bucket, start + Duration::from_millis(3_500)), 2);
    }

    #[test]
    fn a_bucket_that_is_left_alone_is_full_again_and_no_fuller() {
        let bucket = TokenBucket::default();
        for at in [0, 10, 100_000] {
            assert_eq!(taken(&bucket, Duration::from_secs(at)), 10);
        }
    }

    #[test]
    fn threads_that_share_a_bucket_take_no_more_than_it_has() {
        let bucket = TokenBucket::default();
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| taken(&bucket, Duration::ZERO))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 10);
    }
}
