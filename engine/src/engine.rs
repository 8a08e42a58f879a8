//! The engine: one pool of instances for every rule of a process.

use std::sync::Arc;

use crate::compile_error::{CompileError, invalid};
use crate::compiler::bounds::ModuleBounds;
use crate::compiler::fault::CompilerFault;
use crate::compiler::frame::Artefact;
use crate::imports;
use crate::instance_pool::{InstanceCounts, InstancePool};
use crate::instance_reuse;
use crate::module::Module;
use crate::module_check;
use crate::page_map::PageMap;
use crate::pattern_set::PatternSets;
use crate::sandbox::Sandbox;
use crate::settings::{self, PAGE};
use crate::shared::Shared;
use crate::ticker::Ticker;

/// Memories beyond this are no rule's, and pointers stay far from the sign bit.
const MEMORY_CEILING: u64 = 1 << 30;

/// How large an engine is.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Threads that call [`Module::inspect`] at the same time.
    pub workers: usize,
    /// Per-worker instances ([`WorkerInstance`](crate::WorkerInstance)), over all workers.
    pub per_worker_instances: usize,
    /// Instances that each worker has ready, as new, for the evaluations to come: of so many rules at most, the last
    /// ones that it evaluated. Without them each evaluation makes an instance, at three times the cost.
    pub idle_instances: usize,
    /// Linear memory in bytes that the largest rule may have; whatever a rule's own limit says.
    pub max_memory: u64,
    /// Bytes of the largest module.
    pub max_module_bytes: usize,
}

impl Default for EngineConfig {
    /// As many workers as processors, no per-worker instances, 128 idle ones a worker, memories up to 16 MiB (the most that a
    /// WasmRule can ask for), modules up to 16 MiB.
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            per_worker_instances: 0,
            idle_instances: 128,
            max_memory: 16 << 20,
            max_module_bytes: 16 << 20,
        }
    }
}

/// Why an engine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No worker, or more than there is address space for.
    #[error(
        "an engine has at least one worker and 16,384 instances at most: four a worker, the per-worker ones, and those that are idle; found {workers} workers and {per_worker} per-worker instances"
    )]
    Workers {
        /// Threads.
        workers: usize,
        /// Instances.
        per_worker: usize,
    },
    /// The memory ceiling is no memory size.
    #[error("the largest memory of a rule is between 64 KiB and 1 GiB, found {0} bytes")]
    MaxMemory(u64),
    /// The sandbox could not be set up on this machine.
    #[error(
        "the sandbox cannot be set up on this machine: {0}; check the limits on address space and mappings"
    )]
    Sandbox(String),
    /// The thread that keeps deadlines could not be started.
    #[error("the thread that keeps deadlines cannot be started: {0}")]
    Ticker(#[from] std::io::Error),
}

/// Compiles modules and holds what their instances share. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    max_module_bytes: usize,
}

impl Engine {
    /// Reserves the address space of the pool (4 GiB for each instance, of which there are four a worker, the
    /// per-worker ones, and those that are idle; none of it in use yet) and starts the thread that keeps deadlines.
    ///
    /// # Errors
    /// The configuration is out of range, or the machine refuses the address space.
    pub fn new(config: &EngineConfig) -> Result<Self, EngineError> {
        // Where the kernel does not tell which pages were touched, nothing is idle.
        let idle = PageMap::get().map_or(0, |_| {
            settings::idle(config.workers, config.per_worker_instances, config.idle_instances)
        });
        let slots = settings::slots(config.workers, config.per_worker_instances, idle).ok_or(
            EngineError::Workers { workers: config.workers, per_worker: config.per_worker_instances },
        )?;
        let max_memory = Some(config.max_memory)
            .filter(|bytes| (PAGE..=MEMORY_CEILING).contains(bytes))
            .map(|bytes| bytes / PAGE * PAGE)
            .ok_or(EngineError::MaxMemory(config.max_memory))?;
        let pool_memory =
            usize::try_from(max_memory).map_err(|_| EngineError::MaxMemory(config.max_memory))?;
        let wasmtime = wasmtime::Engine::new(&settings::config(slots, pool_memory))
            .map_err(|error| EngineError::Sandbox(format!("{error:#}")))?;
        let ticker = Ticker::start(wasmtime.clone())?;
        let linker =
            imports::linker(&wasmtime).map_err(|error| EngineError::Sandbox(format!("{error:#}")))?;
        let sandbox = Sandbox { wasmtime, ticker, max_memory, slots };
        let shared = Shared::new(sandbox, InstancePool::new(config.workers, idle), linker);
        Ok(Self { shared: Arc::new(shared), max_module_bytes: config.max_module_bytes })
    }

    /// Instances that there can be at once.
    pub fn slots(&self) -> usize {
        self.shared.sandbox.slots as usize
    }

    /// What became of the evaluations so far.
    pub fn instances(&self) -> InstanceCounts {
        self.shared.pool.counts()
    }

    /// Checks a module and compiles it, on the calling thread. Takes milliseconds to seconds of CPU time: not for a
    /// thread that serves requests.
    ///
    /// # Errors
    /// The module is not a rule, or is larger or stranger than a rule may be. The message is one sentence for a user.
    pub fn compile(&self, wasm: &[u8]) -> Result<Module, CompileError> {
        let info = module_check::check(wasm, self.max_module_bytes, self.shared.sandbox.max_memory)?;
        let wasm = instance_reuse::prepare(wasm, info.reuse).map_err(invalid)?;
        let compiled = wasmtime::Module::from_binary(&self.shared.sandbox.wasmtime, &wasm)
            .map_err(|error| CompileError::Compile(format!("{error:#}")))?;
        let patterns = PatternSets::new(&info.describe.pattern_sets)?;
        Module::link(Arc::clone(&self.shared), &compiled, info, patterns)
    }

    /// Bounds that decide what its modules may be.
    pub(crate) fn bounds(&self) -> ModuleBounds {
        ModuleBounds { module_bytes: self.max_module_bytes, memory_bytes: self.shared.sandbox.max_memory }
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.shared.sandbox.wasmtime
    }

    /// Takes code that another engine of the same settings compiled.
    pub(crate) fn load(&self, artefact: Artefact) -> Result<Module, CompileError> {
        let not_loaded = |error: wasmtime::Error| CompilerFault::NotLoaded(format!("{error:#}"));
        // SAFETY: the bytes are what wasmtime of this very program serialised, and nobody else could have written
        // them: they came through a pipe from a process that this one started, or from a file whose MAC was verified
        // over these bytes, or were made in this process.
        let module = unsafe { wasmtime::Module::deserialize(&self.shared.sandbox.wasmtime, &artefact.code) }
            .map_err(not_loaded)?;
        let patterns = PatternSets::from_bytes(&artefact.info.describe.pattern_sets, &artefact.automata)
            .map_err(|error| CompilerFault::NotLoaded(error.to_string()))?;
        Module::link(Arc::clone(&self.shared), &module, artefact.info, patterns)
    }
}
