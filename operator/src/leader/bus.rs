//! The leader's duties towards the bus: hold it, hear the agents, tell them what the whole set is.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use portcullis_bus::{Bus, ReportError};
use portcullis_crds::WasmRule;
use portcullis_crds::bus::{HEARTBEAT_SECONDS, Report};
use portcullis_crds::status::EnforcedRevision;
use tokio::time::{Instant, MissedTickBehavior};

use super::{LeadError, Leader, TOGETHER};
use crate::backoff;
use crate::publisher::{Object, WriteError};
use crate::reconcile::identity;

/// Between two looks whether the bus has every rule again.
const WITHHELD: Duration = Duration::from_secs(1);
/// How long a checkpoint waits for rules that are on their way to the bus. After that they are named as unknown: one that
/// takes its time must not keep new agents from getting ready.
const WITHHELD_MAX: Duration = Duration::from_secs(10);

impl Leader {
    /// Takes the bus over, again after every break, and hears the agents.
    pub(super) async fn keep_bus(&self) -> Result<Infallible, LeadError> {
        let mut failures = 0;
        let mut reports = None;
        loop {
            let bus = match self.ctx.publisher.take_over().await {
                Ok(bus) => bus,
                Err(error) if error.is_retryable() => {
                    failures += 1;
                    tracing::warn!(%error, failures, "the bus could not be taken over");
                    self.bus_is(false);
                    tokio::time::sleep(backoff::delay(failures).min(Duration::from_secs(5))).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if reports.is_none() {
                match bus.reports().await {
                    Ok(stream) => reports = Some(Box::pin(stream)),
                    Err(error) => {
                        tracing::warn!(%error, "reports cannot be heard");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        continue;
                    }
                }
            }
            failures = 0;
            self.put_back().await?;
            self.taken_over();
            if let Some(reports) = &mut reports {
                self.hear(&bus, reports).await;
            }
        }
    }

    /// Writes again what a replaced stream had. Most of it could be made from the objects; not so the last good
    /// revision of a rule whose spec leads nowhere now.
    async fn put_back(&self) -> Result<(), LeadError> {
        let mut lost = self.ctx.publisher.take_lost().into_iter();
        let mut without_room = Vec::new();
        while let Some(entry) = lost.next() {
            let key = &entry.rule.key;
            let namespace = key.namespace.clone().unwrap_or_default();
            let Some(wasm) = self.ctx.modules.get(&namespace, &entry.rule.module.digest) else { continue };
            let object = Object { uid: &entry.uid, generation: entry.generation };
            let exists = || self.ctx.exists(key, &entry.uid);
            match self.ctx.publisher.put_back(object, entry.rule.clone(), &wasm, exists).await {
                Ok(put) => tracing::debug!(rule = %key, put, "what the replaced stream had"),
                Err(error @ WriteError::Full(_)) => {
                    tracing::warn!(rule = %key, %error, "what the replaced stream had");
                    without_room.push(entry);
                }
                Err(error) => {
                    tracing::warn!(%error, "not everything that the replaced stream had is back yet");
                    self.ctx.publisher.keep_lost(without_room.into_iter().chain([entry]).chain(lost));
                    return LeadError::from_write(&error).map_or(Ok(()), Err);
                }
            }
        }
        self.ctx.publisher.keep_lost(without_room);
        Ok(())
    }

    /// Everything that waited for the bus goes on.
    fn taken_over(&self) {
        self.bus_is(true);
        self.ctx.rules.bus_is_back(Instant::now());
        for rule in self.ctx.objects.state() {
            self.look_at(&rule);
        }
        self.compare.notify_one();
    }

    fn bus_is(&self, up: bool) {
        self.ctx.metrics.bus_connected.set(up.into());
        self.health.bus(up);
        self.ctx.agents.listening(up, Instant::now());
    }

    /// Hears the agents until the bus has to be taken over again.
    async fn hear(&self, bus: &Bus, reports: &mut (impl Stream<Item = Result<Report, ReportError>> + Unpin)) {
        let mut connection = bus.connected();
        let generation = connection.borrow_and_update().generation;
        loop {
            tokio::select! {
                changed = connection.changed() => {
                    let now = *connection.borrow_and_update();
                    self.bus_is(now.up);
                    if changed.is_err() || (now.up && now.generation != generation) {
                        return;
                    }
                }
                () = self.ctx.publisher.wanted() => return,
                report = reports.next() => match report {
                    Some(Ok(report)) => self.ctx.agents.hear(report, Instant::now()),
                    Some(Err(error)) => {
                        self.ctx.metrics.reports_refused.inc();
                        tracing::debug!(%error, "a report was passed over");
                    }
                    None => return,
                },
            }
        }
    }

    /// Tells the agents what the whole set is: every 30 seconds, and after each burst of changes.
    pub(super) async fn checkpoints(&self) -> Result<Infallible, LeadError> {
        // Before the first list of the objects is complete, nothing can be said of the whole set.
        if self.ctx.objects.wait_until_ready().await.is_err() {
            return Err(LeadError::Ended("watch of WasmRules"));
        }
        let mut every = tokio::time::interval(Duration::from_secs(HEARTBEAT_SECONDS));
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut withheld: Option<Instant> = None;
        loop {
            let ready = tokio::select! {
                _ = every.tick() => self.ctx.publisher.confirm_stream().await,
                () = self.ctx.publisher.changed() => {
                    tokio::time::sleep(TOGETHER).await;
                    Ok(())
                }
                () = tokio::time::sleep(WITHHELD), if withheld.is_some() => Ok(()),
            };
            let Missing { coming, mut unknown } = self.missing();
            let count = i64::try_from(coming.len() + unknown.len()).unwrap_or(i64::MAX);
            self.ctx.metrics.checkpoint_missing_rules.set(count);
            let now = Instant::now();
            withheld = if coming.is_empty() { None } else { withheld.or(Some(now)) };
            if withheld.is_some_and(|since| now - since < WITHHELD_MAX) {
                continue;
            }
            unknown.extend(coming);
            let written = match ready {
                Ok(()) => self.ctx.publisher.checkpoint(unknown).await,
                Err(error) => Err(error),
            };
            match written {
                Ok(_) => {
                    #[allow(clippy::cast_precision_loss)] // milliseconds of this century fit into 53 bits
                    self.ctx.metrics.last_checkpoint.set(Timestamp::now().as_millisecond() as f64 / 1e3);
                    // What agents said is judged by the set, which may have changed.
                    self.ctx.agents.touched();
                }
                Err(error) => {
                    tracing::debug!(%error, "no checkpoint");
                    if let Some(end) = LeadError::from_write(&error) {
                        return Err(end);
                    }
                }
            }
        }
    }

    /// Rules that nodes may be enforcing, by their status, and that the bus does not have: its stream was wiped and
    /// they are not written again. A checkpoint that is silent about them would have every agent drop them.
    fn missing(&self) -> Missing {
        let mut missing = Missing::default();
        let objects = self.ctx.objects.state();
        self.ctx.publisher.view(|board| {
            for rule in objects.iter().filter(|rule| enforced(rule).is_some()) {
                let (key, uid, generation) = identity(rule);
                if board.get(&key).is_some_and(|entry| entry.uid == uid) {
                    continue;
                }
                if self.ctx.rules.is_coming(&key, &uid, generation) {
                    missing.coming.insert(uid);
                } else {
                    missing.unknown.insert(uid);
                }
            }
        });
        missing
    }
}

/// Uids of rules that were enforced and that the bus does not have.
#[derive(Debug, Default)]
struct Missing {
    /// They are on their way to the bus.
    coming: BTreeSet<String>,
    /// Nothing leads there by itself.
    unknown: BTreeSet<String>,
}

/// What the status of a rule says that nodes are told to run.
pub(super) fn enforced(rule: &WasmRule) -> Option<&EnforcedRevision> {
    rule.status.as_ref()?.enforced.as_ref()
}
