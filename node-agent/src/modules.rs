//! From a desired rule to a module that is ready to run: had, verified, compiled, tried.

pub mod compiled;
pub mod disk;
pub mod prepare;
pub mod way_in;

pub use compiled::Configured;
pub use prepare::{Modules, PrepareError};
pub use way_in::WayIn;
