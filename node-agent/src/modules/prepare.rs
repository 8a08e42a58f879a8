//! Has a module, verifies it, compiles it and tries it on a harmless request.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use portcullis_bus::Bus;
use portcullis_crds::CanonicalConfig;
use portcullis_crds::bus::{DesiredLimits, FEATURES, ModuleRef, RevisionSpec, missing_features};
use portcullis_crds::revision::ModuleDigest;
use portcullis_engine::{Cause, Compiler, Engine, Limits, Module};
use tokio::sync::{Semaphore, watch};

use super::compiled::{Compiled, Configured};
use super::disk::ModuleDisk;
use super::prepare_error::PrepareError;
use crate::control_metrics::ControlMetrics;

/// Rules whose modules are made ready at a time; as many modules are in memory at most.
const PLACES: usize = 8;

/// What a compiler does with a module and its configuration.
type Work<T> = fn(&Compiler, &Engine, &[u8], Option<&[u8]>) -> T;

/// Makes modules ready. One for the process.
pub struct Modules {
    engine: Engine,
    compiler: Arc<Compiler>,
    disk: Option<ModuleDisk>,
    bus: watch::Receiver<Option<Bus>>,
    /// Modules from a folder rather than from the bus.
    given: Mutex<HashMap<ModuleDigest, Bytes>>,
    compiled: Mutex<Compiled<Module>>,
    /// Rules that are worked on at a time. Those that wait find a module that others share already compiled.
    places: Semaphore,
    /// One compilation at a time: the proxy's threads need the cores. What is compiled already is loaded beside it.
    compiling: tokio::sync::Mutex<()>,
    /// One trial at a time: the proxy's threads need the sandbox's slots.
    trying: tokio::sync::Mutex<()>,
    metrics: ControlMetrics,
}

impl Modules {
    /// With a folder to keep modules in, or without one (stand-alone).
    pub fn new(
        engine: Engine,
        compiler: Compiler,
        state_dir: Option<&Path>,
        bus: watch::Receiver<Option<Bus>>,
        metrics: ControlMetrics,
    ) -> io::Result<Self> {
        Ok(Self {
            engine,
            compiler: Arc::new(compiler),
            disk: state_dir.map(ModuleDisk::open).transpose()?,
            bus,
            given: Mutex::default(),
            compiled: Mutex::default(),
            places: Semaphore::new(PLACES),
            compiling: tokio::sync::Mutex::new(()),
            trying: tokio::sync::Mutex::new(()),
            metrics,
        })
    }

    /// These modules come from a folder, instead of those that were given before.
    pub fn give(&self, modules: impl IntoIterator<Item = Bytes>) {
        *lock(&self.given) = modules.into_iter().map(|bytes| (ModuleDigest::of(&bytes), bytes)).collect();
    }

    /// Makes the module of a revision ready to run under the revision's limits.
    pub async fn prepare(&self, spec: &RevisionSpec) -> Result<Module, PrepareError> {
        let _few_at_a_time =
            self.places.acquire().await.map_err(|closed| PrepareError::Host(closed.to_string()))?;
        let known = lock(&self.compiled).get(&Configured::of(spec));
        if let Some(module) = known {
            self.keep_on_disk(&spec.module).await;
            return self.try_out(spec, module).await;
        }
        let bytes = self.bytes(&spec.module).await?;
        self.prepare_bytes(spec, bytes).await
    }

    /// The same for a module that is at hand; `bytes` have the digest that it names.
    pub async fn prepare_bytes(&self, spec: &RevisionSpec, bytes: Bytes) -> Result<Module, PrepareError> {
        let missing = missing_features(&spec.requires(), FEATURES);
        if !missing.is_empty() {
            return Err(PrepareError::Unsupported(missing));
        }
        let module = self.compile(Configured::of(spec), bytes).await?;
        self.try_out(spec, module).await
    }

    async fn try_out(&self, spec: &RevisionSpec, module: Module) -> Result<Module, PrepareError> {
        let _one_at_a_time = self.trying.lock().await;
        let (limits, trial) = (limits(&spec.limits), module.clone());
        module.check_limits(&limits, spec.limits.body_bytes)?;
        match blocking(move || trial.probe(&limits)).await? {
            Ok(()) => Ok(module),
            Err(error) => match error.cause() {
                Cause::Error | Cause::Budget => Err(PrepareError::Probe(error)),
                // Says nothing about the rule.
                _ => Err(PrepareError::Host(error.to_string())),
            },
        }
    }

    /// A module that is still compiled may be one whose bytes are gone, or that came by the admin API: a restart
    /// without the bus would lack it.
    async fn keep_on_disk(&self, module: &ModuleRef) {
        if self.disk.as_ref().is_none_or(|disk| disk.has(&module.digest)) {
            return;
        }
        if let Err(error) = self.bytes(module).await {
            tracing::error!(%error, module = %module.digest, "cannot keep the module on disk; a restart without the bus would lack it");
        }
    }

    /// Digests of the modules that are compiled: what is in memory stays on disk.
    pub fn compiled(&self) -> BTreeSet<ModuleDigest> {
        lock(&self.compiled).digests().cloned().collect()
    }

    /// Drops compiled modules that no rule uses; called on the control thread.
    pub fn retain(&self, used: &BTreeSet<Configured>) {
        lock(&self.compiled).retain(used);
    }

    /// The folder of modules, if there is one.
    pub fn disk(&self) -> Option<&ModuleDisk> {
        self.disk.as_ref()
    }

    /// A module that is on disk, verified.
    pub async fn stored(&self, digest: &ModuleDigest) -> Option<Bytes> {
        read_verified(self.disk.clone()?, digest).await.unwrap_or_else(|error| {
            tracing::warn!(%error, module = %digest, "cannot read the module from disk");
            None
        })
    }

    async fn compile(&self, wanted: Configured, bytes: Bytes) -> Result<Module, PrepareError> {
        if let Some(module) = lock(&self.compiled).get(&wanted) {
            return Ok(module);
        }
        if let Some(module) = self.sandbox(&wanted, &bytes, Compiler::cached).await? {
            lock(&self.compiled).insert(wanted, module.clone());
            return Ok(module);
        }
        let _one_at_a_time = self.compiling.lock().await;
        // Another rule's, while this one waited.
        if let Some(module) = lock(&self.compiled).get(&wanted) {
            return Ok(module);
        }
        let start = Instant::now();
        let compiled = self.sandbox(&wanted, &bytes, Compiler::compile).await?;
        self.metrics.compile_seconds.observe(start.elapsed().as_secs_f64());
        let module = compiled?;
        lock(&self.compiled).insert(wanted, module.clone());
        Ok(module)
    }

    /// Has the compiler do something with a module and its configuration, on a thread that may take its time.
    async fn sandbox<T: Send + 'static>(
        &self,
        wanted: &Configured,
        wasm: &Bytes,
        work: Work<T>,
    ) -> Result<T, PrepareError> {
        let (compiler, engine) = (self.compiler.clone(), self.engine.clone());
        let (wasm, config) = (wasm.clone(), wanted.config.clone());
        let done = blocking(move || {
            let config = config.as_ref().map(CanonicalConfig::as_bytes);
            work(&compiler, &engine, &wasm, config)
        })
        .await;
        if let Some(cache) = self.compiler.cache() {
            self.metrics.show_artefacts(cache.counts());
        }
        done
    }

    /// Bytes with the wanted digest, from the nearest place.
    async fn bytes(&self, wanted: &ModuleRef) -> Result<Bytes, PrepareError> {
        if let Some(bytes) = lock(&self.given).get(&wanted.digest) {
            return Ok(bytes.clone());
        }
        let Some(disk) = self.disk.clone() else {
            return Err(PrepareError::NoBus(wanted.digest.clone()));
        };
        if let Some(bytes) = read_verified(disk.clone(), &wanted.digest).await? {
            return Ok(bytes);
        }
        let bus = self.bus.borrow().clone().ok_or_else(|| PrepareError::NoBus(wanted.digest.clone()))?;
        let bytes = bus.fetch_module(wanted).await?;
        let (digest, copy) = (wanted.digest.clone(), bytes.clone());
        if let Err(error) = blocking(move || disk.write(&digest, &copy)).await? {
            tracing::error!(%error, module = %wanted.digest, "cannot keep the module on disk; a restart without the bus would lack it");
        }
        Ok(bytes)
    }
}

/// The engine's form of a rule's limits.
pub fn limits(limits: &DesiredLimits) -> Limits {
    Limits {
        fuel: limits.fuel,
        fuel_per_byte: limits.fuel_per_byte,
        memory_bytes: limits.memory_bytes,
        deadline: Duration::from_micros(limits.deadline_micros),
    }
}

/// A module that is on disk, verified. A disk that cannot be read is as good as one without it, but is said.
async fn read_verified(disk: ModuleDisk, digest: &ModuleDigest) -> Result<Option<Bytes>, PrepareError> {
    let wanted = digest.clone();
    let read = blocking(move || disk.read(&wanted)).await?;
    Ok(read.unwrap_or_else(|error| {
        tracing::warn!(%error, module = %digest, "cannot read the module from disk");
        None
    }))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, PrepareError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| PrepareError::Host(e.to_string()))
}

/// What is guarded is whole after every step, so a panic elsewhere leaves nothing to repair.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
