//! Asking an agent for what it runs and the bus has lost; answering on the agent.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use portcullis_crds::bus::{ModuleRef, Recall, Recalled};
use portcullis_crds::revision::ModuleDigest;
use portcullis_crds::rule_key::RuleKey;
use thiserror::Error;

use crate::connect::{Bus, BusError};

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Why an agent gave nothing that can be used.
#[derive(Debug, Error)]
pub enum RecallError {
    /// No answer.
    #[error("agent {agent} did not answer: {why}")]
    Silent {
        /// Which agent.
        agent: String,
        /// What the client library said.
        why: String,
    },
    /// It has it no more.
    #[error("agent {0} no longer has what it was asked for")]
    Nothing(String),
    /// Another shape.
    #[error("expected agent {agent} to answer with a rule, found something else: {source}")]
    Malformed {
        /// Which agent.
        agent: String,
        /// What is wrong with the answer.
        source: serde_json::Error,
    },
    /// Other bytes.
    #[error("expected module {expected} from agent {agent}, found {found}")]
    DigestMismatch {
        /// Which agent.
        agent: String,
        /// What was asked for.
        expected: ModuleDigest,
        /// What came.
        found: ModuleDigest,
    },
}

impl Bus {
    /// What an agent holds as desired of a rule.
    pub async fn recall_rule(&self, agent: &str, key: &RuleKey) -> Result<Recalled, RecallError> {
        let answer = self.ask(agent, &Recall::Rule(key.clone())).await?;
        serde_json::from_slice(&answer)
            .map_err(|source| RecallError::Malformed { agent: agent.to_owned(), source })
    }

    /// A module that an agent has, checked against its digest.
    pub async fn recall_module(&self, agent: &str, module: &ModuleRef) -> Result<Bytes, RecallError> {
        let mut bytes = BytesMut::new();
        for index in 0..module.chunks() {
            bytes.extend(self.ask(agent, &Recall::Chunk { digest: module.digest.clone(), index }).await?);
        }
        let found = ModuleDigest::of(&bytes);
        if found != module.digest {
            let expected = module.digest.clone();
            return Err(RecallError::DigestMismatch { agent: agent.to_owned(), expected, found });
        }
        Ok(bytes.freeze())
    }

    async fn ask(&self, agent: &str, recall: &Recall) -> Result<Bytes, RecallError> {
        let silent = |why: String| RecallError::Silent { agent: agent.to_owned(), why };
        let payload = serde_json::to_vec(recall).map_err(|e| silent(e.to_string()))?;
        let asked = self.client.request(self.subjects.recall(agent), payload.into());
        let answer = match tokio::time::timeout(ANSWER, asked).await {
            Ok(answer) => answer.map_err(|e| silent(e.to_string()))?,
            Err(_) => return Err(silent(format!("no answer for {} s", ANSWER.as_secs()))),
        };
        if answer.payload.is_empty() {
            Err(RecallError::Nothing(agent.to_owned()))
        } else {
            Ok(answer.payload)
        }
    }

    /// What this agent is asked for from now on.
    pub async fn recalls(&self, agent: &str) -> Result<Recalls, BusError> {
        let subscription = self
            .client
            .subscribe(self.subjects.recall(agent))
            .await
            .map_err(|e| BusError::Unreachable(e.to_string()))?;
        Ok(Recalls { client: self.client.clone(), subscription })
    }
}

/// The questions to one agent.
pub struct Recalls {
    client: async_nats::Client,
    subscription: async_nats::Subscriber,
}

impl Recalls {
    /// Answers the next question; false when there will be none any more.
    pub async fn answer(
        &mut self,
        answer: impl AsyncFnOnce(Recall) -> Option<Bytes>,
    ) -> Result<bool, BusError> {
        let Some(message) = self.subscription.next().await else { return Ok(false) };
        let Some(reply) = message.reply else { return Ok(true) };
        let answer = match serde_json::from_slice(&message.payload) {
            Ok(recall) => answer(recall).await,
            Err(error) => {
                tracing::warn!(%error, "a question of the operator that this version does not know");
                None
            }
        };
        self.client
            .publish(reply, answer.unwrap_or_default())
            .await
            .map_err(|e| BusError::Unreachable(e.to_string()))?;
        Ok(true)
    }
}
