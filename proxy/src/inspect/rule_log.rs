//! What rules log, as lines of the agent's log.

use std::cell::Cell;
use std::time::{Duration, Instant};

use portcullis_crds::RuleKey;
use portcullis_engine::{LogLevel, LogLine};

/// Lines of one worker in one period; the rest is dropped. Writing a line may block, and every request may log.
const LINES: u32 = 32;
const PERIOD: Duration = Duration::from_secs(1);

/// How much the rules of one worker may still log.
#[derive(Debug)]
pub(crate) struct LogAllowance {
    since: Cell<Option<Instant>>,
    left: Cell<u32>,
}

impl LogAllowance {
    pub(crate) fn new() -> Self {
        Self { since: Cell::new(None), left: Cell::new(0) }
    }

    /// Writes lines of a rule.
    pub(super) fn write(&self, rule: &RuleKey, lines: &[LogLine]) {
        for LogLine { level, text } in lines {
            if is_enabled(*level) && self.takes_one(Instant::now()) {
                match level {
                    LogLevel::Debug => tracing::debug!(target: "rule", %rule, "{text}"),
                    LogLevel::Info => tracing::info!(target: "rule", %rule, "{text}"),
                    LogLevel::Warning => tracing::warn!(target: "rule", %rule, "{text}"),
                    LogLevel::Error => tracing::error!(target: "rule", %rule, "{text}"),
                }
            }
        }
    }

    fn takes_one(&self, now: Instant) -> bool {
        if self.since.get().is_none_or(|since| now.duration_since(since) >= PERIOD) {
            self.since.set(Some(now));
            self.left.set(LINES);
        }
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }
}

/// A line that nobody sees takes nobody's place.
fn is_enabled(level: LogLevel) -> bool {
    match level {
        LogLevel::Debug => tracing::enabled!(target: "rule", tracing::Level::DEBUG),
        LogLevel::Info => tracing::enabled!(target: "rule", tracing::Level::INFO),
        LogLevel::Warning => tracing::enabled!(target: "rule", tracing::Level::WARN),
        LogLevel::Error => tracing::enabled!(target: "rule", tracing::Level::ERROR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_cut_and_the_next_period_begins_anew() {
        let (allowance, now) = (LogAllowance::new(), Instant::now());
        let taken = |at| (0..1_000).filter(|_| allowance.takes_one(at)).count();
        assert_eq!(taken(now), LINES as usize);
        assert_eq!(taken(now), 0);
        assert_eq!(taken(now + PERIOD), LINES as usize);
    }
}
