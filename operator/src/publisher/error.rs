//! Why nothing was written, and why the bus could not be taken over.

use portcullis_bus::{ConnectError, PublishError, ReadError, StreamError, TermError};
use thiserror::Error;

use crate::quota::QuotaExceeded;

/// Why nothing was written.
#[derive(Debug, Error)]
pub(crate) enum WriteError {
    /// No connection, or no term yet; nodes go on with what they have.
    #[error("the bus cannot be reached: {0}")]
    Unavailable(String),
    /// The bus has no room for it. Only this was refused; other writes go on.
    #[error(
        "the bus has no room for it: {0}; delete rules or make modules smaller, or give it more (nats.storeSize, \
         bus.maxBytes)"
    )]
    Full(String),
    /// The namespace has had its share.
    #[error(transparent)]
    Quota(QuotaExceeded),
    /// Another operator leads. This one must stop.
    #[error(transparent)]
    Deposed(PublishError),
    /// The lease ran out. This one must stop.
    #[error("the lease of this operator is no longer valid")]
    LeaseOver,
}

/// Why the bus could not be taken over.
#[derive(Debug, Error)]
pub(crate) enum TakeOverError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The streams are not as they have to be.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// No epoch.
    #[error(transparent)]
    Term(#[from] TermError),
    /// No complete read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The lease ran out.
    #[error("the lease of this operator is no longer valid")]
    LeaseOver,
}

impl TakeOverError {
    /// Whether trying again can help without anybody changing anything.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Stream(StreamError::ServerTooOld(_) | StreamError::OtherCluster { .. })
            | Self::LeaseOver => false,
            Self::Connect(_) | Self::Stream(_) | Self::Term(_) | Self::Read(_) => true,
        }
    }
}
