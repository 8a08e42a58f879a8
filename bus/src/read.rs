//! A complete read of a stream by batched direct get (NATS ADR-31).
//!
//! No consumer a node, and no `multi_last`: above 1,024 subjects the server answers 413 to that, which
//! clients read as "nothing there".

use std::time::Duration;

use async_nats::header::{NATS_LAST_SEQUENCE, NATS_SEQUENCE};
use futures::StreamExt;
use portcullis_crds::bus::DESIRED_STREAM;
use thiserror::Error;

use crate::connect::{Bus, BusError};
use crate::deployed::{self, Message};
use crate::stream::StreamId;

/// Messages asked for at once: some hundred KiB of rules.
const BATCH: u32 = 256;
/// Longest silence within a batch.
const SILENCE: Duration = Duration::from_secs(5);
/// End of batch.
const END_OF_BATCH: u16 = 204;
const NOT_FOUND: u16 = 404;

/// Why a read is not complete, and so says nothing about what is absent.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The bus could not be asked.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The server ended a batch in a way that does not mean "this is all".
    #[error("expected the batch to end with status 204, found {status} {description}")]
    Status {
        /// As in HTTP.
        status: u16,
        /// What the server said.
        description: String,
    },
    /// The stream was replaced while it was being read.
    #[error("the stream was replaced during the read")]
    Replaced,
}

/// Everything on the stream of desired state.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Which stream.
    pub stream: StreamId,
    /// One message a subject, by ascending sequence.
    pub messages: Vec<Message>,
    /// Sequence of the last message in the stream when the read ended; what is heard with a higher one is newer.
    pub last_sequence: u64,
}

impl Bus {
    /// Reads all desired state.
    pub async fn read_all(&self) -> Result<Snapshot, ReadError> {
        let stream = self.stream_id().await?;
        let (raw, last_sequence) = self.read_subject(DESIRED_STREAM, &self.subjects.all_desired()).await?;
        if self.stream_id().await? != stream {
            return Err(ReadError::Replaced);
        }
        let messages = raw.iter().filter_map(|m| deployed::parse(&self.subjects, m)).collect();
        Ok(Snapshot { stream, messages, last_sequence })
    }

    /// All messages under `subject`, by ascending sequence, and the last sequence that was looked at.
    pub(crate) async fn read_subject(
        &self,
        stream: &str,
        subject: &str,
    ) -> Result<(Vec<async_nats::Message>, u64), ReadError> {
        let mut messages = Vec::new();
        let mut last = 0;
        loop {
            let batch = self.read_batch(stream, subject, last + 1).await?;
            messages.extend(batch.messages);
            last = last.max(batch.last);
            if batch.pending == 0 {
                return Ok((messages, last));
            }
        }
    }

    async fn read_batch(&self, stream: &str, subject: &str, from: u64) -> Result<Batch, ReadError> {
        let inbox = self.client.new_inbox();
        let unreachable = |e: String| BusError::Unreachable(e);
        let mut replies =
            self.client.subscribe(inbox.clone()).await.map_err(|e| unreachable(e.to_string()))?;
        let request = serde_json::json!({"seq": from, "batch": BATCH, "next_by_subj": subject});
        self.client
            .publish_with_reply(format!("$JS.API.DIRECT.GET.{stream}"), inbox, request.to_string().into())
            .await
            .map_err(|e| unreachable(e.to_string()))?;
        let mut batch = Batch { messages: Vec::new(), pending: 0, last: from.saturating_sub(1) };
        loop {
            let reply = tokio::time::timeout(SILENCE, replies.next())
                .await
                .map_err(|_| {
                    unreachable(format!("no answer from stream {stream} for {} s", SILENCE.as_secs()))
                })?
                .ok_or_else(|| unreachable("the connection was closed".into()))?;
            match reply.status.map(|status| status.as_u16()) {
                None => {
                    batch.last = number(&reply, NATS_SEQUENCE.as_ref())?;
                    batch.messages.push(reply);
                }
                Some(END_OF_BATCH) => {
                    batch.pending = number(&reply, "Nats-Num-Pending")?;
                    if batch.messages.is_empty() && batch.pending > 0 {
                        return Err(
                            BusError::Unexpected("an empty batch with messages pending".into()).into()
                        );
                    }
                    // The last sequence of the subjects read, which is what the batch went up to.
                    if let Ok(upto) = number(&reply, NATS_LAST_SEQUENCE.as_ref()) {
                        batch.last = batch.last.max(upto);
                    }
                    return Ok(batch);
                }
                // Nothing under this subject from this sequence on.
                Some(NOT_FOUND) if batch.messages.is_empty() => return Ok(batch),
                Some(status) => {
                    return Err(ReadError::Status {
                        status,
                        description: reply.description.unwrap_or_default(),
                    });
                }
            }
        }
    }
}

struct Batch {
    messages: Vec<async_nats::Message>,
    pending: u64,
    last: u64,
}

fn number(message: &async_nats::Message, header: &str) -> Result<u64, BusError> {
    message
        .headers
        .as_ref()
        .and_then(|h| h.get(header))
        .and_then(|v| v.as_str().parse().ok())
        .ok_or_else(|| BusError::Unexpected(format!("a reply without a number in {header}")))
}
