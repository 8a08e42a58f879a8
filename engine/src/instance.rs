//! One evaluation: a fresh instance, what it may still spend, and why it stopped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{
    InstancePre, Memory, ModuleExport, PoolConcurrencyLimitError, ResourceLimiter, Store, StoreContextMut, Trap,
    UpdateDeadline, WasmParams, WasmResults,
};

use crate::engine::Inner;
use crate::inspect_error::{InspectError, Overload, Step};
use crate::limits::Limits;
use crate::ticker::Pulse;

/// An evaluation that has not had its CPU time after this long is given up. Long enough for a container that is
/// throttled through a whole scheduling period of 100 ms.
const PATIENCE: Duration = Duration::from_millis(500);

/// A fresh instance of a module. It serves one evaluation and is gone.
pub(crate) struct Instance {
    store: Store<Guest>,
    instance: wasmtime::Instance,
    budget: u64,
    slots: u32,
}

/// What the sandbox knows about the running guest.
pub(crate) struct Guest {
    started: Instant,
    cpu_at_start: Duration,
    deadline: Duration,
    fuel_at_start: u64,
    memory_limit: u64,
    stopped: Option<Stop>,
    pulse: Arc<Pulse>,
}

/// Why the host stopped the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stop {
    Deadline,
    NoProcessor(Duration),
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
        limits: &Limits,
        budget: u64,
    ) -> Result<Self, InspectError> {
        let pulse = Arc::clone(engine.ticker.pulse());
        pulse.beat();
        let mut store = Store::new(
            &engine.wasmtime,
            Guest {
                started: Instant::now(),
                cpu_at_start: thread_cpu_time(),
                deadline: limits.deadline,
                fuel_at_start: budget.saturating_add(data_bytes),
                memory_limit: limits.memory_bytes.min(engine.max_memory),
                stopped: None,
                pulse,
            },
        );
        store.limiter(|guest| guest);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|guest| Ok(guest_interrupted(guest)));
        store.set_fuel(budget.saturating_add(data_bytes)).map_err(|error| InspectError::Host(format!("{error:#}")))?;
        match module.instantiate(&mut store) {
            Ok(instance) => {
                let mut fresh = Self { store, instance, budget, slots: engine.slots };
                fresh.check_fuel(Step::Start)?;
                Ok(fresh)
            }
            Err(error) => Err(failure(&store, Step::Start, budget, engine.slots, &error)),
        }
    }

    /// Calls an exported function.
    pub(crate) fn call<P, R>(&mut self, step: Step, export: &ModuleExport, params: P) -> Result<R, InspectError>
    where
        P: WasmParams,
        R: WasmResults,
    {
        let function = self
            .instance
            .get_module_export(&mut self.store, export)
            .and_then(wasmtime::Extern::into_func)
            .ok_or_else(|| InspectError::Host(format!("the function for {step} is not exported")))?
            .typed::<P, R>(&self.store)
            .map_err(|error| InspectError::Host(format!("{error:#}")))?;
        let result = function
            .call(&mut self.store, params)
            .map_err(|error| failure(&self.store, step, self.budget, self.slots, &error))?;
        self.check_fuel(step)?;
        Ok(result)
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
                Some(Stop::HostMemory(_)) => Err(failure(&self.store, Step::Start, self.budget, self.slots, &error)),
                _ => Ok(false),
            },
        }
    }

    /// Writes into the memory.
    pub(crate) fn write(&mut self, export: &ModuleExport, address: u32, bytes: &[u8]) -> Result<(), InspectError> {
        let memory = self.memory(export)?;
        let size = memory.data_size(&self.store) as u64;
        memory.write(&mut self.store, address as usize, bytes).map_err(|_| InspectError::BadBuffer {
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
fn failure(store: &Store<Guest>, step: Step, budget: u64, slots: u32, error: &wasmtime::Error) -> InspectError {
    let guest = store.data();
    match &guest.stopped {
        Some(Stop::Deadline) => return InspectError::DeadlineExceeded { step, deadline: guest.deadline },
        Some(Stop::NoProcessor(waited)) => {
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
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => InspectError::OutOfFuel { step, budget },
        Some(trap) => InspectError::Trap { step, trap: trap.to_string() },
        None => InspectError::Host(format!("{error:#}")),
    }
}

/// Runs at every tick of the engine that finds the guest running.
fn guest_interrupted(mut store: StoreContextMut<'_, Guest>) -> UpdateDeadline {
    let fuel_left = store.get_fuel().expect("the engine is configured to count fuel");
    let guest = store.data_mut();
    guest.pulse.beat();
    let cpu = thread_cpu_time().saturating_sub(guest.cpu_at_start);
    let own = cpu.min(longest_for(guest.fuel_at_start.saturating_sub(fuel_left)));
    match out_of_time(own, guest.started.elapsed(), guest.deadline) {
        Some(stop) => {
            guest.stopped = Some(stop);
            UpdateDeadline::Interrupt
        }
        None => UpdateDeadline::Continue(1),
    }
}

/// The longest that a guest takes to use this much fuel.
///
/// A thread's CPU clock also runs while the machine serves others on it: interrupts, faults that wait for a lock, a
/// hypervisor that took the processor away. Measured on a busy machine, an evaluation of 100 us was charged more than
/// 1 ms once in 10,000. Fuel says what the guest itself did. What costs more time for a unit (a first touch of a page,
/// `memory.grow`) is bounded by the memory limit.
fn longest_for(fuel: u64) -> Duration {
    /// Loads that each wait for the one before to come from main memory: about 100 ns for four units.
    const SLOWEST_PER_MICROSECOND: u64 = 40;
    Duration::from_micros(fuel / SLOWEST_PER_MICROSECOND)
}

/// Only the guest's own CPU time is the rule's fault.
fn out_of_time(cpu: Duration, wall: Duration, deadline: Duration) -> Option<Stop> {
    if cpu >= deadline {
        Some(Stop::Deadline)
    } else if wall >= PATIENCE.max(deadline) {
        Some(Stop::NoProcessor(wall))
    } else {
        None
    }
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a CPU clock starts at zero and does not run backwards")
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

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_millis(1);

    #[test]
    fn cpu_time_is_the_rules_fault() {
        assert_eq!(out_of_time(DEADLINE, DEADLINE, DEADLINE), Some(Stop::Deadline));
        assert_eq!(out_of_time(DEADLINE, PATIENCE * 2, DEADLINE), Some(Stop::Deadline));
    }

    #[test]
    fn time_in_which_the_guest_did_nothing_is_not_the_rules_fault() {
        let own = |cpu: Duration, fuel| cpu.min(longest_for(fuel));
        assert_eq!(out_of_time(own(DEADLINE * 50, 3_000), DEADLINE * 50, DEADLINE), None);
        assert_eq!(out_of_time(own(DEADLINE, 100_000), DEADLINE, DEADLINE), Some(Stop::Deadline));
    }

    #[test]
    fn waiting_for_the_processor_is_not_the_rules_fault() {
        let cpu = DEADLINE / 2;
        assert_eq!(out_of_time(cpu, DEADLINE * 100, DEADLINE), None);
        assert_eq!(out_of_time(cpu, PATIENCE, DEADLINE), Some(Stop::NoProcessor(PATIENCE)));
    }

    #[test]
    fn a_long_deadline_is_waited_for() {
        let deadline = PATIENCE * 4;
        assert_eq!(out_of_time(PATIENCE, PATIENCE * 2, deadline), None);
    }
}
