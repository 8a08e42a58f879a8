//! What a rule says about a request.

use std::fmt;

/// What a rule says about a request; the numbers are the module ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Nothing to object to.
    Allow = 0,
    /// Refuse the request.
    Block = 1,
    /// Let it through and record it.
    Log = 2,
    /// Count it against the client's rate.
    RateLimit = 3,
    /// Go on with the replacement of the detail.
    Sanitise = 4,
}

impl Verdict {
    /// The verdict that a module's result stands for; `None` if it stands for none.
    pub fn from_result(result: i32) -> Option<Self> {
        match result {
            0 => Some(Self::Allow),
            1 => Some(Self::Block),
            2 => Some(Self::Log),
            3 => Some(Self::RateLimit),
            4 => Some(Self::Sanitise),
            _ => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "Allow",
            Self::Block => "Block",
            Self::Log => "Log",
            Self::RateLimit => "RateLimit",
            Self::Sanitise => "Sanitise",
        })
    }
}
