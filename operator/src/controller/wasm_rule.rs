//! WasmRules.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc;
use futures::{Stream, StreamExt};
use kube::ResourceExt;
use kube::runtime::applier;
use kube::runtime::controller::{Action, Config, Error, ReconcileRequest};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event};
use portcullis_crds::bus::subject::DesiredSubject;
use portcullis_crds::{RuleKey, Span, WasmRule, WasmRuleStatus};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backoff;
use crate::cleanup_queue::CleanupQueue;
use crate::context::Context;
use crate::fleet::FleetView;
use crate::health::Health;
use crate::object::{Object, rule_subject};
use crate::outcome::Published;
use crate::progress::{Polling, Work};
use crate::published_state::Orphan;
use crate::publisher::error::WriteError;
use crate::reconcile::advance::{Advance, advance};
use crate::reconcile::update_status::{UpdateError, is_renewal, is_significant, update_status};

/// Statuses that are renewed after one look: half of what the patches' rate leaves room for until the next one.
const RENEWALS: usize = 150;

/// Why a reconciliation did not come to its end.
#[derive(Debug, Error)]
pub(crate) enum ReconcileError {
    /// This operator must stop. Nothing more is said about the rule.
    #[error(transparent)]
    NotLeading(WriteError),
    /// The status could not be written.
    #[error(transparent)]
    Update(#[from] UpdateError),
}

/// See the module.
pub(crate) struct Controller {
    ctx: Arc<Context>,
    health: Health,
    cleanup: Arc<CleanupQueue>,
    /// Rules to be reconciled although they have not changed.
    queue: mpsc::UnboundedSender<ObjectRef<WasmRule>>,
}

// === impl Controller ===

impl Controller {
    /// With what [`Self::run`] takes from the queue.
    pub(crate) fn new(
        ctx: Arc<Context>,
        health: Health,
        cleanup: Arc<CleanupQueue>,
    ) -> (Self, mpsc::UnboundedReceiver<ObjectRef<WasmRule>>) {
        let (queue, queued) = mpsc::unbounded();
        (Self { ctx, health, cleanup, queue }, queued)
    }

    /// Reconciles rules that changed, and those that are queued, until told to stop; then what is under way is finished.
    pub(crate) async fn run(
        &self,
        watch: impl Stream<Item = Result<Event<WasmRule>, watcher::Error>> + Send,
        queued: mpsc::UnboundedReceiver<ObjectRef<WasmRule>>,
        mut stop: watch::Receiver<bool>,
    ) {
        let changed = watch.filter_map(|event| std::future::ready(self.changed(event)));
        let queued = queued.map(|rule| Ok::<_, Infallible>(ReconcileRequest::from(rule)));
        let stopped = async move {
            // A sender that is gone means the same as "stop".
            while !*stop.borrow_and_update() && stop.changed().await.is_ok() {}
        };
        let requests = futures::stream::select(changed.map(Ok), queued).take_until(Box::pin(stopped));
        let reconciled = applier(
            |rule, ctx| Box::pin(reconcile(rule, ctx)),
            after_error,
            self.ctx.clone(),
            self.ctx.objects.clone(),
            requests,
            Config::default(),
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
                        let key = RuleKey { namespace: object.namespace, name: object.name };
                        self.deleted(DesiredSubject::Rule(key), uid);
                    }
                }
                Err(error) => tracing::warn!(%error, "a WasmRule could not be reconciled"),
            }
        }
    }

    /// What a change of a rule means, beside having it reconciled.
    fn changed(&self, event: Result<Event<WasmRule>, watcher::Error>) -> Option<ReconcileRequest<WasmRule>> {
        match event {
            Ok(Event::Apply(rule) | Event::InitApply(rule)) => Some(ObjectRef::from_obj(&rule).into()),
            Ok(Event::Delete(rule)) => {
                self.deleted(rule_subject(&rule), rule.uid()?);
                None
            }
            Ok(Event::Init) => None,
            Ok(Event::InitDone) => {
                self.health.api(true);
                // Deletes that happened while nobody watched come as no event.
                self.cleanup.compare();
                None
            }
            Err(error) => {
                tracing::warn!(%error, "the watch of WasmRules broke and is started again");
                None
            }
        }
    }

    /// Nothing is known of the object any more, and what the bus has of it gets a tombstone.
    fn deleted(&self, subject: DesiredSubject, uid: String) {
        self.ctx.progress.forget(&uid);
        self.cleanup.deleted(Orphan { subject, uid: Some(uid) });
    }

    fn enqueue(&self, rule: &WasmRule) {
        // The receiver is gone only while this leader stops; then nothing new is begun.
        if self.queue.unbounded_send(ObjectRef::from_obj(rule)).is_err() {
            tracing::debug!(rule = %rule.name_any(), "not reconciled any more: this operator stops");
        }
    }

    /// Has all rules reconciled.
    pub(crate) fn enqueue_all(&self) {
        self.ctx.objects.state().iter().for_each(|rule| self.enqueue(rule));
    }

    /// Has those rules reconciled whose status no longer says what the agents say. Returns when the next look must come
    /// because time passes, if it is before `latest`.
    pub(crate) fn look_at_nodes(&self, fleet: &FleetView, now: Instant, latest: Instant) -> Instant {
        let rules = self.ctx.objects.state();
        let (mut renewals, mut look_again) = (0, latest);
        for rule in &rules {
            let uid = Object::of(&**rule).uid;
            let seen = self.ctx.observe(rule, fleet, now);
            let republish = seen.misses_module && self.ctx.progress.republish_module(uid, now);
            let renews = seen.status.as_ref().is_some_and(|after| is_renewal(rule.status.as_ref(), after));
            renewals += usize::from(renews);
            if republish || seen.status.is_some() && (!renews || renewals <= RENEWALS) {
                self.enqueue(rule);
            }
            look_again = look_again.min(seen.look_again.unwrap_or(look_again));
            if let Some(waiting) = seen.waiting {
                self.ctx.progress.set_waiting(uid, waiting);
            }
        }
        self.ctx.metrics.count_rules(rules.iter().map(AsRef::as_ref));
        look_again
    }
}

/// One rule: whatever is left to do up to the bus, then what the nodes say of it, then its status.
pub(crate) async fn reconcile(rule: Arc<WasmRule>, ctx: Arc<Context>) -> Result<Action, ReconcileError> {
    let object = Object::of(&*rule);
    let on_the_bus = |published: &Published| {
        let rule = published.entry.rule()?;
        ctx.publisher.view(|state| state.find_rule(object, rule).is_some())
    };
    if let Work::Advance { poll } = ctx.progress.work(object, on_the_bus, Instant::now()) {
        let every = rule.spec.source.oci.as_ref().and_then(|oci| oci.poll_interval).map(Span::get);
        match advance(&rule, poll, &ctx).await {
            Advance::Outcome(outcome) => {
                ctx.metrics.reconciled(&outcome);
                ctx.progress.record(object, outcome, Polling { asked: poll, every }, Instant::now());
            }
            Advance::Unmoved { failure } => ctx.progress.polled(object.uid, failure, every, Instant::now()),
            Advance::WaitForBus => return Ok(Action::await_change()),
            Advance::Deleted => {
                ctx.progress.forget(object.uid);
                return Ok(Action::await_change());
            }
            Advance::NotLeading(error) => return Err(ReconcileError::NotLeading(error)),
        }
    }
    if let Some(status) = due_status(&rule, &ctx) {
        ctx.statuses.rate.acquire(is_significant(rule.status.as_ref(), &status)).await;
        // What the agents said in the meantime goes into the same patch.
        if let Some(status) = due_status(&rule, &ctx) {
            update_status(&rule, &status, &ctx.statuses).await?;
        }
    }
    let due = ctx.progress.look(object, |progress| progress.due_at()).flatten();
    Ok(due.map_or_else(Action::await_change, |at| {
        Action::requeue(at.saturating_duration_since(Instant::now()))
    }))
}

/// When a reconciliation that failed is tried again.
fn after_error(_rule: Arc<WasmRule>, error: &ReconcileError, _ctx: Arc<Context>) -> Action {
    match error {
        ReconcileError::Update(UpdateError::Conflict) => {
            Action::requeue(backoff::spread(Duration::from_secs(1)))
        }
        ReconcileError::Update(UpdateError::Api(_)) => {
            Action::requeue(backoff::spread(Duration::from_secs(10)))
        }
        ReconcileError::NotLeading(_)
        | ReconcileError::Update(UpdateError::Gone | UpdateError::LeaseOver) => Action::await_change(),
    }
}

/// What the status of a rule should say now, if it does not.
fn due_status(rule: &WasmRule, ctx: &Context) -> Option<WasmRuleStatus> {
    let now = Instant::now();
    let seen = ctx.observe(rule, &ctx.agents.view(now), now);
    if let Some(waiting) = seen.waiting {
        ctx.progress.set_waiting(Object::of(rule).uid, waiting);
    }
    seen.status
}

#[cfg(test)]
mod tests;
