//! The one writer of desired state, for all who want something written: a handle to the task that does it.

mod command;
pub(crate) mod error;
mod task;
mod view;
pub(crate) mod write;

use bytes::Bytes;
use portcullis_bus::{Bus, ConnectOptions, StreamBounds};
use portcullis_crds::bus::subject::DesiredSubject;
use portcullis_crds::bus::{Checkpoint, DesiredRoute, DesiredRule};
use portcullis_crds::{ModuleDigest, RuleKey};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::fair_semaphore::{FairSemaphore, Permit};
use crate::lease::Validity;
use crate::object::Object;
use crate::published_state::{Entry, Gaps, Orphan, PublishedState};
use crate::quota::Quota;
use command::{Claim, Command, Exists, Reply, Unused};
use error::{TakeOverError, WriteError};
use task::{Setup, Task};
use view::View;
use write::Write;

/// Commands that wait; whoever gives one waits for its answer anyway.
const QUEUE: usize = 64;

/// See the module.
pub(crate) struct Publisher {
    validity: Validity,
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<View>,
    /// Whose module and rule go on the bus next.
    modules: FairSemaphore,
}

/// Tells of writes.
pub(crate) struct Writes(watch::Receiver<View>);

// === impl Writes ===

impl Writes {
    /// Returns when something was written since the last call.
    pub(crate) async fn next(&mut self) {
        while self.0.changed().await.is_ok() {
            if self.0.borrow_and_update().is_current {
                return;
            }
        }
    }
}

// === impl Publisher ===

impl Publisher {
    /// Connects to nothing yet. The task ends with the handle.
    pub(crate) fn start(
        options: ConnectOptions,
        bounds: StreamBounds,
        holder: &str,
        validity: Validity,
    ) -> Self {
        let (sender, view) = watch::channel(View::default());
        let (commands, receiver) = mpsc::channel(QUEUE);
        let setup = Setup { options, bounds, holder: holder.to_owned(), validity: validity.clone() };
        tokio::spawn(Task::new(setup, sender).run(receiver));
        Self { validity, commands, view, modules: FairSemaphore::new(1) }
    }

    /// As if this had been read from the bus.
    #[cfg(test)]
    pub(crate) fn for_a_test(state: PublishedState) -> Self {
        let (commands, _) = mpsc::channel(1);
        let view = View { state: Some(state), is_current: true, ..View::default() };
        let validity = Validity::for_a_test(true);
        Self { validity, commands, view: watch::channel(view).1, modules: FairSemaphore::new(1) }
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> T {
        let (reply, answer) = oneshot::channel();
        self.tell(command(reply)).await;
        answer.await.expect("the task answers for as long as there is a handle")
    }

    async fn tell(&self, command: Command) {
        // A task that is gone has panicked.
        assert!(self.commands.send(command).await.is_ok(), "the publisher's task has ended");
    }

    /// Connects if needed, takes an epoch if there is none for the stream that is there, and reads everything. Afterwards
    /// writes are possible.
    pub(crate) async fn take_over(&self) -> Result<Bus, TakeOverError> {
        self.ask(Command::TakeOver).await
    }

    /// The connection, once there is one.
    pub(crate) fn bus(&self) -> Option<Bus> {
        self.view.borrow().bus.clone()
    }

    /// Makes sure that the stream is still the one that is known.
    pub(crate) async fn confirm_stream(&self) -> Result<(), WriteError> {
        self.ask(Command::ConfirmStream).await
    }

    /// Looks at what is on the bus; `None` while that is not known. Nothing is recorded meanwhile.
    pub(crate) fn look<T>(&self, look: impl FnOnce(Option<&PublishedState>) -> T) -> T {
        look(self.view.borrow().known())
    }

    /// Looks at what is on the bus, if that is known.
    pub(crate) fn view<T>(&self, look: impl FnOnce(&PublishedState) -> T) -> Option<T> {
        self.look(|known| known.map(look))
    }

    /// Puts a rule on the bus, if its namespace may: its module, then the message that names it. Namespaces take turns.
    /// Nothing if by then its object does not exist any more.
    pub(crate) async fn put_rule(
        &self,
        object: Object<'_>,
        rule: DesiredRule,
        wasm: &Bytes,
        exists: impl Fn() -> bool + Send + 'static,
        quota: &Quota,
    ) -> Result<Option<Entry>, WriteError> {
        let _turn = self.turn(&rule.key).await;
        if !exists() {
            return Ok(None);
        }
        self.put_module_within(&rule, wasm, Some(quota)).await?;
        self.write(Write::rule(object, rule), Box::new(exists), false).await
    }

    /// Puts back what a stream has lost, unless the rule was written in the meantime or is gone. True if it was put back.
    pub(crate) async fn put_back_rule(
        &self,
        object: Object<'_>,
        rule: DesiredRule,
        wasm: &Bytes,
        exists: impl Fn() -> bool + Send + 'static,
    ) -> Result<bool, WriteError> {
        let subject = DesiredSubject::Rule(rule.key.clone());
        if !exists() || self.view(|state| state.get(&subject).is_some()) == Some(true) {
            return Ok(false);
        }
        // It was there before: no quota is asked.
        self.put_module_within(&rule, wasm, None).await?;
        Ok(self.write(Write::rule(object, rule), Box::new(exists), true).await?.is_some())
    }

    /// Puts a module on the bus again for a rule that is there already.
    pub(crate) async fn put_module(&self, rule: &DesiredRule, wasm: &Bytes) -> Result<(), WriteError> {
        let _turn = self.turn(&rule.key).await;
        self.put_module_within(rule, wasm, None).await
    }

    /// Waits for a turn of the rule's namespace: one that replaces large modules all the time holds up the others for no
    /// longer than one of them takes.
    async fn turn(&self, key: &RuleKey) -> Permit {
        self.modules.acquire(key.namespace.as_deref().unwrap_or_default(), 1).await
    }

    /// Puts the module of a stable revision on the bus, if the quota admits both. Small writes need not wait for it.
    async fn put_module_within(
        &self,
        rule: &DesiredRule,
        wasm: &Bytes,
        quota: Option<&Quota>,
    ) -> Result<(), WriteError> {
        let (key, module, quota) = (rule.key.clone(), rule.stable.module.clone(), quota.cloned());
        self.ask(|reply| Command::ClaimModule(Box::new(Claim { key, module, quota }), reply)).await?;
        let (digest, namespace) =
            (&rule.stable.module.digest, rule.key.namespace.as_deref().unwrap_or_default());
        match self.open()?.publish_module(digest, wasm, namespace).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.ask(|reply| Command::ModuleNotPut(digest.clone(), error, reply)).await),
        }
    }

    /// Puts a route on the bus, in place of whatever is there.
    pub(crate) async fn put_route(
        &self,
        object: Object<'_>,
        route: DesiredRoute,
    ) -> Result<Option<Entry>, WriteError> {
        self.write(Write::route(object, route), Box::new(|| true), false).await
    }

    async fn write(
        &self,
        write: Write,
        exists: Exists,
        only_if_absent: bool,
    ) -> Result<Option<Entry>, WriteError> {
        let write = Box::new(write);
        self.ask(|reply| Command::Write { write, exists, only_if_absent, reply }).await
    }

    /// What a replaced stream had. Whoever asks has to put it back, or to keep it with [`Self::keep_lost`].
    pub(crate) async fn take_lost(&self) -> Vec<Entry> {
        self.ask(Command::TakeLost).await
    }

    /// For the next who asks.
    pub(crate) async fn keep_lost(&self, entries: Vec<Entry>) {
        self.tell(Command::KeepLost(entries)).await;
    }

    /// Writes a tombstone. False if there was nothing left to delete.
    pub(crate) async fn delete(&self, orphan: &Orphan) -> Result<bool, WriteError> {
        self.ask(|reply| Command::Delete(orphan.clone(), reply)).await
    }

    /// Tells the agents what the whole set is; what is in the `gaps` they keep.
    pub(crate) async fn checkpoint(&self, gaps: Gaps) -> Result<Checkpoint, WriteError> {
        self.ask(|reply| Command::Checkpoint(gaps, reply)).await
    }

    /// Tells of writes from now on.
    pub(crate) fn writes(&self) -> Writes {
        Writes(self.view.clone())
    }

    /// Returns when [`Self::take_over`] is needed.
    pub(crate) async fn outdated(&self) {
        self.wait_until(|view| !view.is_current).await;
    }

    /// Returns when another operator leads.
    pub(crate) async fn deposed(&self) {
        self.wait_until(|view| view.is_deposed).await;
    }

    async fn wait_until(&self, is_so: impl Fn(&View) -> bool) {
        let mut view = self.view.clone();
        assert!(view.wait_for(is_so).await.is_ok(), "the publisher's task has ended");
    }

    fn open(&self) -> Result<Bus, WriteError> {
        self.view.borrow().open(&self.validity)
    }

    /// The module from the bus, if what the bus has for this very object is made of it.
    pub(crate) async fn fetch_module(
        &self,
        key: &RuleKey,
        uid: &str,
        digest: &ModuleDigest,
    ) -> Option<Bytes> {
        let subject = DesiredSubject::Rule(key.clone());
        let module = self.view(|state| {
            let entry = state.get(&subject).filter(|entry| entry.is_of(uid))?;
            entry.modules().find(|module| module.digest == *digest).cloned()
        })??;
        match self.open().ok()?.fetch_module(&module).await {
            Ok(wasm) => Some(wasm),
            Err(error) => {
                tracing::info!(rule = %key, %error, "the module is not on the bus and is pulled again");
                None
            }
        }
    }

    /// Removes the modules from the bus that no rule has named for a while. Returns how many. Does nothing while it is not
    /// known what the bus has.
    pub(crate) async fn remove_unused_modules(&self, now: Instant) -> Result<usize, WriteError> {
        if self.view(|_| ()).is_none() {
            return Ok(0);
        }
        let bus = self.open()?;
        let on_the_bus = bus.modules().await.map_err(unavailable)?;
        // After the list: what was put on the bus since then is not on it.
        let Some(Unused { over, without_owner }) =
            self.ask(|reply| Command::FindUnused(on_the_bus, now, reply)).await
        else {
            return Ok(0);
        };
        let mut owners = Vec::new();
        for digest in without_owner {
            let owner = bus.module_owner(&digest).await.map_err(unavailable)?;
            owners.extend(owner.map(|owner| (digest, owner)));
        }
        self.tell(Command::SetOwners(owners)).await;
        let mut removed = 0;
        for digest in over {
            removed += usize::from(self.ask(|reply| Command::RemoveModule(digest, now, reply)).await?);
        }
        Ok(removed)
    }
}

fn unavailable(error: impl std::fmt::Display) -> WriteError {
    WriteError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests;
