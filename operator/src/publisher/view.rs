//! What everybody may look at of the task that writes.

use portcullis_bus::Bus;

use super::error::WriteError;
use crate::lease::Validity;
use crate::published_state::PublishedState;

/// See the module.
#[derive(Default)]
pub(super) struct View {
    /// The connection, once there is one.
    pub(super) bus: Option<Bus>,
    /// What is on the bus; `None` before the first take-over.
    pub(super) state: Option<PublishedState>,
    /// False while the state must be read again: a write may or may not have happened, or the stream was replaced.
    pub(super) is_current: bool,
    /// Another operator leads.
    pub(super) is_deposed: bool,
}

// === impl View ===

impl View {
    /// What is on the bus; `None` while that is not known.
    pub(super) fn known(&self) -> Option<&PublishedState> {
        self.state.as_ref().filter(|_| self.is_current)
    }

    /// The bus, if it can be written to.
    pub(super) fn open(&self, validity: &Validity) -> Result<Bus, WriteError> {
        if !validity.holds() {
            return Err(WriteError::LeaseOver);
        }
        let unavailable = |why: &str| WriteError::Unavailable(why.to_owned());
        let (Some(bus), Some(_)) = (&self.bus, &self.state) else {
            return Err(unavailable("not taken over yet"));
        };
        if !bus.connected().borrow().up {
            return Err(unavailable("not connected"));
        }
        if !self.is_current {
            return Err(unavailable("what is on it is being read"));
        }
        Ok(bus.clone())
    }
}
