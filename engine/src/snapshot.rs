//! What an instance is before its first call, and how one that was called becomes that again.
//!
//! The state of an instance is that of its memory, globals and tables, and which of its passive segments were dropped
//! (WebAssembly core specification, 4.2.5 "Module Instances" and 4.2.6 to 4.2.12). Nothing that an ordinary rule does
//! reaches tables and segments ([`crate::instance_reuse`]), so what is left are the touched pages of one memory, and a
//! few numbers.
//! Restoring those costs a third of a new instance, and allocates nothing.

use std::io;
use std::sync::OnceLock;

use wasmtime::{ModuleExport, Val};

use crate::instance::Instance;
use crate::instance_reuse;
use crate::page_map::{MOST_TOUCHED, PageMap};
use crate::settings::PAGE;

/// Zeros that end a run of other bytes.
const GAP: usize = 64;

/// A module whose instances can be restored.
pub(crate) struct Restorable {
    page_map: &'static PageMap,
    globals: Vec<ModuleExport>,
    /// The same for every instance: a start function has nothing to go by. Found out with the first one.
    snapshot: OnceLock<Snapshot>,
}

/// An instance before its first call.
struct Snapshot {
    memory_bytes: usize,
    /// What of the memory is not zero, in order.
    runs: Vec<Run>,
    globals: Vec<Val>,
}

struct Run {
    start: usize,
    bytes: Box<[u8]>,
}

impl Restorable {
    /// Looks up what there is to restore in a compiled module that has so many mutable globals. `None` if it has not,
    /// or the kernel does not tell which pages were touched.
    pub(crate) fn of(module: &wasmtime::Module, globals: u32) -> Option<Self> {
        let globals = (0..globals)
            .map(|number| module.get_export_index(&instance_reuse::export_name(number)))
            .collect::<Option<_>>()?;
        Some(Self { page_map: PageMap::get()?, globals, snapshot: OnceLock::new() })
    }

    /// Gets an instance that was not called yet ready for being restored later.
    pub(crate) fn learn(&self, instance: &mut Instance) {
        let Some(globals) = instance.look_up(&self.globals) else { return };
        if self.snapshot.get().is_none() {
            let values = globals.iter().map(|global| instance.get(*global)).collect();
            let Ok(snapshot) = Snapshot::of(instance.bytes(), values, self.page_map) else { return };
            // Another thread may have been faster, with the same.
            let _ = self.snapshot.set(snapshot);
        }
        instance.globals = Some(globals);
    }

    /// Makes an instance as it was before its first call. Returns the bytes of memory that it holds; `None` if it
    /// cannot be restored: it grew, touched a lot, or the kernel does not say what.
    pub(crate) fn restore(&self, instance: &mut Instance) -> Option<usize> {
        let snapshot = self.snapshot.get()?;
        if instance.memory_size() != snapshot.memory_bytes as u64 + instance.appended() * PAGE {
            return None;
        }
        let held = snapshot.restore_memory(instance.bytes(), self.page_map).ok()??;
        let globals = instance.globals.take()?;
        for (global, value) in globals.iter().zip(&snapshot.globals) {
            instance.set(*global, *value).ok()?;
        }
        instance.globals = Some(globals);
        Some(held)
    }
}

impl Snapshot {
    fn of(memory: &[u8], globals: Vec<Val>, page_map: &PageMap) -> io::Result<Self> {
        let mut runs = Vec::new();
        for range in page_map.touched(memory)?.ranges() {
            find_runs(&memory[range.clone()], range.start, &mut runs);
        }
        Ok(Self { memory_bytes: memory.len(), runs, globals })
    }

    /// Writes the touched pages again: what was there, and zeros. `None` if they are too many.
    fn restore_memory(&self, memory: &mut [u8], page_map: &PageMap) -> io::Result<Option<usize>> {
        let touched = page_map.touched(memory)?;
        if touched.bytes() > MOST_TOUCHED {
            return Ok(None);
        }
        for range in touched.ranges() {
            let mut done = range.start;
            let first = self.runs.partition_point(|run| run.end() <= range.start);
            for run in self.runs[first..].iter().take_while(|run| run.start < range.end) {
                let (start, end) = (run.start.max(range.start), run.end().min(range.end));
                memory[done..start].fill(0);
                memory[start..end].copy_from_slice(&run.bytes[start - run.start..end - run.start]);
                done = end;
            }
            memory[done..range.end].fill(0);
        }
        Ok(Some(touched.bytes()))
    }
}

impl Run {
    fn end(&self) -> usize {
        self.start + self.bytes.len()
    }
}

/// Adds the runs of bytes that are not zero in a part of a memory that begins at `base`.
fn find_runs(part: &[u8], base: usize, runs: &mut Vec<Run>) {
    let mut at = 0;
    while let Some(skipped) = part[at..].iter().position(|byte| *byte != 0) {
        let start = at + skipped;
        let mut end = start + 1;
        while let Some(zeros) = part[end..].iter().take(GAP).position(|byte| *byte != 0) {
            end += zeros + 1;
        }
        runs.push(Run { start: base + start, bytes: part[start..end].into() });
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn runs_of(memory: &[u8]) -> Vec<Run> {
        let mut runs = Vec::new();
        find_runs(memory, 0, &mut runs);
        runs
    }

    proptest! {
        #[test]
        fn runs_are_all_that_is_not_zero(
            writes in prop::collection::vec((0_usize..5_000, 0_u8..3, 1_usize..100), 0..20),
        ) {
            let mut memory = vec![0; 5_100];
            for (at, byte, length) in writes {
                memory[at..at + length].fill(byte);
            }
            let mut copy = vec![0; memory.len()];
            let mut last = 0;
            for run in runs_of(&memory) {
                prop_assert!(run.start >= last && !run.bytes.is_empty());
                last = run.end();
                copy[run.start..run.end()].copy_from_slice(&run.bytes);
            }
            prop_assert_eq!(copy, memory);
        }

        #[test]
        fn what_was_touched_is_as_before(
            before in prop::collection::vec((0_usize..60_000, 1_usize..9_000), 0..5),
            after in prop::collection::vec((0_usize..60_000, 1_usize..9_000), 0..5),
        ) {
            let page_map = PageMap::get().unwrap();
            // From the kernel, and whole pages of it.
            let mut all = vec![0_u8; 64 << 20];
            let first = all.as_ptr().align_offset(1 << 16);
            let memory = &mut all[first..first + (128 << 10)];
            for (at, length) in before {
                memory[at..at + length].fill(7);
            }
            let expected = memory.to_vec();
            let snapshot = Snapshot::of(memory, Vec::new(), page_map).unwrap();
            for (at, length) in after {
                memory[at..at + length].fill(9);
            }
            prop_assert!(snapshot.restore_memory(memory, page_map).unwrap().is_some());
            prop_assert!(memory == expected);
        }
    }
}
