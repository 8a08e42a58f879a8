//! What should run here: read from the bus, kept on disk.
//!
//! [`state`] decides and knows no I/O; [`sync`] feeds it from the bus; [`last_known_good`] keeps what it
//! decided for a start with everything else down.

pub mod decision;
pub mod fence;
pub mod last_known_good;
mod objects;
pub mod state;
pub mod stream_copy;
pub mod sync;
pub mod version;

pub use decision::{Decision, Refusal, ResyncReason};
pub use state::{Desired, State};
pub use version::{ObjectVersion, Refused, RouteVersion, RuleRevision, Version, View};

#[cfg(test)]
pub(crate) mod tests;
