//! From the desired set to the active one: modules are made ready, then one pointer is swapped.
//!
//! [`slots`] decides and knows neither clock nor sandbox, with [`held`] for each revision; [`enforcer`] runs on the control thread and does
//! what they say; [`local`] holds rules that a person loaded on this node by a
//! [`command`].

pub mod command;
pub mod enforcer;
pub mod held;
pub mod local;
pub mod readiness;
pub mod slots;

pub use command::{Command, ModuleInfo};
pub use enforcer::Enforcer;
pub use readiness::Readiness;
pub use slots::Slots;
