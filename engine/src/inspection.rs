//! What an evaluation came to.

use crate::detail::{Detail, DetailError};
use crate::log_line::LogLine;
use crate::verdict::Verdict;

/// What an evaluation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// What the rule says.
    pub verdict: Verdict,
    /// Fuel that saying it took.
    pub fuel_used: u64,
    /// What the rule wants its next phase to be given; at most 4 KiB.
    pub carry: Vec<u8>,
    /// What the rule says beside a verdict other than Allow; an error if that was not what it may say. The verdict
    /// stands either way.
    pub detail: Option<Result<Box<Detail>, DetailError>>,
    /// What the rule logged.
    pub log: Vec<LogLine>,
}
