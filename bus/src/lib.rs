//! The bus: what operator and node-agent do with NATS JetStream.
//!
//! `crds` says what is on the bus; this crate puts it there and reads it back. One file a concern:
//! [`connect`](crate::connect()), [`stream`], [`room`], [`read`], [`module`], [`term`], [`report`], [`recall`],
//! [`permissions`].

mod connect;
mod deployed;
pub mod module;
pub mod permissions;
pub mod read;
pub mod recall;
pub mod report;
pub mod room;
pub mod stream;
pub mod term;
#[cfg(feature = "testing")]
pub mod testing;

pub use connect::{Bus, BusError, ConnectError, ConnectOptions, Connection, connect};
pub use deployed::Message;
pub use module::{FetchError, ModuleOwner};
pub use read::{ReadError, Snapshot};
pub use recall::{RecallError, Recalls};
pub use report::ReportError;
pub use room::StreamBounds;
pub use stream::{StreamError, StreamId};
pub use term::{PublishError, Term, TermError};
