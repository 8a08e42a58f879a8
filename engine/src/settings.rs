//! How wasmtime is set up. The numbers were measured; design/engine.md has them.

use std::num::NonZeroUsize;

use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OperatorCost, OptLevel, PoolingAllocationConfig, Strategy,
    WasmFeatures,
};

use crate::page_map::PageMap;

/// One Wasm page.
pub(crate) const PAGE: u64 = 64 << 10;

/// Stack of one evaluation. Runs on the caller's stack, so it must leave a thread of 2 MiB room enough.
const MAX_WASM_STACK: usize = 256 << 10;

/// Address space kept for one linear memory. Below 4 GiB the compiled code checks every access.
const MEMORY_RESERVATION: u64 = 4 << 30;

/// Unmapped bytes behind each linear memory.
const MEMORY_GUARD: u64 = 64 << 10;

/// Bytes of a linear memory that stay mapped in a slot without an instance, if the pool can look which pages were touched.
/// Otherwise it would write zeros to so many, which then count as touched.
const MEMORY_KEPT: usize = 256 << 10;

/// The first Linux that has `PAGEMAP_SCAN`.
const SCANS: (u32, u32) = (6, 7);

/// Largest table of a module, in elements.
pub(crate) const TABLE_ELEMENTS: u32 = 10_000;

/// Fuel of one `memory.grow` or `table.grow`: each leaves the sandbox, and a loop of them must not be cheap.
const GROW_COST: u8 = 50;

/// Address space that the pool may take: 47 bits are ours, and the process needs some for itself.
const MAX_SLOTS: usize = 1 << 14;

/// Idle instances over all workers: of each the memory takes two mappings and some tens of KiB.
const MAX_IDLE: usize = 1 << 12;

/// Idle instances of one worker: as many as there is room for beside the others.
pub(crate) fn idle(workers: usize, per_worker: usize, wanted: usize) -> usize {
    let others = workers.saturating_mul(4).saturating_add(per_worker);
    wanted.min(MAX_IDLE.min(MAX_SLOTS.saturating_sub(others)) / workers.max(1))
}

/// Instances that the pool holds: several for each thread, because a slot is cleared by the thread that used it, the
/// per-worker ones, and `idle` for each.
pub(crate) fn slots(workers: usize, per_worker: usize, idle: usize) -> Option<u32> {
    let slots = workers.checked_mul(idle.checked_add(4)?)?.checked_add(per_worker)?;
    (workers > 0 && (..=MAX_SLOTS).contains(&slots)).then(|| u32::try_from(slots).ok())?
}

/// The Wasm that a rule may use. Floats are deterministic (NaNs are canonical); SIMD is in, relaxed SIMD is not,
/// because its results depend on the processor.
pub(crate) const FEATURES: WasmFeatures =
    WasmFeatures::WASM2.union(WasmFeatures::EXTENDED_CONST).difference(WasmFeatures::GC_TYPES);

/// The configuration of an engine with `slots` instances of at most `max_memory` bytes.
pub(crate) fn config(slots: u32, max_memory: usize) -> Config {
    let mut config = code();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(slots, max_memory)));
    config
}

/// All that compiled code depends on. An engine of this alone makes code for the pool without reserving one.
pub(crate) fn code() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .wasm_features(WasmFeatures::all().difference(FEATURES), false)
        .wasm_features(FEATURES, true)
        .concurrency_support(false)
        .max_wasm_stack(MAX_WASM_STACK)
        .consume_fuel(true)
        .operator_cost(operator_cost())
        .epoch_interruption(true)
        .memory_may_move(false)
        .memory_reservation(MEMORY_RESERVATION)
        .memory_guard_size(MEMORY_GUARD)
        .memory_init_cow(false)
        // What a trap costs, and what a loaded module holds, without anyone to read it.
        .wasm_backtrace_max_frames(None::<NonZeroUsize>)
        .generate_address_map(false)
        .native_unwind_info(false);
    config
}

fn pool(slots: u32, max_memory: usize) -> PoolingAllocationConfig {
    let (kept, scan) = if PageMap::get().is_some() && linux() >= SCANS {
        (MEMORY_KEPT, Enabled::Yes)
    } else {
        (0, Enabled::No)
    };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(slots)
        .total_memories(slots)
        .total_tables(slots)
        .max_memories_per_module(1)
        .max_tables_per_module(1)
        .max_memory_size(max_memory)
        .table_elements(TABLE_ELEMENTS as usize)
        .max_unused_warm_slots(0)
        .linear_memory_keep_resident(kept)
        // Always given back to the kernel: a scan takes a page that is swapped out for one that was never touched, and
        // what is in a table is called. Memories are cleared before the pool gets them.
        .table_keep_resident(0)
        .pagemap_scan(scan);
    pool
}

/// Version of the kernel; 0.0 if it is none.
fn linux() -> (u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn operator_cost() -> OperatorCost {
    let mut cost = OperatorCost::new();
    cost.MemoryGrow = GROW_COST;
    cost.TableGrow = GROW_COST;
    cost
}
