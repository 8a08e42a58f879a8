//! Events on their way to the sinks: sampled, bounded, and never waited for.
//!
//! A flood of attacks must neither slow other requests nor push everything else out of the log. So of each outcome of each
//! rule the first lines of a burst are written and then one a second, and of all together no more than [`ALL`]. What is not
//! written is counted: by the next line of its kind, and exactly by the metrics. Writing may block, so lines go to a
//! bounded queue that one thread empties.

use std::sync::Arc;
#[cfg(test)]
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::security_event::Event;
use super::sink::EventSink;
use crate::metrics::{OutcomeTally, RequestMetrics};
use crate::record_queue::RecordQueue;
use crate::token_bucket::{Rate, TokenBucket};

/// Lines of one outcome of one rule.
const EACH: Rate = Rate { burst: 10, every: Duration::from_secs(1) };
/// Lines of all rules together.
const ALL: Rate = Rate { burst: 100, every: Duration::from_millis(100) };
/// Events that wait to be written at most.
const QUEUE: usize = 1024;

/// Where workers put events. Clones are the same queue.
#[derive(Clone, Debug)]
pub(crate) struct EventQueue {
    queue: RecordQueue<Sampled>,
    metrics: RequestMetrics,
    all: Arc<TokenBucket>,
    /// What all buckets count from.
    since: Instant,
}

/// An event that is written.
#[derive(Debug)]
struct Sampled {
    event: Event,
    /// Events of the same outcome of the same rule that were not written since the last one that was.
    suppressed: u64,
}

impl EventQueue {
    /// Starts the thread that hands events to the sinks; it ends when the last clone is gone.
    pub(crate) fn start(
        metrics: RequestMetrics,
        mut sinks: Vec<Box<dyn EventSink>>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (queue, thread) = RecordQueue::start("events", QUEUE, move |events| {
            for Sampled { event, suppressed } in events {
                sinks.iter_mut().for_each(|sink| sink.write(&event, suppressed));
            }
        })?;
        Ok((Self::over(queue, metrics), thread))
    }

    /// A queue that nobody empties, and that has no room.
    #[cfg(test)]
    pub(crate) fn without_thread(metrics: &RequestMetrics) -> Self {
        Self::new(0, metrics.clone()).0
    }

    #[cfg(test)]
    fn new(places: usize, metrics: RequestMetrics) -> (Self, Receiver<Sampled>) {
        let (queue, events) = RecordQueue::new(places);
        (Self::over(queue, metrics), events)
    }

    fn over(queue: RecordQueue<Sampled>, metrics: RequestMetrics) -> Self {
        Self { queue, metrics, all: Arc::default(), since: Instant::now() }
    }

    /// Hands an event of this outcome over, or counts it. Never waits, and takes no lock of its own; `event` is made only
    /// if it is to be written.
    pub(crate) fn record(&self, outcome: &OutcomeTally, event: impl FnOnce() -> Event) {
        self.record_at(self.since.elapsed(), outcome, event);
    }

    fn record_at(&self, now: Duration, outcome: &OutcomeTally, event: impl FnOnce() -> Event) {
        if !outcome.takes_line(EACH, now) || !self.all.take(ALL, now) {
            outcome.suppress(1);
            self.metrics.event_suppressed();
            return;
        }
        let suppressed = outcome.take_suppressed();
        if !self.queue.offer(Sampled { event: event(), suppressed }) {
            outcome.suppress(suppressed + 1);
            self.metrics.event_dropped();
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::super::security_event::tests::event;
    use super::*;
    use crate::metrics::{FailureCause, RuleCounters, RuleOutcome, RuleVerdict};

    const BLOCK: RuleOutcome = RuleOutcome::Verdict(RuleVerdict::Block);
    const MALFORMED: RuleOutcome = RuleOutcome::Failed(FailureCause::Malformed);
    const START: Duration = Duration::from_secs(5);

    fn log(places: usize) -> (EventQueue, Receiver<Sampled>) {
        EventQueue::new(places, RequestMetrics::register(&mut Registry::default()))
    }

    /// What each line that was written says of those that were not.
    fn written(events: &Receiver<Sampled>) -> Vec<u64> {
        events.try_iter().map(|sampled| sampled.suppressed).collect()
    }

    #[test]
    fn of_a_flood_a_burst_is_written_and_then_a_line_a_second_that_counts_the_rest() {
        let (log, events) = log(QUEUE);
        let rule = RuleCounters::default();
        let flood = |now| (0..1_000).for_each(|_| log.record_at(now, rule.of(BLOCK), event));
        flood(START);
        assert_eq!(written(&events), [0; 10]);
        flood(START + Duration::from_secs(1));
        assert_eq!(written(&events), [990]);
        flood(START + Duration::from_secs(60));
        assert_eq!(written(&events), [[999].as_slice(), &[0; 9]].concat());
    }

    #[test]
    fn a_flood_of_one_outcome_hides_no_other() {
        let (log, events) = log(QUEUE);
        let (flooded, quiet) = (RuleCounters::default(), RuleCounters::default());
        (0..1_000).for_each(|_| log.record_at(START, flooded.of(BLOCK), event));
        assert_eq!(written(&events).len(), 10);
        log.record_at(START, flooded.of(MALFORMED), event);
        log.record_at(START, quiet.of(BLOCK), event);
        assert_eq!(written(&events), [0, 0]);
    }

    #[test]
    fn ten_thousand_rules_together_are_bounded_too() {
        let (log, events) = log(QUEUE);
        let rules: Vec<_> = (0..10_000).map(|_| RuleCounters::default()).collect();
        let flood = |now| rules.iter().for_each(|rule| log.record_at(now, rule.of(BLOCK), event));
        flood(START);
        assert_eq!(written(&events).len(), 100);
        flood(START + Duration::from_secs(1));
        assert_eq!(written(&events).len(), 10);
    }

    #[test]
    fn every_event_is_a_line_or_counted_by_one() {
        // Fewer places than lines, so that some have no room.
        let (log, events) = log(30);
        let rules: Vec<_> = (0..20).map(|_| RuleCounters::default()).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for step in 0..1_000 {
                        let now = START + Duration::from_millis(10) * step;
                        rules.iter().for_each(|rule| log.record_at(now, rule.of(BLOCK), event));
                    }
                });
            }
        });
        let told: u64 = written(&events).iter().map(|suppressed| suppressed + 1).sum();
        let still_to_tell: u64 = rules.iter().map(|rule| rule.of(BLOCK).take_suppressed()).sum();
        assert_eq!(told + still_to_tell, 4 * 1_000 * 20);
    }
}
