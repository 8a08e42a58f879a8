//! Gives back to the operator what the bus has lost and this node still has.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use portcullis_bus::{Bus, BusError};
use portcullis_crds::bus::{CHUNK_BYTES, Recall, Recalled};
use portcullis_crds::revision::ModuleDigest;
use portcullis_daemon::backoff::Backoff;
use tokio::sync::watch;

use crate::desired::View;
use crate::modules::Modules;

/// Answers what the operator asks this agent.
pub(crate) struct RecallResponder {
    /// Name of the pod.
    pub(crate) agent: String,
    /// What is desired.
    pub(crate) views: watch::Receiver<Arc<View>>,
    /// What is on disk.
    pub(crate) modules: Arc<Modules>,
    /// The bus, once there is one.
    pub(crate) bus: watch::Receiver<Option<Bus>>,
}

/// The module that is being given back: it is asked for chunk by chunk.
type Open = Option<(ModuleDigest, Bytes)>;

impl RecallResponder {
    /// Runs for as long as the process lives.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));
        let Ok(Some(bus)) = self.bus.wait_for(Option::is_some).await.map(|bus| bus.clone()) else { return };
        loop {
            match self.answer_all(&bus).await {
                Ok(()) => tracing::warn!("the subscription to the operator's questions ended, trying again"),
                Err(error) => tracing::warn!(%error, "cannot answer the operator, trying again"),
            }
            tokio::time::sleep(backoff.wait()).await;
        }
    }

    async fn answer_all(&self, bus: &Bus) -> Result<(), BusError> {
        let mut recalls = bus.recalls(&self.agent).await?;
        let mut open = None;
        while recalls.answer(async |recall| self.answer(recall, &mut open).await).await? {}
        Ok(())
    }

    async fn answer(&self, recall: Recall, open: &mut Open) -> Option<Bytes> {
        match recall {
            Recall::Rule(key) => {
                let version = self.views.borrow().rules.get(&key)?.clone();
                let recalled = Recalled {
                    uid: version.uid.clone(),
                    generation: version.generation,
                    rule: version.rule.clone(),
                };
                serde_json::to_vec(&recalled).ok().map(Bytes::from)
            }
            Recall::Chunk { digest, index } => {
                if open.as_ref().is_none_or(|(opened, _)| *opened != digest) {
                    *open = self.modules.stored(&digest).await.map(|bytes| (digest, bytes));
                }
                let (_, bytes) = open.as_ref()?;
                let start = usize::try_from(index).ok()?.checked_mul(CHUNK_BYTES)?;
                let end = bytes.len().min(start.saturating_add(CHUNK_BYTES));
                let chunk = (start < end).then(|| bytes.slice(start..end));
                if end == bytes.len() {
                    *open = None;
                }
                chunk
            }
        }
    }
}
