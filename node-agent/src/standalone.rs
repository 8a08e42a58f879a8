//! Stand-alone mode: the data plane with rules from a folder. No cluster, NATS or registry.
//!
//! [`manifest`] reads WasmRule YAML, [`folder`] follows a folder of it, [`serve`] runs the proxy on it.

pub mod folder;
pub mod manifest;
mod serve;

pub use serve::{ServeConfig, ServeError, Started, serve};
