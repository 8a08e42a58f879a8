//! What is decided about what the bus says, and why.

use std::fmt;

use jiff::Timestamp;
use portcullis_crds::bus::subject::DesiredSubject;
use thiserror::Error;

/// What was decided about one input.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// This version of the object is desired now.
    TakeUp(DesiredSubject),
    /// The object is gone.
    Drop(DesiredSubject),
    /// What was held of this object stays, because what came cannot be taken up.
    Keep(DesiredSubject, Refusal),
    /// The message was not accepted.
    Ignore(DesiredSubject, String),
    /// Something under this subject is of a kind that this version does not know. It is passed over.
    Unsupported(String),
    /// The copy is complete by a checkpoint.
    Complete,
    /// Read everything again.
    Resync(ResyncReason),
}

/// Why a version or a tombstone was not taken.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Refusal {
    /// The agent lacks something.
    #[error("this agent lacks the required feature {}: upgrade the node-agent", .0.join(", "))]
    Unsupported(Vec<String>),
    /// Another format, or not what belongs here.
    #[error("{0}")]
    Unreadable(String),
    /// Generations of one object only grow.
    #[error("expected generation {held} or later of this object, found {found}: change the object once more")]
    OlderGeneration {
        /// What is held.
        held: i64,
        /// What came.
        found: i64,
    },
    /// Came too late.
    #[error("expired at {0} before this agent could take it up: the operator publishes it again")]
    Expired(Timestamp),
    /// A tombstone of another object of the same name.
    #[error("the tombstone is of another object with this name ({0})")]
    OtherUid(String),
}

/// Why everything must be read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResyncReason {
    /// Nothing was read since the process started.
    NothingRead,
    /// A message was lost.
    Gap {
        /// The next sequence by what was read.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The stream is not the one that was read.
    StreamReplaced,
    /// A checkpoint does not match the copy.
    CheckpointDiffers,
    /// The read ended before what is held: a replica that lags, or a stream restored from a backup, which
    /// is waited for until it has caught up.
    Behind {
        /// Sequence held.
        held: u64,
        /// Last sequence read.
        read: u64,
    },
}

impl fmt::Display for ResyncReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingRead => f.write_str("nothing was read yet"),
            Self::Gap { expected, found } => write!(f, "expected sequence {expected}, found {found}"),
            Self::StreamReplaced => f.write_str("the stream was replaced"),
            Self::CheckpointDiffers => f.write_str("the checkpoint describes another set"),
            Self::Behind { held, read } => {
                write!(f, "the read ended at sequence {read}, before {held} which is held")
            }
        }
    }
}
