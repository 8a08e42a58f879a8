//! Puts back what the bus has lost and cannot be made from the objects, from the agents that still run it.
//!
//! No agent is believed: what it gives has to have the revision and the module digest that the rule's status names, and
//! those an operator wrote.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use portcullis_bus::{Bus, RecallError};
use portcullis_crds::bus::{DesiredRule, Recalled, Report};
use portcullis_crds::status::EnforcedRevision;
use portcullis_crds::{Revision, RuleKey, WasmRule};
use thiserror::Error;
use tokio::time::Instant;

use super::lead_error::LeadError;
use crate::context::Context;
use crate::object::{Object, enforced, rule_key, rule_subject};
use crate::publisher::error::WriteError;

/// Between two looks for something that the bus has lost.
const EVERY: Duration = Duration::from_secs(2);
/// Agents that are asked for the same thing, one after the other.
const ASKED: usize = 3;

/// Why something is not back on the bus.
#[derive(Debug, Error)]
enum RecoverError {
    /// The agent did not give it.
    #[error(transparent)]
    Recall(#[from] RecallError),
    /// The agent gave something else.
    #[error("expected revision {expected} of the rule from agent {agent}, found {found}")]
    OtherRevision { agent: String, expected: String, found: String },
    /// A module that no operator has published.
    #[error("expected agent {agent} to name a module of at most {most} bytes, found {found}")]
    TooLarge { agent: String, most: u64, found: u64 },
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What the bus has lost of a rule that nodes are told to run.
enum Lost<'a> {
    /// All of it.
    Rule(Enforced<'a>),
    /// Only its module.
    Module(Box<DesiredRule>),
}

/// A rule that nodes are told to run.
struct Enforced<'a> {
    key: RuleKey,
    object: Object<'a>,
    revision: &'a EnforcedRevision,
}

/// Looks for what is lost, for as long as this operator leads.
pub(super) async fn recover(ctx: &Context) -> Result<Infallible, LeadError> {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(bus) = ctx.publisher.bus() else { continue };
        for rule in ctx.objects.state() {
            if let Some(lost) = find_lost(&rule, ctx) {
                put_back(&lost, &bus, ctx).await?;
            }
        }
    }
}

/// Nothing while it is not known what the bus has.
fn find_lost<'a>(rule: &'a WasmRule, ctx: &Context) -> Option<Lost<'a>> {
    let (object, revision) = (Object::of(rule), enforced(rule)?);
    if ctx.progress.is_coming(object) {
        return None;
    }
    let subject = rule_subject(rule);
    let entry =
        ctx.publisher.view(|state| state.get(&subject).filter(|entry| entry.is_of(object.uid)).cloned())?;
    let Some(entry) = entry else {
        return Some(Lost::Rule(Enforced { key: rule_key(rule), object, revision }));
    };
    let now = Instant::now();
    let misses_module = ctx.observe(rule, &ctx.agents.view(now), now).misses_module;
    let recall = misses_module && ctx.progress.recall_module(object.uid, now);
    entry.rule().filter(|_| recall).map(|rule| Lost::Module(Box::new(rule.clone())))
}

/// Asks one agent after the other until one gives what can be put back.
async fn put_back(lost: &Lost<'_>, bus: &Bus, ctx: &Context) -> Result<(), LeadError> {
    for agent in agents_with(lost, ctx) {
        let key = lost.key();
        match put_back_from(&agent, lost, bus, ctx).await {
            Ok(()) => {
                tracing::info!(rule = %key, agent, "put back on the bus, which had lost it");
                break;
            }
            Err(RecoverError::Write(error)) => return LeadError::from_write(&error).map_or(Ok(()), Err),
            Err(error) => tracing::warn!(rule = %key, %error, "not put back on the bus"),
        }
    }
    Ok(())
}

/// Names of agents whose last report says that they have it.
fn agents_with(lost: &Lost<'_>, ctx: &Context) -> Vec<String> {
    let view = ctx.agents.view(Instant::now());
    let agents = view.known().into_iter().flat_map(|fleet| fleet.nodes.values().flatten());
    let reports = agents.filter_map(|agent| agent.report.as_ref()).filter(|report| lost.is_at(report));
    reports.map(|report| report.agent.clone()).take(ASKED).collect()
}

async fn put_back_from(agent: &str, lost: &Lost<'_>, bus: &Bus, ctx: &Context) -> Result<(), RecoverError> {
    let wanted = match lost {
        Lost::Module(rule) => {
            let wasm = module(agent, rule, bus, ctx).await?;
            return Ok(ctx.publisher.put_module(rule, &wasm).await?);
        }
        Lost::Rule(wanted) => wanted,
    };
    let recalled = bus.recall_rule(agent, &wanted.key).await?;
    if !is_wanted(&recalled, wanted) {
        return Err(RecoverError::OtherRevision {
            agent: agent.to_owned(),
            expected: wanted.revision.revision.clone(),
            found: Revision::of(&recalled.rule.stable).to_string(),
        });
    }
    let Recalled { generation, rule, .. } = recalled;
    // No status names the candidate that the agent may have beside it.
    let rule = DesiredRule { candidate: None, ..rule };
    let wasm = module(agent, &rule, bus, ctx).await?;
    let object = Object { generation, ..wanted.object };
    let exists = ctx.existence(&wanted.key, object.uid);
    ctx.publisher.put_back_rule(object, rule, &wasm, exists).await?;
    Ok(())
}

/// The module, from the nearest place.
async fn module(agent: &str, rule: &DesiredRule, bus: &Bus, ctx: &Context) -> Result<Bytes, RecoverError> {
    let namespace = rule.key.namespace.as_deref().unwrap_or_default();
    if let Some(wasm) = ctx.modules.get(namespace, &rule.stable.module.digest) {
        return Ok(wasm);
    }
    let (most, found) = (ctx.registries.max_module_bytes, rule.stable.module.size);
    if found > most {
        return Err(RecoverError::TooLarge { agent: agent.to_owned(), most, found });
    }
    if let Ok(wasm) = bus.fetch_module(&rule.stable.module).await {
        return Ok(wasm);
    }
    let wasm = bus.recall_module(agent, &rule.stable.module).await?;
    ctx.modules.put(namespace, &rule.stable.module.digest, &wasm);
    Ok(wasm)
}

// === impl Lost ===

impl Lost<'_> {
    fn key(&self) -> &RuleKey {
        match self {
            Self::Rule(wanted) => &wanted.key,
            Self::Module(rule) => &rule.key,
        }
    }

    /// Whether an agent has it, by its report.
    fn is_at(&self, report: &Report) -> bool {
        match self {
            Self::Rule(Enforced { key, object, revision }) => report.kept.iter().any(|kept| {
                kept.key == *key && kept.uid == object.uid && kept.revision.as_str() == revision.revision
            }),
            // One about the candidate says nothing about the stable revision's module.
            Self::Module(rule) => report.exceptions.iter().all(|exception| {
                exception.key != rule.key || Some(&exception.wanted) == rule.candidate_revision()
            }),
        }
    }
}

/// Whether this is the very revision that the status names. A generation that the object never had would stand against
/// the next one.
fn is_wanted(recalled: &Recalled, wanted: &Enforced<'_>) -> bool {
    recalled.uid == wanted.object.uid
        && recalled.rule.key == wanted.key
        && recalled.generation <= wanted.object.generation
        && Revision::of(&recalled.rule.stable).as_str() == wanted.revision.revision
        && recalled.rule.stable.module.digest.to_string() == wanted.revision.module_digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::published_state::tests::rule;

    #[test]
    fn only_the_revision_that_the_status_names_is_put_back() {
        let rule = rule("a");
        let revision = EnforcedRevision {
            revision: Revision::of(&rule.stable).to_string(),
            module_digest: rule.stable.module.digest.to_string(),
        };
        let object = Object { uid: "u1", generation: 3 };
        let wanted = Enforced { key: rule.key.clone(), object, revision: &revision };
        let good = Recalled { uid: "u1".into(), generation: 2, rule: rule.clone() };
        assert!(is_wanted(&good, &wanted));
        let mut weaker = rule.clone();
        weaker.stable.mode = portcullis_crds::wasm_rule::Mode::Monitor;
        let other = DesiredRule { key: RuleKey::namespaced("other", "a"), ..rule };
        for bad in [
            Recalled { rule: weaker, ..good.clone() },
            Recalled { rule: other, ..good.clone() },
            Recalled { uid: "u2".into(), ..good.clone() },
            Recalled { generation: 4, ..good },
        ] {
            assert!(!is_wanted(&bad, &wanted), "{bad:?}");
        }
    }
}
