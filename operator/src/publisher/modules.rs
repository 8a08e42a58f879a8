//! The modules of the rules: put on the bus again, taken from it, taken off it.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use bytes::Bytes;
use portcullis_crds::bus::DesiredRule;
use portcullis_crds::{ModuleDigest, RuleKey};
use tokio::time::Instant;

use super::{Publisher, WriteError};

impl Publisher {
    /// Puts a module on the bus again for a rule that is there already.
    pub(crate) async fn put_module(&self, rule: &DesiredRule, wasm: &Bytes) -> Result<(), WriteError> {
        let session = self.session.lock().await;
        let (bus, _) = self.open(&session)?;
        bus.publish_module(&rule.module.digest, wasm).await.map_err(|e| self.failed(e))
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
        let unused =
            self.unused.lock().unwrap_or_else(PoisonError::into_inner).look(&on_the_bus, &named, now);
        let mut removed = 0;
        for digest in &unused {
            removed += usize::from(self.remove_module(digest).await?);
        }
        Ok(removed)
    }

    /// Not while something is being written: a rule that names the module goes on the bus together with it.
    async fn remove_module(&self, digest: &ModuleDigest) -> Result<bool, WriteError> {
        let session = self.session.lock().await;
        let (bus, term) = self.open(&session)?;
        if self.named_modules().is_none_or(|named| named.contains(digest)) {
            return Ok(false);
        }
        self.outcome(&bus, bus.remove_module(&term, digest).await).await?;
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
}
