//! What is really running, said to the bus.
//!
//! [`state`] puts it together; [`barrier`] holds it back until no request runs an older set; [`reporter`]
//! sends it on every change and as a heartbeat.

pub mod barrier;
pub mod reporter;
pub mod state;

pub use reporter::{Identity, Reporter, Submission};
pub use state::ReportState;
