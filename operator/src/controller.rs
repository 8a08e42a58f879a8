//! One file a kind: what its watch tells, and how one object of it is reconciled.

pub(crate) mod waf_route;
pub(crate) mod wasm_rule;
