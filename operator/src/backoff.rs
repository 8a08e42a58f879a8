//! How long to wait before the next try.

use std::time::Duration;

use rand::RngExt;

/// First wait.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(120);

/// The wait after `failures` failures in a row (at least one): doubling, capped, and spread over the upper
/// half so that rules that failed together do not come back together.
pub(crate) fn delay(failures: u32) -> Duration {
    spread(bound(failures))
}

/// A span between half of `bound` and `bound`.
pub(crate) fn spread(bound: Duration) -> Duration {
    bound.mul_f64(rand::rng().random_range(0.5..=1.0))
}

fn bound(failures: u32) -> Duration {
    FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_cap() {
        assert_eq!([1, 2, 3, 4].map(bound), [1, 2, 4, 8].map(Duration::from_secs));
        assert_eq!(bound(u32::MAX), LONGEST);
    }

    #[test]
    fn a_wait_is_spread_over_the_upper_half() {
        for failures in 0..40 {
            let (wait, bound) = (delay(failures), bound(failures));
            assert!(wait >= bound / 2 && wait <= bound, "{wait:?} for {failures}");
        }
    }
}
