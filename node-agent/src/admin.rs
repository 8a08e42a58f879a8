//! The admin API, as the SecBeat documentation has it: load a module on this node, replace one, list them.
//!
//! [`access`] says who may, [`upload`] reads a form, [`api`] answers.

pub mod access;
pub mod api;
pub mod upload;

pub use access::Access;
pub use api::Admin;
