//! Stand-alone mode: the data plane with rules from a folder. No cluster, NATS or registry.
//!
//! [`manifest`] reads WasmRule YAML, [`folder`] follows a folder of it, [`serve`] runs the proxy on it, and [`explain`] says what
//! would become of a request.

mod explain;
pub mod folder;
pub mod manifest;
mod serve;
mod start;

pub use explain::explain;
pub use serve::{ServeConfig, ServeError, Started, serve};
pub use start::StartError;
