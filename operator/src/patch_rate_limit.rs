//! How many status patches the API server gets: a lost bus or a new operator must not become ten thousand at once.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// Ten a second.
const EVERY: Duration = Duration::from_millis(100);
/// After a quiet time this many go through at once.
const BURST: u32 = 10;

/// Shared by all patches. What is significant goes first: `kubectl wait` must not stand behind ten thousand node counts.
#[derive(Debug)]
pub(crate) struct PatchRateLimit {
    next: Mutex<Instant>,
    /// Held by the one insignificant patch that waits for its turn.
    rest: Mutex<()>,
}

// === impl PatchRateLimit ===

impl PatchRateLimit {
    /// With its burst unused.
    pub(crate) fn new() -> Self {
        Self { next: Mutex::new(Instant::now()), rest: Mutex::new(()) }
    }

    /// Waits until one more patch is within the rate.
    pub(crate) async fn acquire(&self, is_significant: bool) {
        let _turn = if is_significant { None } else { Some(self.rest.lock().await) };
        let mut next = self.next.lock().await;
        let (at, following) = slot(*next, Instant::now());
        *next = following;
        drop(next);
        tokio::time::sleep_until(at).await;
    }
}

/// When this one may go, and what the following one counts from. `next` runs ahead of the clock by the burst.
fn slot(next: Instant, now: Instant) -> (Instant, Instant) {
    let next = next.max(now);
    let at = next.checked_sub(EVERY * (BURST - 1)).unwrap_or(now).max(now);
    (at, next + EVERY)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn what_is_significant_does_not_stand_behind_the_rest() {
        let limit = Arc::new(PatchRateLimit::new());
        let mut rest = tokio::task::JoinSet::new();
        for _ in 0..1000 {
            let limit = limit.clone();
            rest.spawn(async move { limit.acquire(false).await });
        }
        tokio::task::yield_now().await;
        limit.acquire(true).await;
        let mut gone_before = 0;
        while rest.try_join_next().is_some() {
            gone_before += 1;
        }
        assert!(gone_before < 1000, "it went last");
    }

    #[test]
    fn after_a_burst_patches_go_ten_a_second() {
        let start = Instant::now();
        let mut next = start;
        let mut last = start;
        for _ in 0..110 {
            (last, next) = slot(next, start);
        }
        let took = last - start;
        assert_eq!(took, Duration::from_secs(10));
    }

    #[test]
    fn a_quiet_time_fills_the_burst_and_no_more() {
        let start = Instant::now();
        let later = start + Duration::from_secs(3600);
        let mut next = start;
        let mut immediate = 0;
        for _ in 0..30 {
            let (at, following) = slot(next, later);
            next = following;
            immediate += u32::from(at == later);
        }
        assert_eq!(immediate, BURST);
    }
}
