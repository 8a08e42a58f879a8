//! Puts back what the bus has lost and cannot be made from the objects, from the agents that still run it.
//!
//! No agent is believed: what it gives has to have the revision and the module digest that the rule's status names, and
//! those an operator wrote.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use portcullis_bus::{Bus, RecallError};
use portcullis_crds::bus::{DesiredRule, Recalled, Report};
use portcullis_crds::status::EnforcedRevision;
use portcullis_crds::{Revision, RuleKey, WasmRule};
use thiserror::Error;
use tokio::time::Instant;

use super::bus::enforced;
use super::{LeadError, Leader};
use crate::publisher::{Object, WriteError};
use crate::reconcile::{identity, observe};

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

/// A rule that nodes are told to run.
struct Enforced<'a> {
    key: &'a RuleKey,
    uid: &'a str,
    generation: i64,
    revision: &'a EnforcedRevision,
}

/// What the bus has lost of it.
enum Lost<'a> {
    /// All of it.
    Rule(&'a Enforced<'a>),
    /// Only its module.
    Module(&'a DesiredRule),
}

impl Lost<'_> {
    fn key(&self) -> &RuleKey {
        match self {
            Self::Rule(wanted) => wanted.key,
            Self::Module(rule) => &rule.key,
        }
    }
}

impl Leader {
    /// Looks for what is lost, for as long as this operator leads.
    pub(super) async fn recover(&self) -> Result<Infallible, LeadError> {
        loop {
            tokio::time::sleep(EVERY).await;
            let Some(bus) = self.ctx.publisher.bus().await else { continue };
            for rule in self.ctx.objects.state() {
                let (key, uid, generation) = identity(&rule);
                let Some(revision) = enforced(&rule) else { continue };
                if self.ctx.rules.is_coming(&key, &uid, generation) {
                    continue;
                }
                let wanted = Enforced { key: &key, uid: &uid, generation, revision };
                self.recover_rule(&bus, &rule, &wanted).await?;
            }
        }
    }

    async fn recover_rule(&self, bus: &Bus, rule: &WasmRule, wanted: &Enforced<'_>) -> Result<(), LeadError> {
        let Enforced { key, uid, .. } = wanted;
        let known = self
            .ctx
            .publisher
            .view(|board| board.get(key).filter(|entry| entry.uid == *uid).map(|entry| entry.rule.clone()));
        match known {
            // What the bus has is not known.
            None => Ok(()),
            Some(None) => {
                let keepers = self.reporting(|report| {
                    report.kept.iter().any(|kept| {
                        kept.key == **key
                            && kept.uid == *uid
                            && kept.revision.as_str() == wanted.revision.revision
                    })
                });
                self.put_back_from_first(bus, keepers, &Lost::Rule(wanted)).await
            }
            Some(Some(published)) => {
                let now = Instant::now();
                let misses = observe(rule, self.ctx.agents.view(now).as_ref(), now, &self.ctx).misses_module;
                if !misses || !self.ctx.rules.miss_module(key, now) {
                    return Ok(());
                }
                let runners = self.reporting(|report| report.exceptions.iter().all(|e| e.key != **key));
                self.put_back_from_first(bus, runners, &Lost::Module(&published)).await
            }
        }
    }

    /// Names of the agents whose report satisfies this.
    fn reporting(&self, has: impl Fn(&Report) -> bool) -> Vec<String> {
        let fleet = self.ctx.agents.view(Instant::now()).unwrap_or_default();
        let reports = fleet.nodes.into_values().flatten().filter_map(|agent| agent.report);
        reports
            .filter(|report: &Arc<Report>| has(report))
            .map(|report| report.agent.clone())
            .take(ASKED)
            .collect()
    }

    /// Asks one agent after the other until one gives what can be put back.
    async fn put_back_from_first(
        &self,
        bus: &Bus,
        agents: Vec<String>,
        lost: &Lost<'_>,
    ) -> Result<(), LeadError> {
        let key = lost.key();
        for agent in agents {
            match self.put_back_from(bus, &agent, lost).await {
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

    async fn put_back_from(&self, bus: &Bus, agent: &str, lost: &Lost<'_>) -> Result<(), RecoverError> {
        let wanted = match lost {
            Lost::Rule(wanted) => wanted,
            Lost::Module(rule) => {
                let wasm = self.module(bus, agent, rule).await?;
                return Ok(self.ctx.publisher.put_module(rule, &wasm).await?);
            }
        };
        let Enforced { key, uid, .. } = wanted;
        let recalled = bus.recall_rule(agent, key).await?;
        if !is_wanted(&recalled, wanted) {
            return Err(RecoverError::OtherRevision {
                agent: agent.to_owned(),
                expected: wanted.revision.revision.clone(),
                found: Revision::of(&recalled.rule).to_string(),
            });
        }
        let Recalled { generation, rule, .. } = recalled;
        let wasm = self.module(bus, agent, &rule).await?;
        let exists = || self.ctx.exists(key, uid);
        self.ctx.publisher.put_back(Object { uid, generation }, rule, &wasm, exists).await?;
        Ok(())
    }

    /// The module, from the nearest place.
    async fn module(&self, bus: &Bus, agent: &str, rule: &DesiredRule) -> Result<Bytes, RecoverError> {
        let namespace = rule.key.namespace.as_deref().unwrap_or_default();
        if let Some(wasm) = self.ctx.modules.get(namespace, &rule.module.digest) {
            return Ok(wasm);
        }
        let (most, found) = (self.ctx.settings.max_module_bytes, rule.module.size);
        if found > most {
            return Err(RecoverError::TooLarge { agent: agent.to_owned(), most, found });
        }
        if let Ok(wasm) = bus.fetch_module(&rule.module).await {
            return Ok(wasm);
        }
        let wasm = bus.recall_module(agent, &rule.module).await?;
        self.ctx.modules.put(namespace, &rule.module.digest, &wasm);
        Ok(wasm)
    }
}

/// Whether this is the very revision that the status names. A generation that the object never had would stand against
/// the next one.
fn is_wanted(recalled: &Recalled, wanted: &Enforced<'_>) -> bool {
    recalled.uid == wanted.uid
        && recalled.rule.key == *wanted.key
        && recalled.generation <= wanted.generation
        && Revision::of(&recalled.rule).as_str() == wanted.revision.revision
        && recalled.rule.module.digest.to_string() == wanted.revision.module_digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::tests::rule;

    #[test]
    fn only_the_revision_that_the_status_names_is_put_back() {
        let rule = rule("a");
        let revision = EnforcedRevision {
            revision: Revision::of(&rule).to_string(),
            module_digest: rule.module.digest.to_string(),
        };
        let key = rule.key.clone();
        let wanted = Enforced { key: &key, uid: "u1", generation: 3, revision: &revision };
        let good = Recalled { uid: "u1".into(), generation: 2, rule: rule.clone() };
        assert!(is_wanted(&good, &wanted));
        let weaker = DesiredRule { mode: portcullis_crds::wasm_rule::Mode::Monitor, ..rule.clone() };
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
