//! Makes rules of modules: compiles each in a child process of its own, configures it there, and keeps what came out.
//!
//! The child is this program again, with an empty environment, no files, no network, little CPU time and little
//! memory. That is a bound on what a module costs whoever compiles it, not a boundary of trust: what comes back is
//! native code that this process runs, so only modules whose origin was verified are given to it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use self::bounds::{CostBounds, ModuleBounds, Priority};
use self::cache::Name;
pub use self::cache::{ArtefactCache, CacheCounts, CacheError, CacheKey, CacheKeyError};
pub use self::child::compile_child_main;
use self::compilers::Compilers;
pub use self::fault::CompilerFault;
use self::frame::{Artefact, LARGEST_ANSWER, RequestHead, read_answer, write_head};
use self::process::{Conversation, Ended, signal};
use self::produce::produce;
use crate::compile_error::CompileError;
use crate::engine::Engine;
use crate::module::Module;

pub(crate) mod bounds;
mod cache;
mod child;
mod compilers;
mod configure;
mod confine;
pub(crate) mod fault;
pub(crate) mod frame;
pub(crate) mod phrase;
mod process;
mod produce;
mod segments;

/// Bytes of code for a byte of Wasm, at most; 20 is usual in the worst modules.
const ANSWER_PER_BYTE: usize = 64;

/// Bytes of an answer beside that: static data grows to at most 1 MiB while a module is configured, and sections of
/// the code are padded to pages.
const ANSWER_BASE: usize = 2 << 20;

/// Real time for a child that takes only what nobody else wants. Four times the CPU time that it may take.
const IDLE_PATIENCE: Duration = Duration::from_secs(20);

/// What a compile child is, and what it may take.
#[derive(Clone, Debug)]
pub struct CompilerConfig {
    /// The program to start: this one, or another of the same build that calls [`compile_child_main`]. Trusted as this
    /// one is: what it writes is run.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// CPU time of one module, configuring included. Rounded up to whole seconds.
    pub cpu: Duration,
    /// Bytes of address space beyond what the program itself takes.
    pub memory: u64,
    /// Real time after which a child is given up. Nothing is known about the module then: a node that is busy lets the
    /// child wait.
    pub patience: Duration,
}

impl Default for CompilerConfig {
    /// This program, 5 s of CPU time, 512 MiB, two minutes.
    fn default() -> Self {
        Self {
            // The file that runs now, even if there is a newer one in its place.
            program: "/proc/self/exe".into(),
            args: vec![child::ARGUMENT.into()],
            cpu: Duration::from_secs(5),
            memory: 512 << 20,
            patience: Duration::from_secs(120),
        }
    }
}

/// Makes rules of modules, one at a time.
#[derive(Debug)]
pub struct Compiler {
    place: Place,
    cache: Option<ArtefactCache>,
    turn: Mutex<()>,
}

/// Where modules are compiled.
#[derive(Debug)]
enum Place {
    Child(CompilerConfig),
    Here,
}

impl Compiler {
    /// A compiler that starts children, and keeps what they make if there is a cache.
    pub fn new(config: CompilerConfig, cache: Option<ArtefactCache>) -> Self {
        Self { place: Place::Child(config), cache, turn: Mutex::default() }
    }

    /// A compiler without children, bounds on CPU time and memory, or a cache: for tests of programs that are not
    /// their own compile child.
    pub fn in_process() -> Self {
        Self { place: Place::Here, cache: None, turn: Mutex::default() }
    }

    /// Makes a rule of a module, and of its `config` if there is one (JSON in UTF-8). From the cache that takes less
    /// than a millisecond for an ordinary module, otherwise up to seconds; not for a thread that serves requests. One
    /// module is compiled at a time, whoever asks.
    ///
    /// # Errors
    /// The module is not a rule, takes no such configuration, or costs too much to compile; or the host is at fault,
    /// which [`CompileError::is_host_fault`] says.
    pub fn compile(
        &self,
        engine: &Engine,
        wasm: &[u8],
        config: Option<&[u8]>,
    ) -> Result<Module, CompileError> {
        let ModuleBounds { module_bytes: limit, .. } = engine.bounds();
        if wasm.len() > limit {
            return Err(CompileError::TooLarge { size: wasm.len(), limit });
        }
        let Some(cache) = &self.cache else {
            return engine.load(self.produce(engine, wasm, config)?);
        };
        let name = Name::of(engine, wasm, config);
        if let Some(module) = cached(cache, &name, engine) {
            return Ok(module);
        }
        let artefact = self.produce(engine, wasm, config)?;
        cache.store(&name, &artefact);
        engine.load(artefact)
    }

    /// The rule, if it is in the cache: what may be asked for many modules at once.
    pub fn cached(&self, engine: &Engine, wasm: &[u8], config: Option<&[u8]>) -> Option<Module> {
        let cache = self.cache.as_ref()?;
        cached(cache, &Name::of(engine, wasm, config), engine)
    }

    /// The cache, if there is one.
    pub fn cache(&self) -> Option<&ArtefactCache> {
        self.cache.as_ref()
    }

    fn produce(&self, engine: &Engine, wasm: &[u8], config: Option<&[u8]>) -> Result<Artefact, CompileError> {
        let _one_at_a_time = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.place {
            Place::Child(child) => child.produce(engine.bounds(), wasm, config),
            Place::Here => produce(&Compilers::new(engine.bounds())?, wasm, config),
        }
    }
}

fn cached(cache: &ArtefactCache, name: &Name, engine: &Engine) -> Option<Module> {
    let loaded = engine.load(cache.load(name)?);
    if loaded.is_err() {
        cache.reject(name);
    }
    loaded.ok()
}

impl CompilerConfig {
    /// Serving comes first. On a machine without a free core that would mean never, so there is a second child, which
    /// takes a little from those who serve.
    fn produce(
        &self,
        bounds: ModuleBounds,
        wasm: &[u8],
        config: Option<&[u8]>,
    ) -> Result<Artefact, CompileError> {
        let first = self.start(Priority::Idle, IDLE_PATIENCE.min(self.patience), bounds, wasm, config);
        match first {
            Err(CompileError::Compiler(CompilerFault::Starved(_))) => {
                self.start(Priority::Low, self.patience, bounds, wasm, config)
            }
            done => done,
        }
    }

    fn start(
        &self,
        priority: Priority,
        patience: Duration,
        bounds: ModuleBounds,
        wasm: &[u8],
        config: Option<&[u8]>,
    ) -> Result<Artefact, CompileError> {
        let cost = CostBounds { cpu_seconds: whole_seconds(self.cpu), memory_bytes: self.memory };
        let head = RequestHead { bounds, cost, priority, wasm: wasm.len(), config: config.map(<[u8]>::len) };
        let mut input = Vec::with_capacity(wasm.len() + config.map_or(0, <[u8]>::len) + 512);
        write_head(&mut input, &head).map_err(|error| CompilerFault::NotStarted(error.to_string()))?;
        input.extend_from_slice(wasm);
        input.extend_from_slice(config.unwrap_or_default());
        let answer = wasm.len().saturating_mul(ANSWER_PER_BYTE).saturating_add(ANSWER_BASE);
        let ended = Conversation {
            program: &self.program,
            args: &self.args,
            input: &input,
            output_limit: answer.min(LARGEST_ANSWER),
            patience,
        }
        .run()?;
        self.judge(ended)
    }

    /// What the end of a child says.
    fn judge(&self, Ended { status, stdout, stderr: said }: Ended) -> Result<Artefact, CompileError> {
        match signal(status) {
            Some(libc::SIGXCPU) => {
                return Err(CompileError::CompileTimedOut {
                    cpu: Duration::from_secs(whole_seconds(self.cpu)),
                });
            }
            // What the standard library says before it aborts.
            Some(libc::SIGABRT) if said.contains("memory allocation of") => {
                return Err(CompileError::CompileOutOfMemory);
            }
            Some(signal) => return Err(CompilerFault::Killed { signal, said }.into()),
            None if !status.success() => {
                let what = format!("ended with {status}");
                return Err(CompilerFault::Broke { what, said }.into());
            }
            None => {}
        }
        read_answer(&stdout)
    }
}

/// The kernel counts CPU time in seconds.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
