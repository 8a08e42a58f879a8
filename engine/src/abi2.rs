//! Module ABI, version 2: the request as a flat view, the verdict as an integer, more behind a pointer.

mod call;
mod extent;
pub(crate) mod resolved;
#[rustfmt::skip]
pub(crate) mod table;

pub(crate) use call::Exports;
