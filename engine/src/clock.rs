//! How long a guest has been running, and whose fault that is.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::ticker::PERIOD;

/// An evaluation that has not had its CPU time after this long is given up. Long enough for a container that is
/// throttled through a whole scheduling period of 100 ms.
const PATIENCE: Duration = Duration::from_millis(500);

/// The clock of one evaluation. Looked at only when the guest is interrupted, and started by the first interruption:
/// reading a thread's CPU clock is a system call, and most evaluations end before there is one.
pub(crate) struct Clock {
    begun: Option<Begun>,
    charged: Duration,
    ticks: u32,
    deadline: Duration,
}

/// What the clocks said at the first tick.
struct Begun {
    wall: Instant,
    cpu_seen: Duration,
}

/// Why there is no time left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OutOfTime {
    /// The guest used up its CPU time.
    Deadline(Duration),
    /// The guest did not get the processor for so long.
    NoProcessor(Duration),
}

impl Clock {
    /// A clock of the thread that evaluates.
    pub(crate) fn new(deadline: Duration) -> Self {
        Self { begun: None, charged: Duration::ZERO, ticks: 0, deadline }
    }

    /// Charges the guest for the time since the last tick; the part of an interval before the first is free.
    pub(crate) fn tick(&mut self) -> Option<OutOfTime> {
        let cpu = thread_cpu_time();
        let Some(begun) = &mut self.begun else {
            self.begun = Some(Begun { wall: Instant::now(), cpu_seen: cpu });
            return None;
        };
        let since = cpu.saturating_sub(begun.cpu_seen);
        begun.cpu_seen = cpu;
        let wall = begun.wall.elapsed();
        self.charge(since, wall)
    }

    /// Only the guest's own CPU time is the rule's fault. A thread's CPU clock also runs while the machine serves
    /// others on it (interrupts, a hypervisor that took the processor away): on a busy machine an evaluation of 100 us
    /// is now and then charged several milliseconds at once. Such a jump lies between two ticks, so no interval counts
    /// for more than a tick, and one interval alone is never too much. A guest that really runs is there at every tick.
    fn charge(&mut self, cpu: Duration, wall: Duration) -> Option<OutOfTime> {
        self.ticks += 1;
        self.charged += cpu.min(PERIOD);
        if self.ticks >= 2 && self.charged >= self.deadline {
            Some(OutOfTime::Deadline(self.deadline))
        } else if wall >= PATIENCE.max(self.deadline) {
            Some(OutOfTime::NoProcessor(wall))
        } else {
            None
        }
    }
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a CPU clock starts at zero and does not run backwards")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_millis(1);

    fn clock() -> Clock {
        Clock::new(DEADLINE)
    }

    #[test]
    fn a_guest_that_runs_from_tick_to_tick_meets_its_deadline() {
        let mut clock = clock();
        assert_eq!(clock.charge(PERIOD, PERIOD), None);
        assert_eq!(clock.charge(PERIOD, PERIOD * 2), Some(OutOfTime::Deadline(DEADLINE)));
    }

    #[test]
    fn one_jump_of_the_cpu_clock_is_not_the_rules_fault() {
        let mut clock = clock();
        assert_eq!(clock.charge(DEADLINE * 50, DEADLINE * 50), None);
        let mut clock = Clock::new(Duration::from_micros(100));
        assert_eq!(clock.charge(DEADLINE * 50, DEADLINE * 50), None);
    }

    #[test]
    fn waiting_for_the_processor_is_not_the_rules_fault() {
        let mut clock = clock();
        let little = Duration::from_micros(10);
        assert_eq!(clock.charge(little, DEADLINE * 100), None);
        assert_eq!(clock.charge(little, PATIENCE), Some(OutOfTime::NoProcessor(PATIENCE)));
    }

    #[test]
    fn a_long_deadline_is_waited_for() {
        let mut clock = Clock::new(PATIENCE * 4);
        assert_eq!(clock.charge(PERIOD, PATIENCE * 2), None);
    }
}
