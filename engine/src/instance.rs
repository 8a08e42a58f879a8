//! An instance, what it may still spend, and why it stopped.

use std::sync::Arc;

use wasmtime::{
    Global, InstancePre, Memory, ModuleExport, PoolConcurrencyLimitError, Store, Trap, TypedFunc, Val,
    WasmParams, WasmResults,
};

use crate::abi2::resolved::Resolved;
use crate::clock::OutOfTime;
use crate::guest::{Guest, Stop, interrupted};
use crate::imports::Misuse;
use crate::inspect_error::{InspectError, Overload, Step};
use crate::limits::Limits;
use crate::log_line::LogLine;
use crate::page_map::PageMap;
use crate::pattern_set::PatternSets;
use crate::phase::Phase;
use crate::sandbox::Sandbox;
use crate::settings::PAGE;

/// An instance of a module: for one evaluation, for one after another with all undone between them, or kept by a
/// worker as it is.
pub(crate) struct Instance {
    store: Store<Guest>,
    instance: wasmtime::Instance,
    budget: u64,
    slots: u32,
    /// What its start function took.
    start_fuel: u64,
    /// Functions that were looked up.
    pub(crate) phases: [Option<Resolved>; Phase::ALL.len()],
    memory: Memory,
    /// Pages that the host added behind what the module has.
    appended: u64,
    /// Its mutable globals, if it is to be restored.
    pub(crate) globals: Option<Vec<Global>>,
}

/// What the host itself asks every module for.
pub(crate) struct Entry {
    pub(crate) memory: ModuleExport,
    /// The start function. The host calls it, so that there is an instance to clear whatever becomes of it.
    pub(crate) start: Option<ModuleExport>,
}

impl Instance {
    /// Takes a slot of the pool and runs the module's start. Copying the `data_bytes` of the module costs one fuel a
    /// byte, which no author expects: they are given on top of the budget.
    pub(crate) fn fresh(
        sandbox: &Sandbox,
        module: &InstancePre<Guest>,
        entry: &Entry,
        data_bytes: u64,
        patterns: Option<Arc<PatternSets>>,
        limits: &Limits,
        budget: u64,
    ) -> Result<Box<Self>, InspectError> {
        let pulse = Arc::clone(sandbox.ticker.pulse());
        let guest = Guest::new(pulse, patterns, sandbox.memory_limit(limits), limits.deadline);
        let mut store = Store::new(&sandbox.wasmtime, guest);
        store.limiter(|guest| guest);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|guest| Ok(interrupted(guest)));
        let given = budget.saturating_add(data_bytes);
        store.set_fuel(given).map_err(|error| InspectError::Host(format!("{error:#}")))?;
        match module.instantiate(&mut store) {
            Ok(instance) => {
                let memory = instance
                    .get_module_export(&mut store, &entry.memory)
                    .and_then(wasmtime::Extern::into_memory)
                    .ok_or_else(|| InspectError::Host("the memory is not exported".into()))?;
                let mut fresh = Box::new(Self {
                    store,
                    instance,
                    budget,
                    slots: sandbox.slots,
                    start_fuel: 0,
                    phases: Default::default(),
                    memory,
                    appended: 0,
                    globals: None,
                });
                fresh.check_fuel(Step::Start)?;
                if let Some(start) = &entry.start {
                    let start = fresh.function::<(), ()>(Step::Start, start)?;
                    fresh.call(Step::Start, &start, ())?;
                }
                // From here on the imports may have it.
                fresh.store.data_mut().memory = Some(memory);
                fresh.start_fuel = given.saturating_sub(fresh.fuel_left()).saturating_sub(data_bytes);
                Ok(fresh)
            }
            Err(error) => Err(failure(&store, Step::Start, budget, sandbox.slots, &error)),
        }
    }

    /// Whether the memory that an instance has is within a limit, and its start within a budget.
    pub(crate) fn is_within(&self, memory_limit: u64, budget: u64) -> bool {
        self.memory_size() <= memory_limit && self.start_fuel < budget
    }

    /// Makes an instance that is not new ready for the next evaluation, which has spent `spent` of its budget.
    pub(crate) fn renew_budget(
        &mut self,
        memory_limit: u64,
        limits: &Limits,
        budget: u64,
        spent: u64,
    ) -> Result<(), InspectError> {
        self.budget = budget;
        self.store
            .set_fuel(budget.saturating_sub(spent))
            .map_err(|error| InspectError::Host(format!("{error:#}")))?;
        self.store.set_epoch_deadline(1);
        self.store.data_mut().begin_again(memory_limit, limits.deadline);
        Ok(())
    }

    /// What the start function took.
    pub(crate) fn start_fuel(&self) -> u64 {
        self.start_fuel
    }

    /// Pages that the host added behind what the module has.
    pub(crate) fn appended(&self) -> u64 {
        self.appended
    }

    /// Looks up globals.
    pub(crate) fn look_up(&mut self, globals: &[ModuleExport]) -> Option<Vec<Global>> {
        globals
            .iter()
            .map(|global| self.instance.get_module_export(&mut self.store, global)?.into_global())
            .collect()
    }

    pub(crate) fn get(&mut self, global: Global) -> Val {
        global.get(&mut self.store)
    }

    pub(crate) fn set(&mut self, global: Global, value: Val) -> wasmtime::Result<()> {
        global.set(&mut self.store, value)
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

    /// The bytes of its memory.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        self.memory.data_mut(&mut self.store)
    }

    /// Where the host writes what a function of the module said it may.
    pub(crate) fn buffer(
        &mut self,
        step: Step,
        address: u32,
        length: usize,
    ) -> Result<&mut [u8], InspectError> {
        let memory = self.bytes();
        let (start, size) = (address as usize, memory.len() as u64);
        let outside = InspectError::BadBuffer { step, address, length: length as u64, memory: size };
        start.checked_add(length).and_then(|end| memory.get_mut(start..end)).ok_or(outside)
    }

    /// What the rule logged.
    pub(crate) fn take_log(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.store.data_mut().log)
    }

    /// Bytes of the memory now.
    pub(crate) fn memory_size(&self) -> u64 {
        self.memory.data_size(&self.store) as u64
    }

    /// Bytes that the memory may have.
    pub(crate) fn memory_limit(&self) -> u64 {
        self.store.data().memory_limit
    }

    /// Adds pages behind the memory, or takes those that were added for an evaluation before, and says where they
    /// begin; `None` if the rule's limit or the module's own maximum is in the way.
    pub(crate) fn append(&mut self, pages: u64) -> Result<Option<u64>, InspectError> {
        let end = self.memory_size();
        if self.appended > 0 {
            return Ok((self.appended == pages).then(|| end - pages * PAGE));
        }
        match self.memory.grow(&mut self.store, pages) {
            Ok(_) => {
                self.appended = pages;
                Ok(Some(end))
            }
            Err(error) => match &self.store.data().stopped {
                Some(Stop::HostMemory(_)) => {
                    Err(failure(&self.store, Step::Start, self.budget, self.slots, &error))
                }
                _ => Ok(None),
            },
        }
    }

    /// Fuel spent so far, data apart.
    pub(crate) fn fuel_used(&self) -> u64 {
        self.budget.saturating_sub(self.fuel_left())
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

impl Drop for Instance {
    /// The next instance in the same slot may be any rule's. The pool clears the pages that are present, and takes one
    /// that is swapped out, or on its way to another place, for one that was never touched.
    fn drop(&mut self) {
        if let Some(page_map) = PageMap::get() {
            // SAFETY: a memory of the pool is anonymous, and whole pages of Wasm are whole pages of the machine.
            unsafe { page_map.clear(self.bytes()) };
        }
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
