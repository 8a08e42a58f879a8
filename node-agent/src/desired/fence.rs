//! What keeps a leader of earlier from writing.

use serde::{Deserialize, Serialize};

/// The highest epoch seen, and from which sequence on nothing older is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The epoch.
    pub epoch: u64,
    /// Sequence of the first message of that epoch.
    pub since: u64,
}

impl Fence {
    /// Whether a message may stand at this sequence. Messages of earlier leaders stay in the stream, below `since`.
    pub fn admits(self, epoch: u64, sequence: u64) -> bool {
        epoch >= self.epoch || sequence < self.since
    }

    /// Raises it to what a message says.
    pub(super) fn raise(&mut self, epoch: u64, sequence: u64) {
        if epoch > self.epoch {
            *self = Self { epoch, since: sequence };
        } else if epoch == self.epoch {
            self.since = self.since.min(sequence);
        }
    }
}
