//! Holds a report back until no request runs a set that is older than what it says.
//!
//! After a report, the operator and people count on it: no answer of an older revision comes from this node.

use std::sync::Weak;
use std::time::{Duration, Instant};

use super::state::ReportState;

/// Reports on their way. `S` is a set that requests hold by `Arc`.
#[derive(Debug)]
pub struct ReportBarrier<S> {
    /// In the order of their swaps.
    queue: std::collections::VecDeque<Waiting<S>>,
    /// What may be said.
    released: Option<ReportState>,
    /// No request lives longer.
    bound: Duration,
}

#[derive(Debug)]
struct Waiting<S> {
    state: ReportState,
    /// Sets that must have gone.
    old: Vec<Weak<S>>,
    until: Instant,
}

impl<S> ReportBarrier<S> {
    /// `bound` is the longest that a request may hold a set.
    pub fn new(bound: Duration) -> Self {
        Self { queue: std::collections::VecDeque::new(), released: None, bound }
    }

    /// A new state; `old` is the set that was replaced for it, if one was.
    pub fn push(&mut self, state: ReportState, old: Option<Weak<S>>, now: Instant) {
        match (old, self.queue.back_mut()) {
            // The same set still runs, about which there is more to say.
            (None, Some(last)) => last.state = state,
            (old, _) => {
                let old = old.into_iter().collect();
                self.queue.push_back(Waiting { state, old, until: now + self.bound });
            }
        }
    }

    /// Moves on; true when there is something new to say.
    pub fn release(&mut self, now: Instant) -> bool {
        let mut news = false;
        while let Some(first) = self.queue.front_mut() {
            first.old.retain(|set| set.strong_count() > 0);
            if !first.old.is_empty() && now < first.until {
                break;
            }
            let Some(first) = self.queue.pop_front() else { break };
            news |= self.released.as_ref().is_none_or(|before| first.state.is_news_after(before));
            self.released = Some(first.state);
        }
        news
    }

    /// Whether requests are still waited for.
    pub fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// What may be said.
    pub fn released(&self) -> Option<&ReportState> {
        self.released.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portcullis_crds::bus::{RoutesReport, SetHash};

    use super::*;

    fn state(sequence: u64) -> ReportState {
        ReportState {
            stream: "s".into(),
            epoch: 1,
            sequence,
            object_sequence: sequence,
            desired: SetHash::of(std::iter::empty()),
            active: SetHash::of(std::iter::empty()),
            active_count: 0,
            exceptions: Vec::new(),
            marks: Default::default(),
            more: 0,
            kept: Vec::new(),
            routes: RoutesReport {
                desired: SetHash::of_routes(std::iter::empty()),
                exceptions: Vec::new(),
                more: 0,
            },
        }
    }

    fn said(barrier: &ReportBarrier<u8>) -> Option<u64> {
        barrier.released().map(|s| s.sequence)
    }

    #[test]
    fn nothing_is_said_while_a_request_runs_the_old_set() {
        let now = Instant::now();
        let mut barrier = ReportBarrier::new(Duration::from_secs(60));
        let (first, second) = (Arc::new(1_u8), Arc::new(2_u8));
        barrier.push(state(1), Some(Arc::downgrade(&first)), now);
        barrier.push(state(2), Some(Arc::downgrade(&second)), now);
        drop(second);
        // A request that began before both swaps still runs.
        assert!(!barrier.release(now));
        assert_eq!(said(&barrier), None);
        drop(first);
        assert!(barrier.release(now));
        assert_eq!(said(&barrier), Some(2));
    }

    #[test]
    fn a_request_is_waited_for_no_longer_than_it_may_live() {
        let now = Instant::now();
        let mut barrier = ReportBarrier::new(Duration::from_secs(60));
        let held = Arc::new(1_u8);
        barrier.push(state(1), Some(Arc::downgrade(&held)), now);
        assert!(!barrier.release(now + Duration::from_secs(59)));
        assert!(barrier.release(now + Duration::from_secs(60)));
        assert_eq!(said(&barrier), Some(1));
    }

    #[test]
    fn what_changes_without_a_swap_does_not_overtake_one() {
        let now = Instant::now();
        let mut barrier = ReportBarrier::new(Duration::from_secs(60));
        let held = Arc::new(1_u8);
        barrier.push(state(1), Some(Arc::downgrade(&held)), now);
        barrier.push(state(2), None, now);
        assert!(!barrier.release(now));
        drop(held);
        assert!(barrier.release(now));
        assert_eq!(said(&barrier), Some(2));
    }

    #[test]
    fn a_checkpoint_alone_is_no_news() {
        let now = Instant::now();
        let mut barrier = ReportBarrier::<u8>::new(Duration::from_secs(60));
        barrier.push(state(1), None, now);
        assert!(barrier.release(now));
        barrier.push(ReportState { sequence: 2, ..state(1) }, None, now);
        assert!(!barrier.release(now));
        assert_eq!(said(&barrier), Some(2));
    }
}
