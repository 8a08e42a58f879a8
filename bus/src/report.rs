//! Reports of agents.

use futures::{Stream, StreamExt};
use portcullis_crds::bus::{Report, SCHEMA};
use thiserror::Error;

use crate::connect::{Bus, BusError};

/// Largest report that is read: 200 exceptions with long messages stay far below.
const REPORT_MAX: usize = 512 * 1024;

/// A report that is passed over.
#[derive(Debug, Error)]
pub enum ReportError {
    /// Not JSON of this shape.
    #[error("expected a report on {subject}, found something else: {source}")]
    Malformed {
        /// Where it was sent.
        subject: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Too large.
    #[error("expected a report of at most {REPORT_MAX} bytes on {subject}, found {found}")]
    TooLarge {
        /// Where it was sent.
        subject: String,
        /// Bytes.
        found: usize,
    },
    /// Sent under another agent's subject, for another cluster, or in an unknown format.
    #[error("the report on {subject} is not one of this cluster's agents in schema {SCHEMA}")]
    Foreign {
        /// Where it was sent.
        subject: String,
    },
}

impl Bus {
    /// Sends a report. It is not stored: the next heartbeat repeats it.
    pub async fn report(&self, report: &Report) -> Result<(), BusError> {
        let payload = serde_json::to_vec(report).map_err(|e| BusError::Unexpected(e.to_string()))?;
        self.client
            .publish(self.subjects.report(&report.agent), payload.into())
            .await
            .map_err(|e| BusError::Unreachable(e.to_string()))
    }

    /// Reports of all agents from now on.
    pub async fn reports(
        &self,
    ) -> Result<impl Stream<Item = Result<Report, ReportError>> + Send + Unpin + use<>, BusError> {
        let subscription = self
            .client
            .subscribe(self.subjects.all_reports())
            .await
            .map_err(|e| BusError::Unreachable(e.to_string()))?;
        let bus = self.clone();
        Ok(subscription.map(move |message| bus.read_report(&message)))
    }

    fn read_report(&self, message: &async_nats::Message) -> Result<Report, ReportError> {
        let subject = message.subject.to_string();
        if message.payload.len() > REPORT_MAX {
            return Err(ReportError::TooLarge { subject, found: message.payload.len() });
        }
        let report: Report = match serde_json::from_slice(&message.payload) {
            Ok(report) => report,
            Err(source) => return Err(ReportError::Malformed { subject, source }),
        };
        // The server binds an agent to its subject, not to what it writes into the message.
        let own = self.subjects.report(&report.agent) == subject;
        if !own || report.cluster != *self.cluster || report.schema != SCHEMA {
            return Err(ReportError::Foreign { subject });
        }
        Ok(report)
    }
}
