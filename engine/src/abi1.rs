//! Module ABI, version 1: the request as JSON, the verdict as an integer.

mod call;
mod json;

pub(crate) use call::Exports;
pub use json::{RequestView, encode};
