//! What the sandbox knows about a running guest, and when it stops it.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Memory, ResourceLimiter, StoreContextMut, UpdateDeadline};

use crate::clock::{Clock, OutOfTime};
use crate::log_line::LogLine;
use crate::pattern_set::PatternSets;
use crate::ticker::Pulse;

/// What the sandbox knows about the running guest.
pub(crate) struct Guest {
    clock: Clock,
    pub(crate) memory_limit: u64,
    pub(crate) stopped: Option<Stop>,
    pulse: Arc<Pulse>,
    /// What the imports work on; `None` until the start function is through.
    pub(crate) memory: Option<Memory>,
    pub(crate) patterns: Option<Arc<PatternSets>>,
    pub(crate) log: Vec<LogLine>,
}

/// Why the host stopped the guest.
pub(crate) enum Stop {
    OutOfTime(OutOfTime),
    MemoryLimit { wanted: u64 },
    HostMemory(String),
}

impl Guest {
    /// A guest whose evaluation begins now.
    pub(crate) fn new(
        pulse: Arc<Pulse>,
        patterns: Option<Arc<PatternSets>>,
        memory_limit: u64,
        deadline: Duration,
    ) -> Self {
        pulse.beat();
        let clock = Clock::new(deadline);
        Self { clock, memory_limit, stopped: None, pulse, memory: None, patterns, log: Vec::new() }
    }

    /// Begins another evaluation.
    pub(crate) fn begin_again(&mut self, memory_limit: u64, deadline: Duration) {
        self.pulse.beat();
        self.clock = Clock::new(deadline);
        self.memory_limit = memory_limit;
        self.stopped = None;
    }
}

/// Runs at every tick of the engine that finds the guest running.
pub(crate) fn interrupted(mut store: StoreContextMut<'_, Guest>) -> UpdateDeadline {
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
