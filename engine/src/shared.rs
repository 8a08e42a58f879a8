//! What the modules of one engine share.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::guest::Guest;
use crate::instance_pool::{InstancePool, ModuleId};
use crate::sandbox::Sandbox;

/// Lives as long as the engine, or one of its modules.
pub(crate) struct Shared {
    pub(crate) sandbox: Sandbox,
    pub(crate) pool: InstancePool,
    /// Holds the imports; made once for all modules.
    pub(crate) linker: wasmtime::Linker<Guest>,
    modules: AtomicU64,
}

impl Shared {
    pub(crate) fn new(sandbox: Sandbox, pool: InstancePool, linker: wasmtime::Linker<Guest>) -> Self {
        Self { sandbox, pool, linker, modules: AtomicU64::new(0) }
    }

    /// A number for a module that no other has.
    pub(crate) fn new_module(&self) -> ModuleId {
        self.modules.fetch_add(1, Ordering::Relaxed)
    }
}
