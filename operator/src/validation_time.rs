//! How long the validator has worked for each namespace lately. No I/O.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// What a quota of validation time is for.
pub(crate) const PER: Duration = Duration::from_secs(60);
/// A namespace that validated nothing for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// A bucket for each namespace: it fills with the time that the validator works, and drains by the quota a minute.
#[derive(Debug, Default)]
pub(crate) struct ValidationTime(HashMap<String, Spent>);

#[derive(Clone, Copy, Debug)]
struct Spent {
    time: Duration,
    at: Instant,
}

// === impl ValidationTime ===

impl ValidationTime {
    /// What is left of the time that was spent, if it is as much as the quota. One validation may begin before that,
    /// however long it takes.
    pub(crate) fn over(&self, namespace: &str, quota: Duration, now: Instant) -> Option<Duration> {
        let left = self.0.get(namespace).map_or(Duration::ZERO, |spent| spent.left(quota, now));
        (left >= quota).then_some(left)
    }

    /// A validation took this long.
    pub(crate) fn spend(&mut self, namespace: &str, took: Duration, quota: Duration, now: Instant) {
        let before = self.0.get(namespace).map_or(Duration::ZERO, |spent| spent.left(quota, now));
        self.0.retain(|_, spent| now.saturating_duration_since(spent.at) < FORGOTTEN);
        self.0.insert(namespace.to_owned(), Spent { time: before + took, at: now });
    }
}

impl Spent {
    fn left(self, quota: Duration, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.at);
        let drained = quota.as_nanos().saturating_mul(since.as_nanos()) / PER.as_nanos();
        self.time.saturating_sub(Duration::from_nanos(u64::try_from(drained).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Duration = Duration::from_secs(30);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_namespace_that_spent_its_time_waits_until_some_of_it_has_drained() {
        let (mut time, now) = (ValidationTime::default(), Instant::now());
        assert_eq!(time.over("shop", QUOTA, now), None);
        time.spend("shop", seconds(29), QUOTA, now);
        assert_eq!(time.over("shop", QUOTA, now), None, "one more may begin");
        time.spend("shop", seconds(5), QUOTA, now);
        assert_eq!(time.over("shop", QUOTA, now), Some(seconds(34)));
        assert_eq!(time.over("shop", QUOTA, now + seconds(8)), Some(seconds(30)));
        assert_eq!(time.over("shop", QUOTA, now + seconds(10)), None);
    }

    #[test]
    fn a_namespace_pays_for_its_own_validations_only() {
        let (mut time, now) = (ValidationTime::default(), Instant::now());
        time.spend("shop", seconds(100), QUOTA, now);
        assert_eq!(time.over("bank", QUOTA, now), None);
        time.spend("bank", seconds(1), QUOTA, now + seconds(10));
        assert!(time.over("shop", QUOTA, now + seconds(10)).is_some(), "who else validates changes nothing");
    }

    #[test]
    fn what_was_spent_long_ago_is_forgotten() {
        let (mut time, now) = (ValidationTime::default(), Instant::now());
        time.spend("shop", seconds(100), QUOTA, now);
        time.spend("bank", seconds(1), QUOTA, now + FORGOTTEN);
        assert_eq!(time.0.len(), 1);
    }
}
