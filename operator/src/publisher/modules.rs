//! The modules of the rules: put on the bus again, taken from it, taken off it.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};

use bytes::Bytes;
use portcullis_bus::ModuleOwner;
use portcullis_crds::bus::DesiredRule;
use portcullis_crds::{ModuleDigest, RuleKey};
use tokio::time::Instant;

use super::{Publisher, WriteError};
use crate::board::{Board, Entry};
use crate::fair_turns::Turn;
use crate::quota::Quota;
use crate::unused_modules::UnusedModules;

impl Publisher {
    /// Puts a module on the bus again for a rule that is there already.
    pub(crate) async fn put_module(&self, rule: &DesiredRule, wasm: &Bytes) -> Result<(), WriteError> {
        let _turn = self.turn(rule).await;
        self.put_module_within(rule, wasm, None).await
    }

    /// Waits for a turn of the rule's namespace: one that replaces large modules all the time holds up the others for no
    /// longer than one of them takes.
    pub(super) async fn turn(&self, rule: &DesiredRule) -> Turn {
        self.turns.turn(rule.key.namespace.as_deref().unwrap_or_default(), 1).await
    }

    /// Puts the module of a rule on the bus, if the quota admits both. Small writes need not wait for it.
    pub(super) async fn put_module_within(
        &self,
        rule: &DesiredRule,
        wasm: &Bytes,
        quota: Option<&Quota>,
    ) -> Result<(), WriteError> {
        let session = self.session.lock().await;
        let (bus, _) = self.open(&session)?;
        self.claim_module(rule, quota)?;
        drop(session);
        let (digest, namespace) = (&rule.module.digest, rule.key.namespace.as_deref().unwrap_or_default());
        let put = bus.publish_module(digest, wasm, namespace).await.map_err(|e| self.failed(e));
        if let Err(WriteError::Full(_)) = put {
            self.unused().remove(digest);
        }
        put
    }

    /// From here on the module counts for the namespace and is not removed, although no rule names it yet.
    fn claim_module(&self, rule: &DesiredRule, quota: Option<&Quota>) -> Result<(), WriteError> {
        let (board, mut unused) = (self.board(), self.unused());
        if let (Some(quota), Some(board)) = (quota, board.as_ref()) {
            quota.admit_rule(&rule.key, board).map_err(WriteError::Quota)?;
            quota.admit_module(&rule.key, &rule.module, board, &unused).map_err(WriteError::Quota)?;
        }
        unused.insert(&rule.module.digest, owner(rule));
        Ok(())
    }

    /// What a rule had on the bus was replaced or buried: if it was the last one that named its module, the module counts
    /// for its namespace until it is removed.
    pub(super) fn gone(&self, board: &Board, entry: Option<Entry>) {
        if let Some(Entry { rule, .. }) = entry
            && !board.names(&rule.module.digest)
        {
            self.unused().insert(&rule.module.digest, owner(&rule));
        }
    }

    /// The module from the bus, if what the bus has for this very object is made of it.
    pub(crate) async fn fetch_module(
        &self,
        key: &RuleKey,
        uid: &str,
        digest: &ModuleDigest,
    ) -> Option<Bytes> {
        let module = self.view(|board| {
            let entry =
                board.get(key).filter(|entry| entry.uid == uid && entry.rule.module.digest == *digest);
            entry.map(|entry| entry.rule.module.clone())
        })??;
        let (bus, _) = self.open(&*self.session.lock().await).ok()?;
        match bus.fetch_module(&module).await {
            Ok(wasm) => Some(wasm),
            Err(error) => {
                tracing::info!(rule = %key, %error, "the module is not on the bus and is pulled again");
                None
            }
        }
    }

    /// Takes the modules off the bus that no rule has named for a while. Returns how many. Does nothing while it
    /// is not known what the bus has.
    pub(crate) async fn remove_unused_modules(&self, now: Instant) -> Result<usize, WriteError> {
        if self.named_modules().is_none() {
            return Ok(0);
        }
        let (bus, _) = self.open(&*self.session.lock().await)?;
        let on_the_bus = bus.modules().await.map_err(|e| WriteError::Unavailable(e.to_string()))?;
        // After the list: what was put on the bus since then is not on it.
        let Some(named) = self.named_modules() else { return Ok(0) };
        let unused = self.unused().look(&on_the_bus, &named, now);
        let found = self.unused().without_owner();
        for digest in found {
            let owner =
                bus.module_owner(&digest).await.map_err(|e| WriteError::Unavailable(e.to_string()))?;
            if let Some(owner) = owner {
                self.unused().set_owner(&digest, owner);
            }
        }
        let mut removed = 0;
        for digest in &unused {
            removed += usize::from(self.remove_module(digest, now).await?);
        }
        Ok(removed)
    }

    /// Not if somebody has claimed it since: a rule that names it is about to be written.
    async fn remove_module(&self, digest: &ModuleDigest, now: Instant) -> Result<bool, WriteError> {
        let session = self.session.lock().await;
        let (bus, term) = self.open(&session)?;
        let is_over = self.unused().is_over(digest, now);
        if !is_over || self.named_modules().is_none_or(|named| named.contains(digest)) {
            return Ok(false);
        }
        self.outcome(&bus, bus.remove_module(&term, digest).await).await?;
        self.unused().remove(digest);
        tracing::info!(module = %digest, "no rule names the module any more: taken off the bus");
        Ok(true)
    }

    /// Those of the rules on the bus, and of those that are still to be put back; `None` while that is not known.
    fn named_modules(&self) -> Option<BTreeSet<ModuleDigest>> {
        let mut named = self.view(|board| board.modules())?;
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        named.extend(lost.iter().map(|entry| entry.rule.module.digest.clone()));
        Some(named)
    }

    fn unused(&self) -> MutexGuard<'_, UnusedModules> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn owner(rule: &DesiredRule) -> ModuleOwner {
    let namespace = rule.key.namespace.clone().unwrap_or_default();
    ModuleOwner { namespace, size: rule.module.size }
}
