//! The steps up to publish, one after the other.

use portcullis_crds::bus::subject::DesiredSubject;
use portcullis_crds::status::ResolvedModule;
use portcullis_crds::{RuleKey, WasmRule};

use super::accept::accept;
use super::dereference::{DereferenceError, dereference, frozen};
use super::poll::poll;
use super::publish::{adopted, publish};
use super::stop::Stop;
use super::validate::validate;
use super::verify::verify;
use crate::context::Context;
use crate::halt::{Halt, Retry};
use crate::outcome::Outcome;
use crate::publisher::Publisher;
use crate::publisher::error::WriteError;

/// What came of the steps.
pub(crate) enum Advance {
    Outcome(Outcome),
    /// A polled tag has not moved, or could not be looked at.
    Unmoved {
        failure: Option<String>,
    },
    /// Whether there is anything to do is known only when the bus has been read.
    WaitForBus,
    /// The object was deleted in the meantime.
    Deleted,
    NotLeading(WriteError),
}

/// Takes a rule as far as it comes; with `polls` its tag is asked for again.
pub(crate) async fn advance(rule: &WasmRule, polls: bool, ctx: &Context) -> Advance {
    let mut resolved = None;
    match steps(rule, polls, ctx, &mut resolved).await {
        Ok(advance) => advance,
        Err(Stop::Halted(halt)) => Advance::Outcome(Outcome::Halted { halt, resolved }),
        Err(Stop::Deleted) => Advance::Deleted,
        Err(Stop::NotLeading(error)) => Advance::NotLeading(error),
    }
}

/// `found` is what the reference leads to, as far as the steps have come.
async fn steps(
    rule: &WasmRule,
    polls: bool,
    ctx: &Context,
    found: &mut Option<ResolvedModule>,
) -> Result<Advance, Stop> {
    let accepted = accept(rule).map_err(Halt::from)?;
    let own = ctx.quotas.of(&accepted.namespace);
    let is_lost = is_lost(rule, &accepted.key, &ctx.publisher);
    let quota = if is_lost { own.for_what_was_there() } else { own.clone() };
    // Before anybody works for a rule that cannot be published.
    if let Some(admitted) = ctx.publisher.view(|state| quota.admit_rule(&accepted.key, state)) {
        admitted.map_err(Halt::from)?;
    }
    let exists = ctx.existence(&accepted.key, &accepted.uid);
    let before = ctx.progress.look(accepted.object(), |progress| {
        (progress.outcome.resolved().cloned(), progress.outcome.is_published())
    });
    let (is_new, was_published) = (before.is_none(), matches!(before, Some((_, true))));
    let remembered = before.and_then(|(resolved, _)| resolved);
    let known = remembered.or_else(|| frozen(&accepted, rule.status.as_ref()));
    let resolved = match &known {
        Some(known) if polls => match poll(accepted, known, &ctx.registries, &exists, &quota).await {
            Ok(Some(moved)) => moved,
            Ok(None) => return Ok(Advance::Unmoved { failure: None }),
            Err(DereferenceError::Deleted(_)) => return Err(Stop::Deleted),
            Err(error) => return Ok(Advance::Unmoved { failure: Some(error.to_string()) }),
        },
        _ => dereference(accepted, known.clone(), &ctx.registries, &exists, &quota).await?,
    };
    found.clone_from(&known);
    // A new leader lists the rules before it has read the bus. Most are there already: none is pulled for that.
    if is_new && resolved.frozen.is_some() && ctx.publisher.view(|_| ()).is_none() {
        return Ok(Advance::WaitForBus);
    }
    // What was published is published again because the bus, or a node, lacks something.
    if !was_published && let Some(published) = adopted(&resolved, &ctx.publisher) {
        return Ok(Advance::Outcome(Outcome::Published(published)));
    }
    let verified =
        match verify(resolved, &ctx.registries, &ctx.modules, &ctx.publisher, &exists, &quota).await {
            Ok(verified) => verified,
            Err(error) => match error.into() {
                Stop::Halted(halt) if polls && known.is_some() && halt.retry == Retry::Soon => {
                    return Ok(Advance::Unmoved { failure: Some(halt.message) });
                }
                stop => return Err(stop),
            },
        };
    *found = Some(verified.resolved.clone());
    let validated = validate(verified, &ctx.validator, &quota).await.map_err(Halt::from)?;
    *found = Some(validated.resolved.clone());
    let published = publish(validated, &ctx.publisher, exists, &quota).await?;
    Ok(Advance::Outcome(Outcome::Published(published)))
}

/// Whether nodes may be enforcing a rule that a wiped stream lost. It is written again whatever the quota says by now:
/// lowering a quota takes nothing away.
fn is_lost(rule: &WasmRule, key: &RuleKey, publisher: &Publisher) -> bool {
    let was_published = rule.status.as_ref().is_some_and(|status| status.enforced.is_some());
    let subject = DesiredSubject::Rule(key.clone());
    was_published && publisher.view(|state| state.get(&subject).is_none()) == Some(true)
}
