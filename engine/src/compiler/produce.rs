//! Makes native code of a module: checks it, configures it, compiles it. What the compile child does; it runs in this
//! process just as well.

use wasmtime::OptLevel;

use super::bounds::ModuleBounds;
use super::configure::configure;
use super::frame::Artefact;
use crate::compile_error::{CompileError, invalid};
use crate::pattern_set::PatternSets;
use crate::renewal::{self, Renewal};
use crate::settings;
use crate::shape;

/// Compiles for others, and for itself.
pub(crate) struct Compilers {
    pub(crate) bounds: ModuleBounds,
    /// Makes code for the pool of the process that serves; runs none.
    for_the_pool: wasmtime::Engine,
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

/// Compiles a module, as it is or as its configuration makes it.
pub(crate) fn produce(
    compilers: &Compilers,
    wasm: &[u8],
    config: Option<&[u8]>,
) -> Result<Artefact, CompileError> {
    let ModuleBounds { module_bytes, memory_bytes } = compilers.bounds;
    let info = shape::check(wasm, module_bytes, memory_bytes)?;
    let (info, code) = match config {
        None => {
            let code = compile(&compilers.for_the_pool, wasm, info.renewal)?;
            (info, code)
        }
        Some(config) => {
            let size = info.size;
            let frozen = configure(compilers, wasm, &info, config)?;
            // What the configuration made of it is a module like any other.
            let info = shape::check(&frozen, usize::MAX, memory_bytes)?;
            let code = compile(&compilers.for_the_pool, &frozen, info.renewal)?;
            (shape::ModuleInfo { size, ..info }, code)
        }
    };
    let automata = PatternSets::new(&info.describe.pattern_sets)?.to_bytes();
    Ok(Artefact { info, code, automata })
}

fn compile(engine: &wasmtime::Engine, wasm: &[u8], renewal: Renewal) -> Result<Vec<u8>, CompileError> {
    let wasm = renewal::prepare(wasm, renewal).map_err(invalid)?;
    engine.precompile_module(&wasm).map_err(|error| refusal(&error))
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
