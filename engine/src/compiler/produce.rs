//! Makes native code of a module: checks it, configures it, compiles it. What the compile child does; it runs in this
//! process just as well.

use super::bounds::ModuleBounds;
use super::compilers::{Compilers, refusal};
use super::configure::configure;
use super::frame::Artefact;
use crate::compile_error::{CompileError, invalid};
use crate::pattern_set::PatternSets;
use crate::renewal::{self, Renewal};
use crate::shape;

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
