//! From a desired rule to a module that is ready to run: had, verified, compiled, tried.

pub mod compiled;
pub mod disk;
pub mod prepare;
pub mod prepare_error;
pub mod way_in;

pub use compiled::Configured;
pub use prepare::Modules;
pub use prepare_error::PrepareError;
pub use way_in::WayIn;
