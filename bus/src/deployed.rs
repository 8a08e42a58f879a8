//! What agents hear: accepted writes, republished by the server with their sequence.

use async_nats::header::{NATS_SEQUENCE, NATS_SUBJECT};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use portcullis_crds::bus::Subjects;
use portcullis_crds::bus::subject::DesiredSubject;

use crate::connect::{Bus, BusError};

/// One message of desired state, read from the stream or heard from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// What it is about.
    pub subject: DesiredSubject,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// JSON of an `Envelope<Desired>`, a `Checkpoint` or an `EpochRecord`.
    pub payload: Bytes,
}

impl Bus {
    /// Accepted writes from now on. Nobody subscribes to the subjects that are written to: a refused
    /// write is seen there too.
    pub async fn deployed(&self) -> Result<impl Stream<Item = Message> + Send + Unpin + use<>, BusError> {
        let subscription = self
            .client
            .subscribe(self.subjects.all_deployed())
            .await
            .map_err(|e| BusError::Unreachable(e.to_string()))?;
        // The read that follows must find the subscription in place, or a write between them is lost.
        self.flush().await?;
        let subjects = self.subjects.clone();
        Ok(subscription.filter_map(move |message| {
            let parsed = parse(&subjects, &message);
            if parsed.is_none() {
                tracing::warn!(subject = %message.subject, "a message that did not come through the stream was passed over");
            }
            std::future::ready(parsed)
        }))
    }
}

/// `None` for a message that did not come through the stream.
pub(crate) fn parse(subjects: &Subjects, message: &async_nats::Message) -> Option<Message> {
    let headers = message.headers.as_ref()?;
    let sequence = headers.get(NATS_SEQUENCE)?.as_str().parse().ok()?;
    let subject = subjects.parse_desired(headers.get(NATS_SUBJECT)?.as_str())?;
    Some(Message { subject, sequence, payload: message.payload.clone() })
}
