//! What a rule says about a request.

use std::fmt;

pub use crate::abi2::table::Verdict;

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
