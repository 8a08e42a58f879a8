//! What one request may cost over all rules: many rules within their limits are too much together.

use std::time::{Duration, Instant};

use portcullis_engine::{InspectError, Inspection, Limits};
use rustix::time::{ClockId, clock_gettime};

/// What is left for the rules of one request.
///
/// Reading a thread's CPU clock is a system call, so wall time is looked at first, which is measured anyway. Only when
/// that alone exceeds the limit is CPU time measured, from there on: waiting for the processor is no rule's fault.
#[derive(Debug)]
pub(super) struct Budget {
    total: Limits,
    /// Bytes that a rule is handed.
    bytes: u64,
    fuel: u64,
    wall: Duration,
    cpu: Duration,
}

/// Why nothing is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Spent {
    #[error(
        "the rules before it used up the {0} fuel that a request has for all rules together; make rules cheaper, give them prefilters, or run fewer"
    )]
    Fuel(u64),
    #[error(
        "the rules before it used up the {} ms of CPU time that a request has for all rules together; make rules cheaper, give them prefilters, or run fewer", .0.as_millis()
    )]
    Time(Duration),
}

/// What an evaluation took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(super) fuel: u64,
    pub(super) wall: Duration,
    /// If it was measured.
    pub(super) cpu: Option<Duration>,
}

/// Measures an evaluation, on its thread.
pub(super) struct Stopwatch {
    wall: Instant,
    cpu: Option<Duration>,
}

// === impl Budget ===

impl Budget {
    pub(super) fn new(total: Limits) -> Self {
        Self { total, bytes: 0, fuel: 0, wall: Duration::ZERO, cpu: Duration::ZERO }
    }

    /// From now on rules are handed so many bytes: what a request may cost follows its size.
    pub(super) fn set_bytes(&mut self, bytes: u64) {
        self.bytes = bytes;
    }

    pub(super) fn spent(&self) -> Option<Spent> {
        let fuel = self.total.budget(self.bytes);
        if self.fuel >= fuel {
            Some(Spent::Fuel(fuel))
        } else if self.cpu >= self.total.deadline {
            Some(Spent::Time(self.total.deadline))
        } else {
            None
        }
    }

    /// Whether the CPU time of the next evaluation is to be measured.
    pub(super) fn measures_cpu(&self) -> bool {
        self.wall >= self.total.deadline
    }

    pub(super) fn charge(&mut self, cost: Cost) {
        self.fuel = self.fuel.saturating_add(cost.fuel);
        self.wall = self.wall.saturating_add(cost.wall);
        self.cpu = self.cpu.saturating_add(cost.cpu.unwrap_or_default());
    }
}

impl Stopwatch {
    pub(super) fn start(measures_cpu: bool) -> Self {
        Self { wall: Instant::now(), cpu: measures_cpu.then(thread_cpu_time) }
    }

    pub(super) fn stop(self, result: &Result<Inspection, InspectError>) -> Cost {
        let fuel = match result {
            Ok(inspection) => inspection.fuel_used,
            Err(InspectError::OutOfFuel { budget, .. }) => *budget,
            // Not known; its time is.
            Err(_) => 0,
        };
        let cpu = self.cpu.map(|start| thread_cpu_time().saturating_sub(start));
        Cost { fuel, wall: self.wall.elapsed(), cpu }
    }
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a CPU clock starts at zero and does not run backwards")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn budget() -> Budget {
        Budget::new(Limits { fuel: 1_000, fuel_per_byte: 1, deadline: MILLI * 10, ..Limits::default() })
    }

    #[test]
    fn fuel_is_counted_over_all_rules_and_follows_the_size_of_the_request() {
        let mut budget = budget();
        budget.charge(Cost { fuel: 600, ..Cost::default() });
        assert_eq!(budget.spent(), None);
        budget.charge(Cost { fuel: 600, ..Cost::default() });
        assert_eq!(budget.spent(), Some(Spent::Fuel(1_000)));
        budget.set_bytes(1_024 + 500);
        assert_eq!(budget.spent(), None);
    }

    #[test]
    fn time_without_the_processor_is_never_spent() {
        let mut budget = budget();
        for _ in 0..100 {
            let cpu = budget.measures_cpu().then_some(Duration::ZERO);
            budget.charge(Cost { fuel: 0, wall: MILLI, cpu });
        }
        assert!(budget.measures_cpu());
        assert_eq!(budget.spent(), None);
    }

    #[test]
    fn the_cpu_clock_is_read_only_when_a_request_is_slow() {
        let mut budget = budget();
        let mut evaluations = 0;
        while budget.spent().is_none() {
            assert_eq!(budget.measures_cpu(), evaluations >= 10);
            let cpu = budget.measures_cpu().then_some(MILLI);
            budget.charge(Cost { fuel: 0, wall: MILLI, cpu });
            evaluations += 1;
        }
        assert_eq!(budget.spent(), Some(Spent::Time(MILLI * 10)));
        assert_eq!(evaluations, 20);
    }
}
