//! What the task that writes can be asked for.

use std::collections::BTreeSet;

use portcullis_bus::{Bus, ModuleOwner, PublishError};
use portcullis_crds::bus::{Checkpoint, ModuleRef};
use portcullis_crds::{ModuleDigest, RuleKey};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::{TakeOverError, WriteError};
use super::write::Write;
use crate::published_state::{Entry, Gaps, Orphan};
use crate::quota::Quota;

/// Where the answer to a command goes. Whoever no longer waits for it misses nothing.
pub(super) type Reply<T> = oneshot::Sender<T>;
type Written<T> = Reply<Result<T, WriteError>>;

/// Says whether an object still exists. Asked while nothing else can be written, so that the tombstone of a delete always
/// comes after.
pub(super) type Exists = Box<dyn Fn() -> bool + Send>;

/// See the module.
pub(super) enum Command {
    /// Connect if needed, correct the streams, take an epoch if there is none for this stream, and read everything.
    TakeOver(Reply<Result<Bus, TakeOverError>>),
    /// Make sure that the stream is still the one that is known.
    ConfirmStream(Written<()>),
    /// From now on the module counts for the rule's namespace, if its quota admits both.
    ClaimModule(Box<Claim>, Written<()>),
    /// A claimed module could not be put on the bus.
    ModuleNotPut(ModuleDigest, PublishError, Reply<WriteError>),
    /// `None` if the object is gone, or if something is there already that must not be written over.
    Write { write: Box<Write>, exists: Exists, only_if_absent: bool, reply: Written<Option<Entry>> },
    /// Write a tombstone. False if there was nothing left to delete.
    Delete(Orphan, Written<bool>),
    /// Write the checkpoint.
    Checkpoint(Gaps, Written<Checkpoint>),
    /// What a replaced stream had and this one has not. Whoever asks has to put it back, or to give it back.
    TakeLost(Reply<Vec<Entry>>),
    /// For the next who asks.
    KeepLost(Vec<Entry>),
    /// Which of these modules nothing has named for a while, and of which it is not known whom they count for. `None` while
    /// it is not known what the bus has.
    FindUnused(BTreeSet<ModuleDigest>, Instant, Reply<Option<Unused>>),
    /// Whom modules count for.
    SetOwners(Vec<(ModuleDigest, ModuleOwner)>),
    /// Remove a module, unless somebody has claimed it since. True if it is gone.
    RemoveModule(ModuleDigest, Instant, Written<bool>),
}

/// A rule for which a module is about to be put on the bus.
pub(super) struct Claim {
    pub(super) key: RuleKey,
    pub(super) module: ModuleRef,
    /// `None` for what was there before.
    pub(super) quota: Option<Quota>,
}

/// Modules that nothing names.
pub(super) struct Unused {
    /// For long enough.
    pub(super) over: Vec<ModuleDigest>,
    pub(super) without_owner: Vec<ModuleDigest>,
}
