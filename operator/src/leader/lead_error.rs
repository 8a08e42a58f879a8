//! Why leading ended.

use thiserror::Error;

use crate::publisher::error::{TakeOverError, WriteError};

/// See the module.
#[derive(Debug, Error)]
pub(crate) enum LeadError {
    /// The bus is not one that this operator may use.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// Somebody else leads.
    #[error("another operator has taken a later epoch on the bus")]
    Deposed,
    /// The lease ran out.
    #[error("the lease of this operator is no longer valid")]
    LeaseOver,
    /// A duty ended that never ends.
    #[error("the {0} ended unexpectedly")]
    Ended(&'static str),
}

impl LeadError {
    /// Writes that fail for want of a bus, or of room on it, are repeated; the others end it all.
    pub(crate) fn from_write(error: &WriteError) -> Option<Self> {
        match error {
            WriteError::Unavailable(_) | WriteError::Full(_) | WriteError::Quota(_) => None,
            WriteError::Deposed(_) => Some(Self::Deposed),
            WriteError::LeaseOver => Some(Self::LeaseOver),
        }
    }
}
