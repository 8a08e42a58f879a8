//! The access log: one JSON object a request. Off unless asked for.
//!
//! What is known of a request is gathered on its way, in bounds, and written by a thread of its own: a client is never kept
//! waiting for whoever reads the log.

mod entry;
mod line;
mod record;
mod writer;

pub(crate) use entry::{AccessLog, Entry};
pub(crate) use record::Record;
