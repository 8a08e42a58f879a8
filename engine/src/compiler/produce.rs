//! Makes native code of a module: checks it, configures it, compiles it. What the compile child does; it runs in this
//! process just as well.

use super::bounds::ModuleBounds;
use super::compilers::{Compilers, refusal};
use super::configure::configure;
use super::frame::Artefact;
use crate::compile_error::{CompileError, invalid};
use crate::instance_reuse::{self, InstanceReuse};
use crate::module_check;
use crate::pattern_set::PatternSets;

/// Compiles a module, as it is or as its configuration makes it.
pub(crate) fn produce(
    compilers: &Compilers,
    wasm: &[u8],
    config: Option<&[u8]>,
) -> Result<Artefact, CompileError> {
    let ModuleBounds { module_bytes, memory_bytes } = compilers.bounds;
    let info = module_check::check(wasm, module_bytes, memory_bytes)?;
    let (info, code) = match config {
        None => {
            let code = compile(&compilers.for_the_pool, wasm, info.reuse)?;
            (info, code)
        }
        Some(config) => {
            let size = info.size;
            let frozen = configure(compilers, wasm, &info, config)?;
            // What the configuration made of it is a module like any other.
            let info = module_check::check(&frozen, usize::MAX, memory_bytes)?;
            let code = compile(&compilers.for_the_pool, &frozen, info.reuse)?;
            (module_check::ModuleInfo { size, ..info }, code)
        }
    };
    let automata = PatternSets::new(&info.describe.pattern_sets)?.to_bytes();
    Ok(Artefact { info, code, automata })
}

fn compile(engine: &wasmtime::Engine, wasm: &[u8], reuse: InstanceReuse) -> Result<Vec<u8>, CompileError> {
    let wasm = instance_reuse::prepare(wasm, reuse).map_err(invalid)?;
    engine.precompile_module(&wasm).map_err(|error| refusal(&error))
}
