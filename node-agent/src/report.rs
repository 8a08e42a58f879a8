//! What is really running, said to the bus.
//!
//! [`state`] puts it together; [`settling`] holds it back until no request runs an older set; [`reporter`]
//! sends it on every change and as a heartbeat.

pub mod reporter;
pub mod settling;
pub mod state;

pub use reporter::{Identity, Reporter, Submission};
pub use state::ReportState;
