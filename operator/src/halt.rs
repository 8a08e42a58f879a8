//! Where and why an object stopped on its way to the bus.

use portcullis_crds::condition::{ConditionType, Reason};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Halt {
    /// The condition that is False because of it.
    pub(crate) condition: ConditionType,
    pub(crate) reason: Reason,
    /// Expected, found, what to do.
    pub(crate) message: String,
    pub(crate) retry: Retry,
}

/// When the same is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// When the spec changes: nothing else helps.
    OnChange,
    /// Every minute: somebody has to correct something of which no watch tells us.
    Slowly,
    /// With growing waits: it will pass.
    Soon,
}

// === impl Halt ===

impl Halt {
    pub(crate) fn new(condition: ConditionType, reason: Reason, message: String, retry: Retry) -> Self {
        Self { condition, reason, message, retry }
    }
}
