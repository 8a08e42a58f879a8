//! One rule, step by step. Each step is a file with an error of its own; the type that a step returns is what
//! the next one needs, so no step can be left out:
//! `Accepted` -> `Resolved` -> `Verified` -> `Validated` -> `Published`.

pub(crate) mod accept;
pub(crate) mod aggregate;
pub(crate) mod dereference;
pub(crate) mod publish;
pub(crate) mod status;
pub(crate) mod update_status;
pub(crate) mod validate;
pub(crate) mod verify;

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::events::Reporter;
use kube::runtime::reflector::{ObjectRef, Store};
use portcullis_artifact::Registry;
use portcullis_crds::bus::{DesiredRule, SetHash};
use portcullis_crds::condition::{ConditionType, Reason};
use portcullis_crds::status::{EnforcedRevision, ResolvedModule};
use portcullis_crds::{Revision, RuleKey, WasmRule, WasmRuleStatus};
use thiserror::Error;
use tokio::time::Instant;

use crate::backoff;
use crate::budget::Budget;
use crate::clock;
use crate::config::PullSecretNamespaces;
use crate::fair_turns::{FairTurns, Turn};
use crate::fleet::{Agents, Fleet};
use crate::lease::Validity;
use crate::metrics::Metrics;
use crate::module_cache::ModuleCache;
use crate::progress::{Outcome, Polling, Rules, Work};
use crate::publisher::{Publisher, WriteError};
use crate::quota::{Quota, Quotas};
use aggregate::{Before, Place, Rollout, Target};
use publish::{PublishFailure, Published};
use status::Nodes;
use update_status::UpdateError;
use validate::Validator;

/// What all reconciliations share.
pub(crate) struct Context {
    pub(crate) client: kube::Client,
    /// All rules, as the API server last said.
    pub(crate) objects: Store<WasmRule>,
    pub(crate) registry: Registry,
    /// Registries are asked about so many rules at once.
    pub(crate) registry_turns: FairTurns,
    pub(crate) validator: Validator,
    pub(crate) modules: ModuleCache,
    pub(crate) publisher: Publisher,
    pub(crate) agents: Agents,
    pub(crate) rules: Rules,
    pub(crate) budget: Budget,
    pub(crate) validity: Validity,
    pub(crate) reporter: Reporter,
    pub(crate) metrics: Metrics,
    pub(crate) settings: Settings,
}

/// What an administrator set.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) pull_secret_namespaces: PullSecretNamespaces,
    pub(crate) max_module_bytes: u64,
    pub(crate) quotas: Quotas,
}

/// Where and why a rule stopped on its way to the bus.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Halt {
    /// The condition that is False because of it.
    pub(crate) condition: ConditionType,
    pub(crate) reason: Reason,
    /// Expected, found, what to do.
    pub(crate) message: String,
    pub(crate) retry: Retry,
    /// What the reference led to, if it came as far as that.
    pub(crate) resolved: Option<ResolvedModule>,
}

/// When the same is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// When the spec changes: nothing else helps.
    OnChange,
    /// Every minute: somebody has to correct something of which no watch tells us.
    Slowly,
    /// With growing waits: it will pass.
    Soon,
}

/// Why a reconciliation did not come to its end.
#[derive(Debug, Error)]
pub(crate) enum ReconcileError {
    /// This operator must stop. Nothing more is said about the rule.
    #[error(transparent)]
    MustStop(WriteError),
    /// The status could not be written.
    #[error(transparent)]
    Update(#[from] UpdateError),
}

/// What came of the steps up to publish.
#[allow(clippy::large_enum_variant)] // made once a reconciliation and taken apart at once
enum Advance {
    Outcome(Outcome),
    /// A polled tag has not moved, or could not be looked at.
    Unmoved {
        failure: Option<String>,
    },
    /// Whether there is anything to do is known only when the bus has been read.
    WaitForBus,
    /// The object was deleted in the meantime.
    Gone,
    MustStop(WriteError),
}

// === impl Context ===

impl Context {
    /// Whether this very object exists, as far as the watch has told.
    pub(crate) fn exists(&self, key: &RuleKey, uid: &str) -> bool {
        let namespace = key.namespace.as_deref().unwrap_or_default();
        let object = self.objects.get(&ObjectRef::new(&key.name).within(namespace));
        object.is_some_and(|object| object.metadata.uid.as_deref() == Some(uid))
    }

    /// A turn of this namespace to ask a registry.
    async fn registry_turn(&self, namespace: &str) -> Turn {
        let most = self.settings.quotas.of(namespace).registry_requests;
        self.registry_turns.turn(namespace, most).await
    }
}

// === impl Halt ===

impl Halt {
    pub(crate) fn new(condition: ConditionType, reason: Reason, message: String, retry: Retry) -> Self {
        Self { condition, reason, message, retry, resolved: None }
    }
}

/// One rule: whatever is left to do up to the bus, then what the nodes say of it, then its status.
pub(crate) async fn reconcile(rule: Arc<WasmRule>, ctx: Arc<Context>) -> Result<Action, ReconcileError> {
    let (key, uid, generation) = identity(&rule);
    let on_the_bus =
        |published: &Published| publish::is_on_the_bus(&ctx.publisher, &uid, generation, &published.rule);
    if let Work::Advance { poll } = ctx.rules.work(&key, &uid, generation, on_the_bus, Instant::now()) {
        let every =
            rule.spec.source.oci.as_ref().and_then(|oci| oci.poll_interval).map(portcullis_crds::Span::get);
        match advance(&rule, poll, &ctx).await {
            Advance::Outcome(outcome) => {
                ctx.metrics.reconciled(&outcome);
                let polling = Polling { asked: poll, every };
                ctx.rules.record(&key, &uid, generation, outcome, polling, Instant::now());
            }
            Advance::Unmoved { failure } => ctx.rules.polled(&key, failure, every, Instant::now()),
            Advance::WaitForBus => return Ok(Action::await_change()),
            Advance::Gone => {
                ctx.rules.forget(&key, &uid);
                return Ok(Action::await_change());
            }
            Advance::MustStop(error) => return Err(ReconcileError::MustStop(error)),
        }
    }
    if let Some(status) = news(&rule, &ctx) {
        ctx.budget.spend(update_status::is_news(rule.status.as_ref(), &status)).await;
        // What the agents said in the meantime goes into the same patch.
        if let Some(status) = news(&rule, &ctx) {
            update_status::update_status(&rule, &status, &ctx).await?;
        }
    }
    let due = ctx.rules.get(&key, &uid, generation).and_then(|progress| progress.due_at());
    Ok(due.map_or_else(Action::await_change, |at| {
        Action::requeue(at.saturating_duration_since(Instant::now()))
    }))
}

/// When a reconciliation that failed is tried again.
pub(crate) fn after_error(_rule: Arc<WasmRule>, error: &ReconcileError, _ctx: Arc<Context>) -> Action {
    match error {
        ReconcileError::Update(UpdateError::Conflict) => {
            Action::requeue(backoff::spread(Duration::from_secs(1)))
        }
        ReconcileError::Update(UpdateError::Api(_)) => {
            Action::requeue(backoff::spread(Duration::from_secs(10)))
        }
        ReconcileError::MustStop(_) | ReconcileError::Update(UpdateError::Gone | UpdateError::LeaseOver) => {
            Action::await_change()
        }
    }
}

/// The steps up to publish.
async fn advance(rule: &WasmRule, poll: bool, ctx: &Context) -> Advance {
    let accepted = match accept::accept(rule) {
        Ok(accepted) => accepted,
        Err(error) => return Advance::Outcome(Outcome::Halted(error.into())),
    };
    let quota = if publish::is_lost(rule, &accepted.key, &ctx.publisher) {
        &Quota::UNLIMITED
    } else {
        ctx.settings.quotas.of(&accepted.namespace)
    };
    // Before anybody works for a rule that cannot be published.
    if let Some(Err(error)) = ctx.publisher.view(|board| quota.admit_rule(&accepted.key, board)) {
        return Advance::Outcome(Outcome::Halted(error.into()));
    }
    let before =
        ctx.rules.get(&accepted.key, &accepted.uid, accepted.generation).map(|progress| progress.outcome);
    let remembered = before.as_ref().and_then(Outcome::resolved).cloned();
    let known = remembered.or_else(|| dereference::frozen(&accepted, rule.status.as_ref()));
    let resolved = match dereference::dereference(accepted, known.clone(), poll, ctx).await {
        Ok(resolved) => resolved,
        // A rule that runs goes on with the digest that it has: the next look may succeed.
        Err(error) if poll && known.is_some() => {
            return Advance::Unmoved { failure: Some(error.to_string()) };
        }
        Err(error) => return Advance::Outcome(Outcome::Halted(error.into())),
    };
    if poll
        && known
            .as_ref()
            .is_some_and(|known| known.manifest_digest == resolved.manifest.manifest_digest.to_string())
    {
        return Advance::Unmoved { failure: None };
    }
    // A new leader lists the rules before it has read the bus. Most are there already: none is pulled for that.
    if before.is_none() && resolved.frozen.is_some() && ctx.publisher.view(|_| ()).is_none() {
        return Advance::WaitForBus;
    }
    let missed = matches!(before, Some(Outcome::Published(_)));
    if !missed && let Some(published) = publish::adopted(&resolved, &ctx.publisher) {
        return Advance::Outcome(Outcome::Published(Box::new(published)));
    }
    let verified = match verify::verify(resolved, ctx).await {
        Ok(verified) => verified,
        Err(error) => {
            let halt = Halt { resolved: known, ..error.into() };
            if poll && halt.resolved.is_some() && halt.retry == Retry::Soon {
                return Advance::Unmoved { failure: Some(halt.message) };
            }
            return Advance::Outcome(Outcome::Halted(halt));
        }
    };
    let found = verified.resolved.clone();
    let halted =
        |halt: Halt| Advance::Outcome(Outcome::Halted(Halt { resolved: Some(found.clone()), ..halt }));
    let validated = match validate::validate(verified, &ctx.validator, quota).await {
        Ok(validated) => validated,
        Err(error) => return halted(error.into()),
    };
    let found = validated.resolved.clone();
    let (key, uid) = (validated.rule.key.clone(), validated.uid.clone());
    match publish::publish(validated, &ctx.publisher, || ctx.exists(&key, &uid), quota).await {
        Ok(published) => Advance::Outcome(Outcome::Published(Box::new(published))),
        Err(PublishFailure::Later(halt)) => {
            Advance::Outcome(Outcome::Halted(Halt { resolved: Some(found), ..halt }))
        }
        Err(PublishFailure::Gone) => Advance::Gone,
        Err(PublishFailure::MustStop(error)) => Advance::MustStop(error),
    }
}

/// What the status of a rule should say now, if it does not.
fn news(rule: &WasmRule, ctx: &Context) -> Option<WasmRuleStatus> {
    let now = Instant::now();
    observe(rule, ctx.agents.view(now).as_ref(), now, ctx).status
}

/// What a look at a rule and its nodes gave.
#[derive(Debug, Default)]
pub(crate) struct Observation {
    /// What the status should say, if that is not what it says.
    pub(crate) status: Option<WasmRuleStatus>,
    /// When the answer changes by the mere passing of time.
    pub(crate) look_again: Option<Instant>,
    /// A node cannot get the module.
    pub(crate) misses_module: bool,
}

/// Looks at what the bus has for a rule and what the agents say of it. There is nothing to say while the steps
/// have not run.
pub(crate) fn observe(rule: &WasmRule, fleet: Option<&Fleet>, now: Instant, ctx: &Context) -> Observation {
    let (key, uid, generation) = identity(rule);
    let Some(progress) = ctx.rules.get(&key, &uid, generation) else { return Observation::default() };
    let previous = rule.status.clone().unwrap_or_default();
    let wanted = wanted(&key, &uid, &previous, ctx);
    let rollout = match (&wanted, fleet) {
        (Some(wanted), Some(fleet)) => {
            let ready = was_ready(&previous, &wanted.revision);
            let before = Before { ready, waiting: progress.waiting };
            Some(aggregate::aggregate(&wanted.target(&key, &uid), fleet, &before, now))
        }
        _ => None,
    };
    let enforced = match (&wanted, &progress.outcome) {
        (Some(wanted), _) => Some(wanted.enforced()),
        // While it is not known what the bus has.
        (None, Outcome::Published(published)) => Some(enforced(&published.rule)),
        (None, Outcome::Halted(_)) => previous.enforced.clone(),
    };
    let nodes = match &rollout {
        Some(rollout) => Nodes::Heard(rollout),
        None if ctx.agents.is_deaf(now) => Nodes::Unheard,
        None => Nodes::NotYet,
    };
    let facts = status::Facts {
        generation,
        mode: rule.spec.mode,
        outcome: &progress.outcome,
        poll_failure: progress.poll_failure.as_deref(),
        enforced: enforced.as_ref(),
        nodes,
    };
    let status = status::status(&facts, &previous, clock::now());
    let is_worth_it = match nodes {
        // Numbers that are about to change again are not worth a patch for each rule.
        Nodes::Heard(rollout) => !rollout.settling || update_status::is_news(rule.status.as_ref(), &status),
        Nodes::NotYet => !already_said(&previous, &status, &progress.outcome),
        Nodes::Unheard => true,
    };
    let look_again = rollout.as_ref().and_then(|rollout| rollout.look_again);
    let misses_module = rollout.as_ref().is_some_and(Rollout::misses_module);
    if let Some(Rollout { waiting, .. }) = rollout {
        ctx.rules.set_waiting(&key, waiting);
    }
    let is_due = is_worth_it && update_status::is_due(rule.status.as_ref(), &status);
    Observation { status: Some(status).filter(|_| is_due), look_again, misses_module }
}

/// Whether a status speaks of this generation as published already. Then a bus that has just gone away changes nothing
/// in it.
fn already_said(previous: &WasmRuleStatus, now: &WasmRuleStatus, outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Published(_))
        && previous.observed_generation == now.observed_generation
        && previous.enforced == now.enforced
}

/// What nodes are told to run of a rule.
struct Wanted {
    revision: Revision,
    module_digest: String,
    stream: String,
    /// Of the message, of the last one on the stream, and the set there; `None` if the stream has lost the rule and nodes
    /// are told to keep theirs.
    published: Option<(u64, u64, SetHash)>,
}

/// `None` while it is not known what the bus has, or if nothing was ever enforced.
fn wanted(key: &RuleKey, uid: &str, previous: &WasmRuleStatus, ctx: &Context) -> Option<Wanted> {
    ctx.publisher.view(|board| {
        let stream = board.stream().to_string();
        if let Some(entry) = board.get(key).filter(|entry| entry.uid == uid) {
            let (revision, sequence) = (entry.revision.clone(), entry.sequence);
            let module_digest = entry.rule.module.digest.to_string();
            let published = Some((sequence, board.last_sequence(), board.set_hash()));
            return Some(Wanted { revision, module_digest, stream, published });
        }
        let EnforcedRevision { revision, module_digest } = previous.enforced.clone()?;
        Some(Wanted { revision: Revision::from(revision), module_digest, stream, published: None })
    })?
}

fn enforced(rule: &DesiredRule) -> EnforcedRevision {
    EnforcedRevision {
        revision: Revision::of(rule).to_string(),
        module_digest: rule.module.digest.to_string(),
    }
}

impl Wanted {
    fn enforced(&self) -> EnforcedRevision {
        EnforcedRevision { revision: self.revision.to_string(), module_digest: self.module_digest.clone() }
    }

    fn target<'a>(&'a self, key: &'a RuleKey, uid: &'a str) -> Target<'a> {
        let place = match &self.published {
            Some((sequence, head, set)) => Place::Published { sequence: *sequence, head: *head, set },
            None => Place::Kept { uid },
        };
        Target { key, revision: &self.revision, stream: &self.stream, place, mark: OnceCell::new() }
    }
}

/// The grace of joining nodes is for a rule that has been everywhere.
fn was_ready(status: &WasmRuleStatus, revision: &Revision) -> bool {
    let ready =
        status.conditions.iter().any(|c| c.type_ == ConditionType::Ready.as_str() && c.status == "True");
    ready && status.stable_revision.as_deref() == Some(revision.as_str())
}

/// Key, uid and generation.
pub(crate) fn identity(rule: &WasmRule) -> (RuleKey, String, i64) {
    let key = RuleKey { namespace: rule.namespace(), name: rule.name_any() };
    (key, rule.uid().unwrap_or_default(), rule.metadata.generation.unwrap_or_default())
}

/// The condition and reason for what a registry did.
fn registry_reason(reason: portcullis_artifact::Reason) -> (ConditionType, Reason) {
    use portcullis_artifact::Reason as Found;
    let (condition, reason) = match reason {
        // An answer that makes no sense is a fault of the registry, which may pass.
        Found::RegistryUnreachable | Found::UnexpectedAnswer => {
            (ConditionType::Resolved, Reason::RegistryUnreachable)
        }
        Found::Unauthorized => (ConditionType::Resolved, Reason::Unauthorized),
        Found::NotFound => (ConditionType::Resolved, Reason::NotFound),
        Found::TooLarge => (ConditionType::Resolved, Reason::TooLarge),
        Found::UnsupportedArtifact => (ConditionType::Resolved, Reason::UnsupportedArtifact),
        Found::DigestMismatch => (ConditionType::Verified, Reason::DigestMismatch),
        Found::NotWasm => (ConditionType::Programmed, Reason::NotWasm),
        Found::InvalidRequest => (ConditionType::Accepted, Reason::Invalid),
    };
    (condition, reason)
}

#[cfg(test)]
mod tests;
