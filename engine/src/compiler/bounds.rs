//! What bounds a module, as both sides of the compile child have to know it.

use serde::{Deserialize, Serialize};

/// Bounds of an engine that decide what its modules may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ModuleBounds {
    /// Bytes of the largest module.
    pub(crate) module_bytes: usize,
    /// Bytes of the largest linear memory; whole pages.
    pub(crate) memory_bytes: u64,
}

/// What one compilation may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CostBounds {
    /// Seconds of CPU time, rounded up to whole ones by the kernel's interface.
    pub(crate) cpu_seconds: u64,
    /// Bytes of address space beyond what the process starts with.
    pub(crate) memory_bytes: u64,
}

/// How far a compile child steps back for those who serve requests. A process that stepped back cannot step forward
/// again without privileges, so this is said when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Priority {
    /// Takes what nobody else wants, and is preempted at once.
    Idle,
    /// Gets a tenth of a core that others keep busy (nice 10).
    Low,
}
