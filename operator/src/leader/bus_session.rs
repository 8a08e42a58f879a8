//! Holds the bus and takes the agents' reports.

use std::convert::Infallible;
use std::time::Duration;

use futures::{Stream, StreamExt};
use portcullis_bus::{Bus, ReportError};
use portcullis_crds::bus::Report;
use tokio::time::Instant;

use super::lead_error::LeadError;
use crate::backoff;
use crate::cleanup_queue::CleanupQueue;
use crate::context::Context;
use crate::controller::wasm_rule::Controller;
use crate::health::Health;
use crate::object::Object;
use crate::publisher::error::WriteError;

/// See the module.
pub(super) struct BusSession<'a> {
    pub(super) ctx: &'a Context,
    pub(super) rules: &'a Controller,
    pub(super) cleanup: &'a CleanupQueue,
    pub(super) health: &'a Health,
}

// === impl BusSession ===

impl BusSession<'_> {
    /// Takes the bus over, again after every break, and takes the agents' reports.
    pub(super) async fn keep(&self) -> Result<Infallible, LeadError> {
        let mut failures = 0;
        let mut reports = None;
        loop {
            let bus = match self.ctx.publisher.take_over().await {
                Ok(bus) => bus,
                Err(error) if error.is_retryable() => {
                    failures += 1;
                    tracing::warn!(%error, failures, "the bus could not be taken over");
                    self.set_bus(false);
                    tokio::time::sleep(backoff::delay(failures).min(Duration::from_secs(5))).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if reports.is_none() {
                match bus.reports().await {
                    Ok(stream) => reports = Some(Box::pin(stream)),
                    Err(error) => {
                        tracing::warn!(%error, "the reports of the agents cannot be subscribed to");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        continue;
                    }
                }
            }
            failures = 0;
            self.put_back().await?;
            self.taken_over();
            if let Some(reports) = &mut reports {
                self.receive_reports(&bus, reports).await;
            }
        }
    }

    /// Writes again what a replaced stream had. Most of it could be made from the objects; not so the last good
    /// revision of a rule whose spec leads nowhere now.
    async fn put_back(&self) -> Result<(), LeadError> {
        let mut lost = self.ctx.publisher.take_lost().await.into_iter();
        let mut without_room = Vec::new();
        while let Some(entry) = lost.next() {
            let Some(rule) = entry.rule() else { continue };
            let (key, namespace) = (&rule.key, rule.key.namespace.as_deref().unwrap_or_default());
            let Some(wasm) = self.ctx.modules.get(namespace, &rule.stable.module.digest) else { continue };
            let object = Object { uid: &entry.uid, generation: entry.generation };
            let exists = self.ctx.existence(key, &entry.uid);
            match self.ctx.publisher.put_back_rule(object, rule.clone(), &wasm, exists).await {
                Ok(put) => {
                    tracing::debug!(rule = %key, put, "what the replaced stream had, unless it was written anew");
                }
                Err(error @ WriteError::Full(_)) => {
                    tracing::warn!(rule = %key, %error, "no room to put back what the replaced stream had");
                    without_room.push(entry);
                }
                Err(error) => {
                    tracing::warn!(%error, "not everything that the replaced stream had is back yet");
                    without_room.push(entry);
                    without_room.extend(lost);
                    self.ctx.publisher.keep_lost(without_room).await;
                    return LeadError::from_write(&error).map_or(Ok(()), Err);
                }
            }
        }
        self.ctx.publisher.keep_lost(without_room).await;
        Ok(())
    }

    /// Everything that waited for the bus goes on.
    fn taken_over(&self) {
        self.set_bus(true);
        self.ctx.progress.bus_is_back(Instant::now());
        self.rules.enqueue_all();
        self.cleanup.compare();
    }

    fn set_bus(&self, up: bool) {
        self.ctx.metrics.bus_connected.set(up.into());
        self.health.bus(up);
        self.ctx.agents.set_bus(up, Instant::now());
    }

    /// Takes the agents' reports until the bus has to be taken over again.
    async fn receive_reports(
        &self,
        bus: &Bus,
        reports: &mut (impl Stream<Item = Result<Report, ReportError>> + Unpin),
    ) {
        let mut connection = bus.connected();
        let generation = connection.borrow_and_update().generation;
        loop {
            tokio::select! {
                changed = connection.changed() => {
                    let now = *connection.borrow_and_update();
                    self.set_bus(now.up);
                    if changed.is_err() || (now.up && now.generation != generation) {
                        return;
                    }
                }
                () = self.ctx.publisher.outdated() => return,
                report = reports.next() => match report {
                    Some(Ok(report)) => self.ctx.agents.receive(report, Instant::now()),
                    Some(Err(error)) => {
                        self.ctx.metrics.reports_refused.inc();
                        tracing::debug!(%error, "a report was refused");
                    }
                    None => return,
                },
            }
        }
    }
}
