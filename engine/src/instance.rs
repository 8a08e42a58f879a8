//! An instance, what it may still spend, and why it stopped.

use std::sync::Arc;

use wasmtime::{
    InstancePre, Memory, ModuleExport, PoolConcurrencyLimitError, ResourceLimiter, Store, StoreContextMut,
    Trap, TypedFunc, UpdateDeadline, WasmParams, WasmResults,
};

use crate::clock::{Clock, OutOfTime};
use crate::engine::Inner;
use crate::imports::{LogLine, Misuse};
use crate::inspect_error::{InspectError, Overload, Step};
use crate::limits::Limits;
use crate::pattern_set::PatternSets;
use crate::ticker::Pulse;

/// An instance of a module: fresh for one evaluation, or kept by a worker.
pub(crate) struct Instance {
    store: Store<Guest>,
    instance: wasmtime::Instance,
    budget: u64,
    slots: u32,
}

/// What the sandbox knows about the running guest.
pub(crate) struct Guest {
    clock: Clock,
    memory_limit: u64,
    stopped: Option<Stop>,
    pulse: Arc<Pulse>,
    /// What the imports work on; `None` until the start function is through.
    pub(crate) memory: Option<Memory>,
    pub(crate) patterns: Option<Arc<PatternSets>>,
    pub(crate) log: Vec<LogLine>,
}

/// Why the host stopped the guest.
enum Stop {
    OutOfTime(OutOfTime),
    MemoryLimit { wanted: u64 },
    HostMemory(String),
}

impl Instance {
    /// Takes a slot of the pool and runs the module's start. Copying the `data_bytes` of the module costs one fuel a
    /// byte, which no author expects: they are given on top of the budget.
    pub(crate) fn fresh(
        engine: &Inner,
        module: &InstancePre<Guest>,
        data_bytes: u64,
        patterns: Option<Arc<PatternSets>>,
        limits: &Limits,
        budget: u64,
    ) -> Result<Self, InspectError> {
        let pulse = Arc::clone(engine.ticker.pulse());
        pulse.beat();
        let mut store = Store::new(
            &engine.wasmtime,
            Guest {
                clock: Clock::new(limits.deadline),
                memory_limit: limits.memory_bytes.min(engine.max_memory),
                stopped: None,
                pulse,
                memory: None,
                patterns,
                log: Vec::new(),
            },
        );
        store.limiter(|guest| guest);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|guest| Ok(guest_interrupted(guest)));
        store
            .set_fuel(budget.saturating_add(data_bytes))
            .map_err(|error| InspectError::Host(format!("{error:#}")))?;
        match module.instantiate(&mut store) {
            Ok(instance) => {
                let mut fresh = Self { store, instance, budget, slots: engine.slots };
                fresh.check_fuel(Step::Start)?;
                Ok(fresh)
            }
            Err(error) => Err(failure(&store, Step::Start, budget, engine.slots, &error)),
        }
    }

    /// Makes an instance that was kept ready for the next evaluation.
    pub(crate) fn renew_budget(&mut self, limits: &Limits, budget: u64) -> Result<(), InspectError> {
        self.budget = budget;
        self.store.set_fuel(budget).map_err(|error| InspectError::Host(format!("{error:#}")))?;
        self.store.set_epoch_deadline(1);
        let guest = self.store.data_mut();
        guest.pulse.beat();
        guest.clock = Clock::new(limits.deadline);
        guest.stopped = None;
        Ok(())
    }

    /// Looks up an exported function.
    pub(crate) fn function<P, R>(
        &mut self,
        step: Step,
        export: &ModuleExport,
    ) -> Result<TypedFunc<P, R>, InspectError>
    where
        P: WasmParams,
        R: WasmResults,
    {
        self.instance
            .get_module_export(&mut self.store, export)
            .and_then(wasmtime::Extern::into_func)
            .ok_or_else(|| InspectError::Host(format!("the function for {step} is not exported")))?
            .typed::<P, R>(&self.store)
            .map_err(|error| InspectError::Host(format!("{error:#}")))
    }

    /// Calls a function of this instance.
    pub(crate) fn call<P, R>(
        &mut self,
        step: Step,
        function: &TypedFunc<P, R>,
        params: P,
    ) -> Result<R, InspectError>
    where
        P: WasmParams,
        R: WasmResults,
    {
        let result = function
            .call(&mut self.store, params)
            .map_err(|error| failure(&self.store, step, self.budget, self.slots, &error))?;
        self.check_fuel(step)?;
        Ok(result)
    }

    /// Looks up the memory, and lets the imports have it.
    pub(crate) fn exported_memory(&mut self, export: &ModuleExport) -> Result<Memory, InspectError> {
        let memory = self.memory(export)?;
        self.store.data_mut().memory = Some(memory);
        Ok(memory)
    }

    /// The bytes of a memory of this instance.
    pub(crate) fn bytes(&mut self, memory: Memory) -> &mut [u8] {
        memory.data_mut(&mut self.store)
    }

    /// What the rule logged.
    pub(crate) fn take_log(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.store.data_mut().log)
    }

    /// Bytes of the memory now.
    pub(crate) fn memory_size(&mut self, export: &ModuleExport) -> Result<u64, InspectError> {
        Ok(self.memory(export)?.data_size(&self.store) as u64)
    }

    /// Bytes that the memory may have.
    pub(crate) fn memory_limit(&self) -> u64 {
        self.store.data().memory_limit
    }

    /// Adds pages to the memory; `false` if the rule's limit or the module's own maximum is in the way.
    pub(crate) fn grow(&mut self, export: &ModuleExport, pages: u64) -> Result<bool, InspectError> {
        let memory = self.memory(export)?;
        match memory.grow(&mut self.store, pages) {
            Ok(_) => Ok(true),
            Err(error) => match &self.store.data().stopped {
                Some(Stop::HostMemory(_)) => {
                    Err(failure(&self.store, Step::Start, self.budget, self.slots, &error))
                }
                _ => Ok(false),
            },
        }
    }

    /// Writes into the memory.
    pub(crate) fn write(
        &mut self,
        export: &ModuleExport,
        address: u32,
        bytes: &[u8],
    ) -> Result<(), InspectError> {
        let memory = self.memory(export)?;
        let size = memory.data_size(&self.store) as u64;
        memory.write(&mut self.store, address as usize, bytes).map_err(|_| InspectError::BadBuffer {
            step: Step::Alloc,
            address,
            length: bytes.len() as u64,
            memory: size,
        })
    }

    /// Fuel spent so far, data apart.
    pub(crate) fn fuel_used(&self) -> u64 {
        self.budget.saturating_sub(self.fuel_left())
    }

    fn memory(&mut self, export: &ModuleExport) -> Result<Memory, InspectError> {
        self.instance
            .get_module_export(&mut self.store, export)
            .and_then(wasmtime::Extern::into_memory)
            .ok_or_else(|| InspectError::Host("the memory is not exported".into()))
    }

    /// Fuel is looked at only where functions begin and loops turn, so a function can return with a debt. Nothing
    /// left counts as too much.
    fn check_fuel(&mut self, step: Step) -> Result<(), InspectError> {
        if self.fuel_left() == 0 {
            return Err(InspectError::OutOfFuel { step, budget: self.budget });
        }
        Ok(())
    }

    fn fuel_left(&self) -> u64 {
        self.store.get_fuel().expect("the engine is configured to count fuel")
    }
}

/// What a failed call means. The reasons that the host gave itself come first: wasmtime reports them as traps.
fn failure(
    store: &Store<Guest>,
    step: Step,
    budget: u64,
    slots: u32,
    error: &wasmtime::Error,
) -> InspectError {
    let guest = store.data();
    match &guest.stopped {
        Some(Stop::OutOfTime(OutOfTime::Deadline(deadline))) => {
            return InspectError::DeadlineExceeded { step, deadline: *deadline };
        }
        Some(Stop::OutOfTime(OutOfTime::NoProcessor(waited))) => {
            return InspectError::Overload(Overload::NoProcessor { waited: *waited });
        }
        Some(Stop::MemoryLimit { wanted }) => {
            return InspectError::MemoryLimit { step, wanted: *wanted, limit: guest.memory_limit };
        }
        Some(Stop::HostMemory(error)) => return InspectError::Host(error.clone()),
        None => {}
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return InspectError::Overload(Overload::NoSlot { slots });
    }
    if let Some(misuse) = error.downcast_ref::<Misuse>() {
        return InspectError::Trap { step, trap: misuse.to_string() };
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => InspectError::OutOfFuel { step, budget },
        Some(trap) => {
            InspectError::Trap { step, trap: trap.to_string().trim_start_matches("wasm trap: ").into() }
        }
        None => InspectError::Host(format!("{error:#}")),
    }
}

/// Runs at every tick of the engine that finds the guest running.
fn guest_interrupted(mut store: StoreContextMut<'_, Guest>) -> UpdateDeadline {
    let guest = store.data_mut();
    guest.pulse.beat();
    match guest.clock.tick() {
        Some(reason) => {
            guest.stopped = Some(Stop::OutOfTime(reason));
            UpdateDeadline::Interrupt
        }
        None => UpdateDeadline::Continue(1),
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = desired as u64;
        if wanted > self.memory_limit {
            // A trap rather than -1: what a rule does without memory that it asked for is not its verdict.
            self.stopped = Some(Stop::MemoryLimit { wanted });
            return Err(wasmtime::format_err!("memory limit"));
        }
        // Beyond the maximum that the module itself declares: -1, as Wasm has it.
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.stopped = Some(Stop::HostMemory(format!("the machine has no memory for the rule: {error:#}")));
        Err(error)
    }

    fn table_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }
}
