//! What the one who publishes routes tells those who speak of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use portcullis_bus::StreamId;
use portcullis_crds::RouteKey;
use portcullis_crds::condition::Reason;
use tokio::sync::{Notify, watch};

use super::plan::Planned;

/// See the module.
pub(crate) struct RouteState {
    /// Since the first look at all routes.
    pub(crate) plan: watch::Sender<Option<Arc<Plan>>>,
    /// Agents said something.
    pub(crate) reported: Notify,
    complete_on: Mutex<Option<StreamId>>,
}

/// What was decided about all routes, and what became of it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) routes: BTreeMap<RouteKey, Planned>,
    /// Of routes that could not be put on the bus, why.
    pub(crate) failures: BTreeMap<RouteKey, (Reason, String)>,
}

impl RouteState {
    pub(crate) fn new() -> Self {
        Self { plan: watch::Sender::new(None), reported: Notify::new(), complete_on: Mutex::default() }
    }

    /// The stream that has every route; `None` if none is known to.
    pub(crate) fn complete_on(&self) -> Option<StreamId> {
        self.complete_on.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_complete_on(&self, stream: Option<StreamId>) {
        *self.complete_on.lock().unwrap_or_else(PoisonError::into_inner) = stream;
    }
}
