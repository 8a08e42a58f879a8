//! What a rule logged.

pub use crate::abi2::table::LogLevel;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How important the rule says it is.
    pub level: LogLevel,
    /// At most 1 KiB, without control characters; what is not UTF-8 is replaced.
    pub text: String,
}
