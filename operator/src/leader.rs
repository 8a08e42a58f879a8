//! What the leader does, all at once, until it may no longer: one function a duty.

mod bus;
mod recover;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::{BoxFuture, FutureExt, select_all};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::controller::{Config as ControllerConfig, Error, ReconcileRequest};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, applier};
use portcullis_crds::{RuleKey, WasmRule};
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::board::Orphan;
use crate::health::Health;
use crate::publisher::{TakeOverError, WriteError};
use crate::reconcile::update_status::{UpdateError, is_renewal};
use crate::reconcile::{Context, ReconcileError, after_error, identity, observe, reconcile};
use crate::sweep::{SweepError, bury, sweep};

/// Between two comparisons of the bus with the API server.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// After a comparison that could not be completed.
const SWEEP_AGAIN: Duration = Duration::from_secs(30);
/// Changes that come together are answered together.
const TOGETHER: Duration = Duration::from_millis(200);
/// Longest time in which nobody looks at the nodes.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Statuses that are renewed after one look: half of what the patches' budget leaves room for until the next one.
const RENEWALS: usize = 150;

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
    /// Writes that fail for want of a bus, or of room on it, are repeated; the others end it all.
    fn from_write(error: &WriteError) -> Option<Self> {
        match error {
            WriteError::Unavailable(_) | WriteError::Full(_) | WriteError::Quota(_) => None,
            WriteError::Deposed(_) => Some(Self::Deposed),
            WriteError::LeaseOver => Some(Self::LeaseOver),
        }
    }
}

/// The stores that duties read, and what they tell each other.
struct Leader {
    ctx: Arc<Context>,
    health: Health,
    /// Rules to be looked at.
    look_at: mpsc::UnboundedSender<ObjectRef<WasmRule>>,
    /// Objects that the API server said are gone.
    gone: mpsc::UnboundedSender<Orphan>,
    /// The bus is to be compared with the API server.
    compare: Notify,
}

/// Leads until it may no longer, or until `stop` says so; then what is being written is finished first. `objects` fills
/// [`Context::objects`].
pub(crate) async fn lead(
    ctx: Arc<Context>,
    objects: Writer<WasmRule>,
    mut changes: BoxStream<'static, ()>,
    health: Health,
    stop: watch::Receiver<bool>,
) -> Result<(), LeadError> {
    let (look_at, look_at_receiver) = mpsc::unbounded();
    let (gone, gone_receiver) = mpsc::unbounded();
    let api = Api::<WasmRule>::all(ctx.client.clone());
    let rule_watch = watcher::watcher(api, watcher::Config::default()).default_backoff().reflect(objects);
    let leader = Leader { ctx, health, look_at, gone, compare: Notify::new() };
    let duties: Vec<BoxFuture<'_, Result<Infallible, LeadError>>> = vec![
        async {
            while changes.next().await.is_some() {
                leader.ctx.agents.touched();
            }
            Err(LeadError::Ended("watch of the node-agents"))
        }
        .boxed(),
        leader.keep_bus().boxed(),
        leader.checkpoints().boxed(),
        leader.recover().boxed(),
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
            self.ctx.objects.clone(),
            queue,
            ControllerConfig::default(),
        );
        let mut reconciled = std::pin::pin!(reconciled);
        while let Some(result) = reconciled.next().await {
            match result {
                Ok((rule, _)) => tracing::debug!(%rule, "reconciled"),
                // Deleted, or written by somebody else, in between: its new state comes by the watch.
                Err(Error::ObjectNotFound(_)) => {}
                Err(Error::ReconcilerFailed(ReconcileError::Update(UpdateError::Conflict), _)) => {}
                // The API server says so itself; the watch may be behind, or have missed it.
                Err(Error::ReconcilerFailed(ReconcileError::Update(UpdateError::Gone), object)) => {
                    if let Some(uid) = object.extra.uid {
                        self.is_gone(RuleKey { namespace: object.namespace, name: object.name }, uid);
                    }
                }
                Err(error) => tracing::warn!(%error, "reconcile"),
            }
        }
    }

    /// What a change of a rule means, beside having it reconciled.
    fn changed(&self, event: Result<Event<WasmRule>, watcher::Error>) -> Option<ReconcileRequest<WasmRule>> {
        match event {
            Ok(Event::Apply(rule) | Event::InitApply(rule)) => Some(ObjectRef::from_obj(&rule).into()),
            Ok(Event::Delete(rule)) => {
                self.is_gone(RuleKey { namespace: rule.namespace(), name: rule.name_any() }, rule.uid()?);
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

    /// An object was deleted: nothing is known of it any more, and what the bus has of it gets a tombstone.
    fn is_gone(&self, key: RuleKey, uid: String) {
        self.ctx.rules.forget(&key, &uid);
        // The receiver lives as long as this leader.
        let told = self.gone.unbounded_send(Orphan { key, uid: Some(uid) });
        if told.is_err() {
            self.compare.notify_one();
        }
    }

    fn look_at(&self, rule: &WasmRule) {
        // The receiver is gone only while this leader stops; then nothing new is begun.
        let told = self.look_at.unbounded_send(ObjectRef::from_obj(rule));
        if told.is_err() {
            tracing::debug!(rule = %rule.name_any(), "not looked at any more");
        }
    }

    /// Finds the rules whose status no longer says what the agents say.
    async fn look_at_nodes(&self) -> Result<Infallible, LeadError> {
        if !self.ctx.agents.listed().await {
            return Err(LeadError::Ended("watch of the node-agents"));
        }
        let mut look_again = Instant::now();
        loop {
            tokio::select! {
                () = self.ctx.agents.changed() => tokio::time::sleep(TOGETHER).await,
                () = tokio::time::sleep_until(look_again) => {}
            }
            let now = Instant::now();
            look_again = now + LOOK_EVERY;
            let fleet = self.ctx.agents.view(now);
            let rules = self.ctx.objects.state();
            let mut renewals = 0;
            for rule in &rules {
                let seen = observe(rule, fleet.as_ref(), now, &self.ctx);
                let put_back = seen.misses_module && self.ctx.rules.miss_module(&identity(rule).0, now);
                let renews =
                    seen.status.as_ref().is_some_and(|after| is_renewal(rule.status.as_ref(), after));
                renewals += usize::from(renews);
                if put_back || seen.status.is_some() && (!renews || renewals <= RENEWALS) {
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

    /// Buries what is gone, and removes what nobody needs: when the API server says so, and by comparison at the start, every ten minutes,
    /// and whenever something may have been missed.
    async fn tidy(&self, mut gone: mpsc::UnboundedReceiver<Orphan>) -> Result<Infallible, LeadError> {
        let mut next = Instant::now() + SWEEP_EVERY;
        loop {
            let missed = async {
                tokio::select! {
                    () = self.compare.notified() => {}
                    () = tokio::time::sleep_until(next) => {}
                }
            };
            let tidied = tokio::select! {
                Some(orphan) = gone.next() => bury(&orphan, &self.ctx).await.map_err(SweepError::from).map(|()| next),
                () = missed => self.compare().await.map(|()| Instant::now() + SWEEP_EVERY),
            };
            match tidied {
                Ok(then) => next = then,
                Err(error) => {
                    tracing::warn!(%error, "the bus could not be tidied; it is tried again");
                    next = Instant::now() + SWEEP_AGAIN;
                    if let SweepError::Write(error) = error
                        && let Some(end) = LeadError::from_write(&error)
                    {
                        return Err(end);
                    }
                }
            }
        }
    }

    async fn compare(&self) -> Result<(), SweepError> {
        // Before the first complete list every rule would look like an orphan.
        if self.ctx.objects.wait_until_ready().await.is_err() {
            return Ok(());
        }
        sweep(&self.ctx.objects.state(), &self.ctx).await
    }
}
