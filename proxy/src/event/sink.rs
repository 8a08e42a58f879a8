//! Where events go.

use super::security_event::Event;

/// Takes events, one after the other, on a thread that serves no request. It may block, but not for ever.
pub(crate) trait EventSink: Send {
    /// Takes an event, and how many of its kind were left out before it.
    fn write(&mut self, event: &Event, suppressed: u64);
}
