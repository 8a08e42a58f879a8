//! What instances are made with: wasmtime with its pool, the thread that keeps deadlines, and the bounds of the pool.

use crate::limits::Limits;
use crate::ticker::Ticker;

/// Made once for an engine.
pub(crate) struct Sandbox {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) ticker: Ticker,
    pub(crate) max_memory: u64,
    pub(crate) slots: u32,
}

impl Sandbox {
    /// Bytes of memory that an instance may have.
    pub(crate) fn memory_limit(&self, limits: &Limits) -> u64 {
        limits.memory_bytes.min(self.max_memory)
    }
}
