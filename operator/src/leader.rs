//! What the leader does, all at once, until it may no longer: one function a duty.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::{BoxFuture, FutureExt, select_all};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::controller::{Config as ControllerConfig, Error, ReconcileRequest};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, applier};
use portcullis_bus::{Bus, ReportError};
use portcullis_crds::bus::{HEARTBEAT_SECONDS, Report};
use portcullis_crds::{RuleKey, WasmRule};
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::backoff;
use crate::board::Orphan;
use crate::health::Health;
use crate::publisher::{TakeOverError, WriteError};
use crate::reconcile::update_status::UpdateError;
use crate::reconcile::{Context, ReconcileError, after_error, identity, observe, reconcile};
use crate::sweep::{bury, sweep};

/// Between two comparisons of the bus with the API server.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// After a comparison that could not be completed.
const SWEEP_AGAIN: Duration = Duration::from_secs(30);
/// Changes that come together are answered together.
const TOGETHER: Duration = Duration::from_millis(200);
/// Between two looks whether the bus has every rule again.
const WITHHELD: Duration = Duration::from_secs(1);
/// Longest time in which nobody looks at the nodes.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Why leading ended.
#[derive(Debug, Error)]
pub(crate) enum LeadError {
    /// The bus is not one that this operator may use.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// Somebody else leads.
    #[error("another operator has taken a later epoch on the bus")]
    Deposed,
    /// The lease ran out.
    #[error("the lease of this operator is no longer valid")]
    LeaseOver,
    /// A duty ended that never ends.
    #[error("the {0} ended unexpectedly")]
    Ended(&'static str),
}

impl LeadError {
    /// Writes that fail for want of a bus are repeated; the others end it all.
    fn from_write(error: &WriteError) -> Option<Self> {
        match error {
            WriteError::Unavailable(_) => None,
            WriteError::Deposed(_) => Some(Self::Deposed),
            WriteError::LeaseOver => Some(Self::LeaseOver),
        }
    }
}

/// The stores that duties read, and what they tell each other.
struct Leader {
    ctx: Arc<Context>,
    health: Health,
    rules: Store<WasmRule>,
    /// Rules to be looked at.
    look_at: mpsc::UnboundedSender<ObjectRef<WasmRule>>,
    /// Objects that the API server said are gone.
    gone: mpsc::UnboundedSender<Orphan>,
    /// The bus is to be compared with the API server.
    compare: Notify,
}

/// Leads until it may no longer, or until `stop` says so; then what is being written is finished first.
pub(crate) async fn lead(
    ctx: Arc<Context>,
    mut changes: BoxStream<'static, ()>,
    health: Health,
    stop: watch::Receiver<bool>,
) -> Result<(), LeadError> {
    let (rules, writer) = store();
    let (look_at, look_at_receiver) = mpsc::unbounded();
    let (gone, gone_receiver) = mpsc::unbounded();
    let api = Api::<WasmRule>::all(ctx.client.clone());
    let rule_watch = watcher::watcher(api, watcher::Config::default()).default_backoff().reflect(writer);
    let leader = Leader { ctx, health, rules, look_at, gone, compare: Notify::new() };
    let duties: Vec<BoxFuture<'_, Result<Infallible, LeadError>>> = vec![
        async {
            while changes.next().await.is_some() {
                leader.ctx.agents.touched();
            }
            Err(LeadError::Ended("watch of pods and nodes"))
        }
        .boxed(),
        leader.keep_bus().boxed(),
        leader.checkpoints().boxed(),
        leader.look_at_nodes().boxed(),
        leader.tidy(gone_receiver).boxed(),
        async {
            leader.ctx.publisher.deposed().await;
            Err(LeadError::Deposed)
        }
        .boxed(),
    ];
    let control = leader.control(rule_watch, look_at_receiver, stop);
    tokio::select! {
        // Ends only when it was told to stop and everything under way is done.
        () = control => Ok(()),
        (ended, _, _) = select_all(duties) => match ended {
            Ok(never) => match never {},
            Err(error) => Err(error),
        },
    }
}

impl Leader {
    /// Reconciles rules that changed, and those that somebody wants to be looked at.
    async fn control(
        &self,
        watch: impl Stream<Item = Result<Event<WasmRule>, watcher::Error>> + Send,
        look_at: mpsc::UnboundedReceiver<ObjectRef<WasmRule>>,
        mut stop: watch::Receiver<bool>,
    ) {
        let changed = watch.filter_map(|event| std::future::ready(self.changed(event)));
        let wanted = look_at.map(|rule| Ok::<_, Infallible>(ReconcileRequest::from(rule)));
        let stopped = async move {
            // A sender that is gone means the same as "stop".
            while !*stop.borrow_and_update() && stop.changed().await.is_ok() {}
        };
        let queue = futures::stream::select(changed.map(Ok), wanted).take_until(Box::pin(stopped));
        let reconciled = applier(
            |rule, ctx| Box::pin(reconcile(rule, ctx)),
            after_error,
            self.ctx.clone(),
            self.rules.clone(),
            queue,
            ControllerConfig::default(),
        );
        let mut reconciled = std::pin::pin!(reconciled);
        while let Some(result) = reconciled.next().await {
            match result {
                Ok((rule, _)) => tracing::debug!(%rule, "reconciled"),
                // Deleted, or written by somebody else, in between: its new state comes by the watch.
                Err(Error::ObjectNotFound(_)) => {}
                Err(Error::ReconcilerFailed(
                    ReconcileError::Update(UpdateError::Conflict | UpdateError::Gone),
                    _,
                )) => {}
                Err(error) => tracing::warn!(%error, "reconcile"),
            }
        }
    }

    /// What a change of a rule means, beside having it reconciled.
    fn changed(&self, event: Result<Event<WasmRule>, watcher::Error>) -> Option<ReconcileRequest<WasmRule>> {
        match event {
            Ok(Event::Apply(rule) | Event::InitApply(rule)) => Some(ObjectRef::from_obj(&rule).into()),
            Ok(Event::Delete(rule)) => {
                let (key, uid) =
                    (RuleKey { namespace: rule.namespace(), name: rule.name_any() }, rule.uid()?);
                self.ctx.rules.forget(&key, &uid);
                // The receiver lives as long as this leader.
                let told = self.gone.unbounded_send(Orphan { key, uid: Some(uid) });
                told.is_err().then(|| self.compare.notify_one());
                None
            }
            Ok(Event::Init) => None,
            Ok(Event::InitDone) => {
                self.health.api(true);
                // Deletes that happened while nobody watched come as no event.
                self.compare.notify_one();
                None
            }
            Err(error) => {
                tracing::warn!(%error, "watch of WasmRules");
                None
            }
        }
    }

    /// Takes the bus over, again after every break, and hears the agents.
    async fn keep_bus(&self) -> Result<Infallible, LeadError> {
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
        while let Some(entry) = lost.next() {
            let key = &entry.rule.key;
            let namespace = key.namespace.clone().unwrap_or_default();
            let object = self.rules.get(&ObjectRef::new(&key.name).within(&namespace));
            let is_wanted = object.is_some_and(|rule| rule.metadata.uid.as_ref() == Some(&entry.uid));
            let Some(wasm) =
                self.ctx.modules.get(&namespace, &entry.rule.module.digest).filter(|_| is_wanted)
            else {
                continue;
            };
            match self.ctx.publisher.put_back(&entry, &wasm).await {
                Ok(put) => tracing::debug!(rule = %key, put, "what the replaced stream had"),
                Err(error) => {
                    tracing::warn!(%error, "not everything that the replaced stream had is back yet");
                    self.ctx.publisher.keep_lost(std::iter::once(entry).chain(lost));
                    return LeadError::from_write(&error).map_or(Ok(()), Err);
                }
            }
        }
        Ok(())
    }

    /// Everything that waited for the bus goes on.
    fn taken_over(&self) {
        self.bus_is(true);
        self.ctx.rules.bus_is_back(Instant::now());
        for rule in self.rules.state() {
            self.look_at(&rule);
        }
        self.compare.notify_one();
    }

    fn look_at(&self, rule: &WasmRule) {
        // The receiver is gone only while this leader stops; then nothing new is begun.
        let told = self.look_at.unbounded_send(ObjectRef::from_obj(rule));
        if told.is_err() {
            tracing::debug!(rule = %rule.name_any(), "not looked at any more");
        }
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
    async fn checkpoints(&self) -> Result<Infallible, LeadError> {
        // Before the first list of the objects is complete, nothing can be said of the whole set.
        if self.rules.wait_until_ready().await.is_err() {
            return Err(LeadError::Ended("watch of WasmRules"));
        }
        let mut every = tokio::time::interval(Duration::from_secs(HEARTBEAT_SECONDS));
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut withheld = false;
        loop {
            let ready = tokio::select! {
                _ = every.tick() => self.ctx.publisher.confirm_stream().await,
                () = self.ctx.publisher.changed() => {
                    tokio::time::sleep(TOGETHER).await;
                    Ok(())
                }
                () = tokio::time::sleep(WITHHELD), if withheld => Ok(()),
            };
            let missing = self.published_before_and_missing();
            if let Some(rule) = missing.first().filter(|_| !withheld) {
                tracing::warn!(%rule, missing = missing.len(), "no checkpoint until the bus has every rule again");
            }
            withheld = !missing.is_empty();
            if withheld {
                continue;
            }
            let written = match ready {
                Ok(()) => self.ctx.publisher.checkpoint().await,
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
    /// they are not written again yet. A checkpoint without them would have every agent drop them.
    fn published_before_and_missing(&self) -> Vec<RuleKey> {
        let objects = self.rules.state();
        let published = objects
            .iter()
            .filter(|rule| rule.status.as_ref().is_some_and(|status| status.candidate_revision.is_some()))
            .map(|rule| RuleKey { namespace: rule.namespace(), name: rule.name_any() });
        self.ctx
            .publisher
            .view(|board| published.filter(|key| board.get(key).is_none()).collect())
            .unwrap_or_default()
    }

    /// Finds the rules whose status no longer says what the agents say.
    async fn look_at_nodes(&self) -> Result<Infallible, LeadError> {
        let mut look_again = Instant::now() + LOOK_EVERY;
        loop {
            tokio::select! {
                () = self.ctx.agents.changed() => tokio::time::sleep(TOGETHER).await,
                () = tokio::time::sleep_until(look_again) => {}
            }
            let now = Instant::now();
            look_again = now + LOOK_EVERY;
            let fleet = self.ctx.agents.view(now);
            let rules = self.rules.state();
            for rule in &rules {
                let seen = observe(rule, fleet.as_ref(), now, &self.ctx);
                let put_back = seen.misses_module && self.ctx.rules.miss_module(&identity(rule).0, now);
                if seen.status.is_some() || put_back {
                    self.look_at(rule);
                }
                look_again = look_again.min(seen.look_again.unwrap_or(look_again)).max(now + TOGETHER);
            }
            self.ctx
                .metrics
                .agents_reporting
                .set(i64::try_from(self.ctx.agents.reporting(now)).unwrap_or(i64::MAX));
            self.ctx.metrics.count_rules(rules.iter().map(AsRef::as_ref));
        }
    }

    /// Buries what is gone: when the API server says so, and by comparison at the start, every ten minutes,
    /// and whenever something may have been missed.
    async fn tidy(&self, mut gone: mpsc::UnboundedReceiver<Orphan>) -> Result<Infallible, LeadError> {
        let mut next = Instant::now() + SWEEP_EVERY;
        loop {
            let result = tokio::select! {
                Some(orphan) = gone.next() => bury(&orphan, &self.ctx).await.map(usize::from).map_err(Into::into),
                () = self.compare.notified() => self.compare().await,
                () = tokio::time::sleep_until(next) => self.compare().await,
            };
            match result {
                Ok(0) => {}
                Ok(buried) => tracing::info!(buried, "rules removed from the bus"),
                Err(error) => {
                    tracing::warn!(%error, "the bus could not be tidied; it is tried again");
                    next = Instant::now() + SWEEP_AGAIN;
                    if let crate::sweep::SweepError::Write(error) = error
                        && let Some(end) = LeadError::from_write(&error)
                    {
                        return Err(end);
                    }
                    continue;
                }
            }
            next = next.max(Instant::now()).min(Instant::now() + SWEEP_EVERY);
        }
    }

    async fn compare(&self) -> Result<usize, crate::sweep::SweepError> {
        // Before the first complete list every rule would look like an orphan.
        if self.rules.wait_until_ready().await.is_err() {
            return Ok(0);
        }
        sweep(&self.rules.state(), &self.ctx).await
    }
}
