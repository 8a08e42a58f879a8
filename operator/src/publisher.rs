//! The one writer of desired state: holds the term, knows what is on the bus, and writes one thing at a time,
//! so that a checkpoint never speaks of a set that a write is about to change.

mod modules;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use portcullis_bus::{
    Bus, BusError, ConnectError, ConnectOptions, PublishError, ReadError, StreamBounds, StreamError, Term,
    TermError,
};
use portcullis_crds::Revision;
use portcullis_crds::bus::{Checkpoint, Desired, DesiredRule, Envelope, SCHEMA};
use thiserror::Error;
use tokio::sync::Notify;

use crate::board::{Board, Entry, Orphan};
use crate::fair_turns::FairTurns;
use crate::lease::Validity;
use crate::quota::{Quota, QuotaExceeded};
use crate::unused_modules::UnusedModules;

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

/// What a rule is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'a> {
    pub(crate) uid: &'a str,
    pub(crate) generation: i64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Publisher {
    options: ConnectOptions,
    bounds: StreamBounds,
    holder: String,
    validity: Validity,
    /// Whose module and rule go on the bus next.
    turns: FairTurns,
    /// Locked during every write.
    session: tokio::sync::Mutex<Session>,
    /// What is on the bus; `None` before the first take-over. Never locked across an await.
    board: Mutex<Option<Board>>,
    /// What a replaced stream had and this one has not.
    lost: Mutex<Vec<Entry>>,
    unused: Mutex<UnusedModules>,
    /// The board must be read again: a write may or may not have happened, or the stream was replaced.
    stale: AtomicBool,
    /// Something was written.
    changed: Notify,
    /// The board must be read again, now.
    wanted: Notify,
    /// Another operator leads.
    deposed: Notify,
}

#[derive(Default)]
struct Session {
    bus: Option<Bus>,
    term: Option<Term>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("term", &self.term).finish_non_exhaustive()
    }
}

// === impl Publisher ===

impl Publisher {
    /// Connects to nothing yet.
    pub(crate) fn new(
        options: ConnectOptions,
        bounds: StreamBounds,
        holder: &str,
        validity: Validity,
    ) -> Self {
        Self {
            options,
            bounds,
            turns: FairTurns::new(1),
            holder: holder.to_owned(),
            validity,
            session: tokio::sync::Mutex::default(),
            board: Mutex::default(),
            lost: Mutex::default(),
            unused: Mutex::default(),
            stale: AtomicBool::new(true),
            changed: Notify::new(),
            wanted: Notify::new(),
            deposed: Notify::new(),
        }
    }

    /// As if this had been read from the bus.
    #[cfg(test)]
    pub(crate) fn for_a_test(self, board: Board) -> Self {
        *self.board() = Some(board);
        self.stale.store(false, Ordering::Release);
        self
    }

    /// Connects if needed, corrects the streams, takes an epoch if there is none for this stream, and reads
    /// everything. Afterwards writes are possible.
    pub(crate) async fn take_over(&self) -> Result<Bus, TakeOverError> {
        let mut session = self.session.lock().await;
        let bus = match &session.bus {
            Some(bus) => bus.clone(),
            None => session.bus.insert(portcullis_bus::connect(&self.options).await?).clone(),
        };
        let stream = bus.ensure_streams(self.bounds).await?;
        if !self.validity.holds() {
            return Err(TakeOverError::LeaseOver);
        }
        let same_stream = self.board().as_ref().is_some_and(|board| *board.stream() == stream);
        let term = match session.term {
            Some(term) if same_stream => term,
            _ => bus.take_term(&self.holder).await?,
        };
        session.term = Some(term);
        let snapshot = bus.read_all().await?;
        if snapshot.stream != stream {
            return Err(ReadError::Replaced.into());
        }
        let board = Board::adopt(bus.cluster(), &snapshot);
        tracing::info!(epoch = term.epoch, stream = %stream, sequence = board.last_sequence(), "bus taken over");
        let replaced = self.board().replace(board).filter(|before| *before.stream() != stream);
        self.keep_lost(replaced.into_iter().flat_map(Board::into_entries));
        self.stale.store(false, Ordering::Release);
        // Agents that start with the bus wait for the first checkpoint.
        self.changed.notify_one();
        Ok(bus)
    }

    /// The connection, once there is one.
    pub(crate) async fn bus(&self) -> Option<Bus> {
        self.session.lock().await.bus.clone()
    }

    /// Makes sure that the stream is still the one that the board is about.
    pub(crate) async fn confirm_stream(&self) -> Result<(), WriteError> {
        let session = self.session.lock().await;
        let (bus, _) = self.open(&session)?;
        self.same_stream(&bus).await.map(|_| ()).map_err(|e| WriteError::Unavailable(e.to_string()))
    }

    /// Looks at what is on the bus; `None` while that is not known.
    pub(crate) fn view<T>(&self, look: impl FnOnce(&mut Board) -> T) -> Option<T> {
        if self.stale.load(Ordering::Acquire) {
            return None;
        }
        self.board().as_mut().map(look)
    }

    /// Puts a rule on the bus, if its namespace may: its module, then the message that names it. Namespaces take turns.
    /// Nothing if by then its object does not exist any more: `exists` is asked while nothing else can be written, so that
    /// the tombstone of a delete always comes after.
    pub(crate) async fn put(
        &self,
        object: Object<'_>,
        rule: DesiredRule,
        wasm: &Bytes,
        exists: impl Fn() -> bool,
        quota: &Quota,
    ) -> Result<Option<Entry>, WriteError> {
        let _turn = self.turn(&rule).await;
        if !exists() {
            return Ok(None);
        }
        self.put_module_within(&rule, wasm, Some(quota)).await?;
        let session = self.session.lock().await;
        let (bus, term) = self.open(&session)?;
        self.write(&bus, &term, object, rule, exists).await
    }

    /// Puts back what a stream has lost, unless the rule was written in the meantime or is gone. True if it was put back.
    pub(crate) async fn put_back(
        &self,
        object: Object<'_>,
        rule: DesiredRule,
        wasm: &Bytes,
        exists: impl Fn() -> bool,
    ) -> Result<bool, WriteError> {
        let is_back = || self.board().as_ref().is_some_and(|board| board.get(&rule.key).is_some());
        if is_back() || !exists() {
            return Ok(false);
        }
        // It was there before: no quota is asked.
        self.put_module_within(&rule, wasm, None).await?;
        let session = self.session.lock().await;
        let (bus, term) = self.open(&session)?;
        if is_back() {
            return Ok(false);
        }
        Ok(self.write(&bus, &term, object, rule, exists).await?.is_some())
    }

    /// What a replaced stream had. Whoever asks has to put it back, or to keep it with [`Self::keep_lost`].
    pub(crate) fn take_lost(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.lost.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// For the next who asks.
    pub(crate) fn keep_lost(&self, entries: impl IntoIterator<Item = Entry>) {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).extend(entries);
    }

    async fn write(
        &self,
        bus: &Bus,
        term: &Term,
        Object { uid, generation }: Object<'_>,
        rule: DesiredRule,
        exists: impl Fn() -> bool,
    ) -> Result<Option<Entry>, WriteError> {
        let revision = Revision::of(&rule);
        let envelope = Envelope {
            schema: SCHEMA,
            cluster: bus.cluster().to_owned(),
            uid: uid.to_owned(),
            generation,
            revision: revision.clone(),
            epoch: term.epoch,
            requires: rule.requires(),
            expires: None,
            payload: Desired::Rule(rule.clone()),
        };
        self.check_lease()?;
        if !exists() {
            return Ok(None);
        }
        let sequence = self.outcome(bus, bus.publish_rule(term, &envelope).await).await?;
        let entry = Entry { uid: uid.to_owned(), generation, revision, sequence, rule };
        if let Some(board) = self.board().as_mut() {
            let replaced = board.put(entry.clone());
            self.gone(board, replaced);
        }
        self.changed.notify_one();
        Ok(Some(entry))
    }

    /// Puts a tombstone on the bus. False if there was nothing to bury.
    pub(crate) async fn bury(&self, orphan: &Orphan) -> Result<bool, WriteError> {
        let session = self.session.lock().await;
        let (bus, term) = self.open(&session)?;
        let envelope = self.board().as_ref().and_then(|b| b.tombstone(orphan, bus.cluster(), term.epoch));
        let Some(envelope) = envelope else { return Ok(false) };
        self.check_lease()?;
        let sequence = self.outcome(&bus, bus.publish_rule(&term, &envelope).await).await?;
        if let Some(board) = self.board().as_mut() {
            let removed = board.remove(&orphan.key, sequence);
            self.gone(board, removed);
        }
        self.changed.notify_one();
        Ok(true)
    }

    /// Tells the agents what the whole set is; of the `unknown` objects they keep what they have.
    pub(crate) async fn checkpoint(&self, unknown: BTreeSet<String>) -> Result<Checkpoint, WriteError> {
        let session = self.session.lock().await;
        let (bus, term) = self.open(&session)?;
        let checkpoint =
            self.board().as_mut().map(|board| board.checkpoint(bus.cluster(), term.epoch, unknown));
        let checkpoint = checkpoint.ok_or_else(|| WriteError::Unavailable("not taken over yet".into()))?;
        self.check_lease()?;
        self.outcome(&bus, bus.publish_checkpoint(&term, &checkpoint).await).await?;
        Ok(checkpoint)
    }

    /// Returns when something was written since the last call.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns when [`Self::take_over`] is needed.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Returns when another operator leads.
    pub(crate) async fn deposed(&self) {
        self.deposed.notified().await;
    }

    fn board(&self) -> MutexGuard<'_, Option<Board>> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_again(&self) {
        self.stale.store(true, Ordering::Release);
        self.wanted.notify_one();
    }

    /// On "no", the board is no longer used.
    async fn same_stream(&self, bus: &Bus) -> Result<bool, BusError> {
        let found = bus.stream_id().await;
        let known = self.board().as_ref().map(|board| board.stream().clone());
        match found {
            Ok(found) if Some(&found) == known.as_ref() => Ok(true),
            Ok(_) | Err(BusError::Unexpected(_)) => {
                self.read_again();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn check_lease(&self) -> Result<(), WriteError> {
        if self.validity.holds() { Ok(()) } else { Err(WriteError::LeaseOver) }
    }

    fn open(&self, session: &Session) -> Result<(Bus, Term), WriteError> {
        self.check_lease()?;
        let unavailable = |why: &str| WriteError::Unavailable(why.to_owned());
        let (Some(bus), Some(term)) = (&session.bus, session.term) else {
            return Err(unavailable("not taken over yet"));
        };
        if !bus.connected().borrow().up {
            return Err(unavailable("not connected"));
        }
        if self.stale.load(Ordering::Acquire) {
            return Err(unavailable("what is on it is being read"));
        }
        Ok((bus.clone(), term))
    }

    /// A deposed leader must stop, unless the stream itself was replaced: then there is a new term to take.
    async fn outcome<T>(&self, bus: &Bus, written: Result<T, PublishError>) -> Result<T, WriteError> {
        match written {
            Err(deposed @ PublishError::Deposed { .. }) => match self.same_stream(bus).await {
                Ok(false) => Err(WriteError::Unavailable("the stream was replaced".into())),
                Ok(true) | Err(_) => {
                    self.deposed.notify_one();
                    Err(WriteError::Deposed(deposed))
                }
            },
            other => other.map_err(|e| self.failed(e)),
        }
    }

    /// Unless there was no room for it, whether the write happened is not known: what is on the bus must be read before
    /// the next one.
    fn failed(&self, error: PublishError) -> WriteError {
        let error = match error {
            PublishError::Bus(full @ BusError::Full { .. }) => return WriteError::Full(full.to_string()),
            PublishError::Bus(BusError::Unreachable(why) | BusError::Unexpected(why)) => {
                WriteError::Unavailable(why)
            }
            deposed @ PublishError::Deposed { .. } => WriteError::Deposed(deposed),
        };
        self.read_again();
        error
    }
}

#[cfg(test)]
mod tests;
