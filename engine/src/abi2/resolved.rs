//! The functions of one phase, looked up in an instance.

use wasmtime::TypedFunc;

/// What one phase needs of an instance.
pub(crate) struct Resolved {
    pub(super) buffer: TypedFunc<i32, i32>,
    pub(super) run: TypedFunc<(i32, i32), i32>,
}
