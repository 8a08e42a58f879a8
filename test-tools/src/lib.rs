//! What tests of several crates share. In no binary that is shipped.
//!
//! - [`tool()`]: programs that tests run as child processes.
//! - [`http`]: a client that sends whole bytes and reads one answer, blocking or not.
//! - [`load`]: a steady load, and what came of it.
//! - [`log`]: what programs log.
//! - [`upstream`]: servers in the test's own process.

pub mod http;
pub mod load;
pub mod log;
mod tool;
pub mod upstream;

pub use tool::tool;
