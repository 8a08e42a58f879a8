//! The two compilers of a compile child, and what it means when one of them fails.

use wasmtime::OptLevel;

use super::bounds::ModuleBounds;
use crate::compile_error::CompileError;
use crate::settings;

/// Compiles for others, and for itself.
pub(crate) struct Compilers {
    pub(crate) bounds: ModuleBounds,
    /// Makes code for the pool of the process that serves; runs none.
    pub(crate) for_the_pool: wasmtime::Engine,
    /// Runs a module once, to configure it. Compiles fast, and takes no more address space than a rule may have memory.
    pub(crate) for_configuring: wasmtime::Engine,
}

impl Compilers {
    pub(crate) fn new(bounds: ModuleBounds) -> Result<Self, CompileError> {
        let failed = |error: wasmtime::Error| CompileError::Compile(format!("{error:#}"));
        let mut configuring = settings::code();
        configuring
            .cranelift_opt_level(OptLevel::None)
            .memory_reservation(bounds.memory_bytes)
            .memory_reservation_for_growth(0)
            .memory_guard_size(0)
            .guard_before_linear_memory(false);
        Ok(Self {
            bounds,
            for_the_pool: wasmtime::Engine::new(&settings::code()).map_err(failed)?,
            for_configuring: wasmtime::Engine::new(&configuring).map_err(failed)?,
        })
    }
}

/// Why wasmtime did not do it: too little memory, or something in the module.
pub(crate) fn refusal(error: &wasmtime::Error) -> CompileError {
    let no_memory = error.chain().any(|cause| {
        cause.is::<wasmtime::error::OutOfMemory>()
            || cause.downcast_ref::<rustix::io::Errno>() == Some(&rustix::io::Errno::NOMEM)
            || cause
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == std::io::ErrorKind::OutOfMemory)
    });
    if no_memory { CompileError::CompileOutOfMemory } else { CompileError::Compile(format!("{error:#}")) }
}
