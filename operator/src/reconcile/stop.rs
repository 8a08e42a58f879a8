//! Why the steps of an object end before the bus.

use crate::halt::Halt;
use crate::publisher::error::WriteError;

/// See the module.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Its status says why.
    Halted(Halt),
    /// It was deleted in the meantime.
    Deleted,
    /// This operator must stop, and say nothing more.
    NotLeading(WriteError),
}

impl From<Halt> for Stop {
    fn from(halt: Halt) -> Self {
        Self::Halted(halt)
    }
}
