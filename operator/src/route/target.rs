//! What an agent says of one revision of a route.

use portcullis_crds::bus::{ExceptionState, Report, RouteException, SetHash};
use portcullis_crds::condition::Reason;
use portcullis_crds::{Revision, RouteKey};

use crate::reconcile::aggregate::{State, Target};

/// A revision of a route that agents are asked about.
#[derive(Clone, Debug)]
pub(crate) struct RouteTarget<'a> {
    pub(crate) key: &'a RouteKey,
    pub(crate) revision: &'a Revision,
    /// The stream that agents should follow.
    pub(crate) stream: &'a str,
    /// Sequence at which it was published.
    pub(crate) sequence: u64,
    /// Sequence of the last object or tombstone on the stream.
    pub(crate) head: u64,
    /// Hash of the routes at that sequence.
    pub(crate) set: &'a SetHash,
}

impl Target for RouteTarget<'_> {
    fn state(&self, report: &Report) -> State {
        if report.stream != self.stream || report.sequence < self.sequence {
            return State::Progressing { updated: false };
        }
        let Some(routes) = &report.routes else {
            let message = format!(
                "expected a node-agent that serves routes, found version {}: upgrade it",
                report.version
            );
            return State::Failed { reason: Reason::Unsupported, message };
        };
        if report.sequence >= self.head && routes.desired != *self.set {
            // At the same sequence an agent must have read the same set.
            return State::Progressing { updated: false };
        }
        match routes.exceptions.iter().find(|exception| exception.key == *self.key) {
            Some(exception) if exception.wanted != *self.revision => State::Progressing { updated: false },
            Some(RouteException { state: ExceptionState::Progressing, .. }) => {
                State::Progressing { updated: true }
            }
            Some(exception) => {
                State::Failed { reason: Reason::Unsupported, message: exception.message.clone() }
            }
            // What did not fit into the report may be this route.
            None if routes.more > 0 => State::Progressing { updated: true },
            None => State::Active,
        }
    }
}
