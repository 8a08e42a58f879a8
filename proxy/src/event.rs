//! Security events: an id for the person who was blocked, and a record under the same id wherever events go.

mod id;
mod log_sink;
mod queue;
mod security_event;
mod sink;

pub(crate) use id::{EVENT_ID_FIELD, EventId};
pub(crate) use log_sink::LogSink;
pub(crate) use queue::EventQueue;
pub(crate) use security_event::{Action, Event, path_for_log};
#[cfg(test)]
pub(crate) use sink::EventSink;
