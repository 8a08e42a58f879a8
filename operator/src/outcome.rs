//! What came of the steps of a rule.

use portcullis_crds::status::{EnforcedRevision, ResolvedModule};

use crate::halt::Halt;
use crate::published_state::Entry;

/// How far a generation of a rule has come.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Not all the way.
    Halted {
        /// Why.
        halt: Halt,
        /// What the reference led to, if it came as far as that.
        resolved: Option<ResolvedModule>,
    },
    /// On the bus.
    Published(Published),
}

/// A rule that is on the bus.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Published {
    pub(crate) entry: Entry,
    pub(crate) enforced: EnforcedRevision,
    pub(crate) resolved: ResolvedModule,
}

// === impl Outcome ===

impl Outcome {
    /// What the reference led to, as far as it is known.
    pub(crate) fn resolved(&self) -> Option<&ResolvedModule> {
        match self {
            Self::Halted { resolved, .. } => resolved.as_ref(),
            Self::Published(published) => Some(&published.resolved),
        }
    }

    pub(crate) fn is_published(&self) -> bool {
        matches!(self, Self::Published(_))
    }
}

// === impl Published ===

impl Published {
    /// A rule as the bus has it.
    pub(crate) fn new(entry: Entry, resolved: ResolvedModule) -> Self {
        Self { enforced: entry.enforced(), entry, resolved }
    }
}
