//! The one task that writes: it holds the term, knows what is on the bus, and carries out one command after the other, so
//! that a checkpoint never speaks of a set that a write is about to change. Module bytes pass it by: they take long.

use std::collections::BTreeSet;

use portcullis_bus::{
    Bus, BusError, ConnectOptions, ModuleOwner, PublishError, ReadError, StreamBounds, Term,
};
use portcullis_crds::bus::{Checkpoint, Envelope, ModuleRef, SCHEMA};
use portcullis_crds::{ModuleDigest, RuleKey};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::command::{Claim, Command, Exists, Reply, Unused};
use super::error::{TakeOverError, WriteError};
use super::view::View;
use super::write::Write;
use crate::lease::Validity;
use crate::published_state::{Entry, Gaps, Orphan, PublishedState};
use crate::unused_modules::UnusedModules;

/// How to reach the bus, and as whom.
pub(super) struct Setup {
    pub(super) options: ConnectOptions,
    pub(super) bounds: StreamBounds,
    pub(super) holder: String,
    pub(super) validity: Validity,
}

/// See the module.
pub(super) struct Task {
    setup: Setup,
    term: Option<Term>,
    /// What a replaced stream had and this one has not.
    lost: Vec<Entry>,
    unused: UnusedModules,
    view: watch::Sender<View>,
}

// === impl Task ===

impl Task {
    pub(super) fn new(setup: Setup, view: watch::Sender<View>) -> Self {
        Self { setup, term: None, lost: Vec::new(), unused: UnusedModules::default(), view }
    }

    /// Ends when nobody is left to command anything.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.recv().await {
            self.carry_out(command).await;
        }
    }

    async fn carry_out(&mut self, command: Command) {
        match command {
            Command::TakeOver(reply) => answer(reply, self.take_over().await),
            Command::ConfirmStream(reply) => answer(reply, self.confirm_stream().await),
            Command::ClaimModule(claim, reply) => answer(reply, self.claim_module(&claim)),
            Command::ModuleNotPut(digest, error, reply) => {
                answer(reply, self.module_not_put(&digest, error));
            }
            Command::Write { write, exists, only_if_absent, reply } => {
                answer(reply, self.write(*write, exists, only_if_absent).await);
            }
            Command::Delete(orphan, reply) => answer(reply, self.delete(&orphan).await),
            Command::Checkpoint(gaps, reply) => answer(reply, self.checkpoint(gaps).await),
            Command::TakeLost(reply) => answer(reply, std::mem::take(&mut self.lost)),
            Command::KeepLost(entries) => self.lost.extend(entries),
            Command::FindUnused(on_the_bus, now, reply) => answer(reply, self.find_unused(&on_the_bus, now)),
            Command::SetOwners(owners) => {
                owners.into_iter().for_each(|(digest, owner)| self.unused.set_owner(&digest, owner));
            }
            Command::RemoveModule(digest, now, reply) => {
                answer(reply, self.remove_module(&digest, now).await);
            }
        }
    }

    async fn take_over(&mut self) -> Result<Bus, TakeOverError> {
        let connected = self.view.borrow().bus.clone();
        let bus = match connected {
            Some(bus) => bus,
            None => portcullis_bus::connect(&self.setup.options).await?,
        };
        self.view.send_modify(|view| view.bus = Some(bus.clone()));
        let stream = bus.ensure_streams(self.setup.bounds).await?;
        if !self.setup.validity.holds() {
            return Err(TakeOverError::LeaseOver);
        }
        let is_same = self.view.borrow().state.as_ref().is_some_and(|state| *state.stream() == stream);
        let term = match self.term {
            Some(term) if is_same => term,
            _ => bus.take_term(&self.setup.holder).await?,
        };
        self.term = Some(term);
        let snapshot = bus.read_all().await?;
        if snapshot.stream != stream {
            return Err(ReadError::Replaced.into());
        }
        let state = PublishedState::read(bus.cluster(), &snapshot);
        tracing::info!(epoch = term.epoch, stream = %stream, sequence = state.last_sequence(), "bus taken over");
        self.view.send_modify(|view| {
            let before = view.state.replace(state).filter(|before| *before.stream() != stream);
            self.lost.extend(before.into_iter().flat_map(PublishedState::into_entries));
            view.is_current = true;
        });
        Ok(bus)
    }

    async fn confirm_stream(&self) -> Result<(), WriteError> {
        let (bus, _) = self.open()?;
        self.is_same_stream(&bus).await.map(|_| ()).map_err(|e| WriteError::Unavailable(e.to_string()))
    }

    async fn write(
        &mut self,
        write: Write,
        exists: Exists,
        only_if_absent: bool,
    ) -> Result<Option<Entry>, WriteError> {
        let (bus, term) = self.open()?;
        let subject = write.desired.subject();
        let is_there =
            || self.view.borrow().state.as_ref().is_some_and(|state| state.get(&subject).is_some());
        if !exists() || only_if_absent && is_there() {
            return Ok(None);
        }
        let Write { uid, generation, revision, requires, desired } = write;
        let envelope = Envelope {
            schema: SCHEMA,
            cluster: bus.cluster().to_owned(),
            uid,
            generation,
            revision,
            epoch: term.epoch,
            requires,
            expires: None,
            payload: desired,
        };
        let sequence = self.outcome(&bus, bus.publish_desired(&term, &envelope).await).await?;
        let Envelope { uid, revision, payload, .. } = envelope;
        let entry = Entry { uid: uid.into(), generation, revision, sequence, desired: payload.into() };
        self.record(|state| state.put(subject, entry.clone()));
        Ok(Some(entry))
    }

    async fn delete(&mut self, orphan: &Orphan) -> Result<bool, WriteError> {
        let (bus, term) = self.open()?;
        let tombstone =
            self.view.borrow().state.as_ref().and_then(|s| s.tombstone(orphan, bus.cluster(), term.epoch));
        let Some(tombstone) = tombstone else { return Ok(false) };
        let sequence = self.outcome(&bus, bus.publish_desired(&term, &tombstone).await).await?;
        self.record(|state| state.remove(&orphan.subject, sequence));
        Ok(true)
    }

    /// Something was written in place of what `change` returns. The modules that nothing else names count for its namespace
    /// until they are removed.
    fn record(&mut self, change: impl FnOnce(&mut PublishedState) -> Option<Entry>) {
        self.view.send_modify(|view| {
            let Some(state) = &mut view.state else { return };
            let Some(replaced) = change(state) else { return };
            let Some(rule) = replaced.rule() else { return };
            for module in replaced.modules().filter(|module| !state.names(&module.digest)) {
                self.unused.insert(&module.digest, owner(&rule.key, module));
            }
        });
    }

    async fn checkpoint(&self, gaps: Gaps) -> Result<Checkpoint, WriteError> {
        let (bus, term) = self.open()?;
        let checkpoint =
            self.view.borrow().state.as_ref().map(|s| s.checkpoint(bus.cluster(), term.epoch, gaps));
        let checkpoint = checkpoint.ok_or_else(|| WriteError::Unavailable("not taken over yet".into()))?;
        self.outcome(&bus, bus.publish_checkpoint(&term, &checkpoint).await).await?;
        Ok(checkpoint)
    }

    fn claim_module(&mut self, Claim { key, module, quota }: &Claim) -> Result<(), WriteError> {
        self.open()?;
        if let (Some(quota), Some(state)) = (quota, &self.view.borrow().state) {
            quota.admit_rule(key, state).map_err(WriteError::Quota)?;
            quota.admit_module(key, module, state, &self.unused).map_err(WriteError::Quota)?;
        }
        // Not removed from now on, although nothing names it yet.
        self.unused.insert(&module.digest, owner(key, module));
        Ok(())
    }

    fn module_not_put(&mut self, digest: &ModuleDigest, error: PublishError) -> WriteError {
        let error = self.failed(error);
        if let WriteError::Full(_) = error {
            self.unused.remove(digest);
        }
        error
    }

    fn find_unused(&mut self, on_the_bus: &BTreeSet<ModuleDigest>, now: Instant) -> Option<Unused> {
        let named = self.named_modules()?;
        let over = self.unused.look(on_the_bus, &named, now);
        Some(Unused { over, without_owner: self.unused.without_owner() })
    }

    async fn remove_module(&mut self, digest: &ModuleDigest, now: Instant) -> Result<bool, WriteError> {
        let (bus, term) = self.open()?;
        let is_over = self.unused.is_over(digest, now);
        if !is_over || self.named_modules().is_none_or(|named| named.contains(digest)) {
            return Ok(false);
        }
        self.outcome(&bus, bus.remove_module(&term, digest).await).await?;
        self.unused.remove(digest);
        tracing::info!(module = %digest, "no rule names the module any more: removed from the bus");
        Ok(true)
    }

    /// The modules of what is on the bus and of what is still to be put back; `None` while that is not known.
    fn named_modules(&self) -> Option<BTreeSet<ModuleDigest>> {
        let mut named = self.view.borrow().known()?.modules();
        named.extend(self.lost.iter().flat_map(Entry::modules).map(|module| module.digest.clone()));
        Some(named)
    }

    fn open(&self) -> Result<(Bus, Term), WriteError> {
        let bus = self.view.borrow().open(&self.setup.validity)?;
        let term = self.term.ok_or_else(|| WriteError::Unavailable("not taken over yet".into()))?;
        Ok((bus, term))
    }

    /// On "no", what is known is no longer used.
    async fn is_same_stream(&self, bus: &Bus) -> Result<bool, BusError> {
        let found = bus.stream_id().await;
        let known = self.view.borrow().state.as_ref().map(|state| state.stream().clone());
        match found {
            Ok(found) if Some(&found) == known.as_ref() => Ok(true),
            Ok(_) | Err(BusError::Unexpected(_)) => {
                self.read_again();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn read_again(&self) {
        self.view.send_modify(|view| view.is_current = false);
    }

    /// A deposed leader must stop, unless the stream itself was replaced: then there is a new term to take.
    async fn outcome<T>(&self, bus: &Bus, written: Result<T, PublishError>) -> Result<T, WriteError> {
        match written {
            Err(deposed @ PublishError::Deposed { .. }) => match self.is_same_stream(bus).await {
                Ok(false) => Err(WriteError::Unavailable("the stream was replaced".into())),
                Ok(true) | Err(_) => {
                    self.view.send_modify(|view| view.is_deposed = true);
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

fn answer<T>(reply: Reply<T>, answer: T) {
    drop(reply.send(answer));
}

fn owner(key: &RuleKey, module: &ModuleRef) -> ModuleOwner {
    ModuleOwner { namespace: key.namespace.clone().unwrap_or_default(), size: module.size }
}
