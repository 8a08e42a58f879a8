//! A leader's term, and the writes that only its holder can make.
//!
//! A new leader takes the next epoch by compare-and-set on the epoch subject. Each of its writes, whatever
//! its subject, expects the epoch subject to be still at the sequence of that message; so the server
//! refuses every write of a leader that was deposed, also of one that was frozen and thawed.
//! (docs/decisions/0003-fencing-by-the-epoch-subject.md)

use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_TTL};
use async_nats::jetstream::context::PublishErrorKind;
use bytes::Bytes;
use portcullis_crds::bus::{Checkpoint, DESIRED_STREAM, Desired, Envelope, EpochRecord, SCHEMA};
use serde::Serialize;
use thiserror::Error;

use crate::connect::{Bus, BusError};
use crate::room::refused;

/// The subject whose last sequence a write expects (nats-server 2.12).
const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

/// How long a tombstone stays. An agent that was away for longer finds the rule absent from a complete
/// read that a checkpoint confirms.
const TOMBSTONE_TTL: &str = "168h";

/// A leader's right to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Grows with every leader.
    pub epoch: u64,
    /// Sequence of the message that took the epoch.
    pub fence: u64,
}

/// Why the next epoch could not be taken.
#[derive(Debug, Error)]
pub enum TermError {
    /// Another operator took it at the same moment.
    #[error("another operator took the next epoch first")]
    Lost,
    /// The bus could not be asked.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// Why a write did not happen.
#[derive(Debug, Error)]
pub enum PublishError {
    /// Another operator has taken a later epoch: this one must stop.
    #[error("the bus refused a write of epoch {epoch}: another operator leads now")]
    Deposed {
        /// The epoch that is over.
        epoch: u64,
    },
    /// The bus refused the write for want of room, or could not be asked: then whether the write happened is unknown,
    /// and writing again is harmless.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Bus {
    /// Takes the next epoch. `holder` is for people.
    pub async fn take_term(&self, holder: &str) -> Result<Term, TermError> {
        let subject = self.subjects.epoch();
        let (previous, expected) = match self.last_epoch().await? {
            Some((record, sequence)) => (record.epoch, sequence),
            None => (0, 0),
        };
        let record = EpochRecord {
            schema: SCHEMA,
            cluster: self.cluster.to_string(),
            epoch: previous + 1,
            holder: holder.to_owned(),
        };
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string().as_str());
        match self.write(subject, headers, json(&record)?).await? {
            Some(fence) => Ok(Term { epoch: record.epoch, fence }),
            None => Err(TermError::Lost),
        }
    }

    /// Reads whether this is still the last term. A write need not ask: the server refuses it by itself.
    pub(crate) async fn confirm(&self, term: &Term) -> Result<(), PublishError> {
        match self.last_epoch().await? {
            Some((_, sequence)) if sequence == term.fence => Ok(()),
            _ => Err(PublishError::Deposed { epoch: term.epoch }),
        }
    }

    /// Writes one object or tombstone. Returns its sequence.
    pub async fn publish_desired(
        &self,
        term: &Term,
        envelope: &Envelope<Desired>,
    ) -> Result<u64, PublishError> {
        let mut headers = self.fenced(term);
        let payload = json(envelope)?;
        let subject = match &envelope.payload {
            Desired::Rule(rule) => self.subjects.rule(&rule.key),
            Desired::Tombstone(tombstone) => self.subjects.rule(&tombstone.key),
            Desired::Route(route) => self.subjects.route(&route.key),
            Desired::RouteTombstone(tombstone) => self.subjects.route(&tombstone.key),
        };
        match &envelope.payload {
            Desired::Rule(_) | Desired::Route(_) => self.room_for_object(&subject, payload.len()).await?,
            Desired::Tombstone(_) | Desired::RouteTombstone(_) => {
                headers.insert(NATS_MESSAGE_TTL, TOMBSTONE_TTL);
            }
        }
        self.fenced_write(term, subject, headers, payload).await
    }

    /// Writes the checkpoint. Returns its sequence.
    pub async fn publish_checkpoint(
        &self,
        term: &Term,
        checkpoint: &Checkpoint,
    ) -> Result<u64, PublishError> {
        self.fenced_write(term, self.subjects.checkpoint(), self.fenced(term), json(checkpoint)?).await
    }

    fn fenced(&self, term: &Term) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, term.fence.to_string().as_str());
        headers.insert(EXPECTED_SUBJECT, self.subjects.epoch().as_str());
        headers
    }

    async fn fenced_write(
        &self,
        term: &Term,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<u64, PublishError> {
        self.write(subject, headers, payload).await?.ok_or(PublishError::Deposed { epoch: term.epoch })
    }

    /// `None` when the server found another sequence than the one expected.
    async fn write(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Option<u64>, BusError> {
        let ack = self
            .jetstream
            .publish_with_headers(subject, headers, payload)
            .await
            .map_err(|e| BusError::Unreachable(e.to_string()))?;
        match ack.await {
            Ok(ack) => Ok(Some(ack.sequence)),
            Err(e) if e.kind() == PublishErrorKind::WrongLastSequence => Ok(None),
            Err(e) => Err(refused(DESIRED_STREAM, &e)),
        }
    }

    async fn last_epoch(&self) -> Result<Option<(EpochRecord, u64)>, BusError> {
        let (messages, _) = self
            .read_subject(DESIRED_STREAM, &self.subjects.epoch())
            .await
            .map_err(|e| BusError::Unreachable(e.to_string()))?;
        let Some(message) = messages.last() else { return Ok(None) };
        let sequence = message
            .headers
            .as_ref()
            .and_then(|h| h.get(async_nats::header::NATS_SEQUENCE))
            .and_then(|v| v.as_str().parse().ok())
            .ok_or_else(|| BusError::Unexpected("an epoch message without a sequence".into()))?;
        let record = serde_json::from_slice(&message.payload)
            .map_err(|e| BusError::Unexpected(format!("expected an epoch record, {e}")))?;
        Ok(Some((record, sequence)))
    }
}

fn json(body: &impl Serialize) -> Result<Bytes, BusError> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|e| BusError::Unexpected(e.to_string()))
}
