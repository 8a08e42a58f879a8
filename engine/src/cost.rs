//! Bounds on what compiling a module and instantiating it cost: fuel and deadlines are counted only once code runs.
//! [`crate::function_cost`] has those on one function.

use std::ops::Range;

use crate::compile_error::CompileError;
use crate::function_cost::FunctionCost;

/// Bytes of all function bodies. A MiB of ordinary code compiles in about 2 s of CPU time; the worst that the other
/// bounds leave (nothing but indirect calls) in 20 s.
const CODE_BYTES: u64 = 2 << 20;

/// All functions' variables to follow through blocks. Release builds of 2 MiB stay below half a million.
const FLOW: u64 = 2_500_000;

/// All functions' branches ([`crate::function_cost`]). Release builds of 2 MiB stay below 130,000; as many as this
/// compile in 30 s.
const BRANCHES: u64 = 200_000;

/// Functions of a module.
const FUNCTIONS: u64 = 20_000;

/// Types of a module.
const TYPES: u64 = 5_000;

/// Parameters, or results, of one function type. The code around a call grows with their square.
const VALUES: u64 = 100;

/// Imports: each instance is handed every one. There are two that a module may have.
const IMPORTS: u64 = 100;

/// Exports of a module.
const EXPORTS: u64 = 1_000;

/// Globals: each instance initialises every one.
const GLOBALS: u64 = 1_000;

/// Bytes of the global section, of the element section, and of the data section data aside: what is computed there
/// becomes one function, which no other bound covers.
const INITIALISER_BYTES: u64 = 128 << 10;

/// Elements of passive segments: each instance evaluates them, 50 ns each. Compilers emit none.
const PASSIVE_ELEMENTS: u64 = 1_000;

/// Static data: each instance copies it.
const DATA_BYTES: u64 = 1 << 20;

/// Segments of it, in which compilers leave out runs of zeros: each instance copies them one by one, 20 ns each, and
/// the code for it is one function, of which compile time is the square.
const DATA_SEGMENTS: u64 = 2_000;

const SPLIT: &str = "split the module into several rules";

/// What has been counted so far.
#[derive(Default)]
pub(crate) struct Costs {
    functions: u32,
    code_bytes: u64,
    flow: u64,
    branches: u64,
    data_bytes: u64,
}

impl Costs {
    pub(crate) fn functions(&self) -> u32 {
        self.functions
    }

    pub(crate) fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    pub(crate) fn memories(count: u32) -> Result<(), CompileError> {
        within("memories", count.into(), 1, "a rule has one memory")
    }

    pub(crate) fn tables(count: u32) -> Result<(), CompileError> {
        within("tables", count.into(), 1, "a rule has one table of functions")
    }

    pub(crate) fn table(elements: u64, limit: u32) -> Result<(), CompileError> {
        within("elements of the table", elements, limit.into(), "call fewer functions through pointers")
    }

    pub(crate) fn types(count: u32) -> Result<(), CompileError> {
        within("types", count.into(), TYPES, SPLIT)
    }

    /// Counts a type of functions: the compiler writes code to get into and out of each.
    pub(crate) fn function_type(&mut self, params: u64, results: u64) -> Result<(), CompileError> {
        const HINT: &str = "hand over a pointer";
        within("parameters of a function", params, VALUES, HINT)?;
        within("results of a function", results, VALUES, HINT)?;
        self.flow += params + results;
        Ok(())
    }

    pub(crate) fn imports(count: u32) -> Result<(), CompileError> {
        within("imports", count.into(), IMPORTS, "import each function once")
    }

    pub(crate) fn exports(count: u32) -> Result<(), CompileError> {
        within("exports", count.into(), EXPORTS, "export only what the module ABI asks for")
    }

    pub(crate) fn globals(count: u32, section: &Range<usize>) -> Result<(), CompileError> {
        within("globals", count.into(), GLOBALS, "keep state in memory")?;
        within(
            "bytes of global initialisers",
            section.len() as u64,
            INITIALISER_BYTES,
            "keep state in memory",
        )
    }

    /// `passive` are the elements of passive segments.
    pub(crate) fn elements(section: &Range<usize>, passive: u64) -> Result<(), CompileError> {
        within("elements of passive segments", passive, PASSIVE_ELEMENTS, "use active segments")?;
        within(
            "bytes of element segments",
            section.len() as u64,
            INITIALISER_BYTES,
            "call fewer functions through pointers",
        )
    }

    /// Counts the data section; `all` is what its segments hold together, `active` those that are copied by themselves.
    pub(crate) fn data(
        &mut self,
        segments: u32,
        section: &Range<usize>,
        all: u64,
        active: u64,
    ) -> Result<(), CompileError> {
        const HINT: &str = "make the tables of the rule smaller";
        within(
            "segments of static data",
            segments.into(),
            DATA_SEGMENTS,
            "leave out `wasm-opt --memory-packing`",
        )?;
        self.data_bytes = active;
        within("bytes of static data, which every request copies", all, DATA_BYTES, HINT)?;
        within("bytes of data segments' heads", section.len() as u64 - all, INITIALISER_BYTES, HINT)
    }

    /// Counts one function.
    pub(crate) fn function(&mut self, bytes: u64, cost: FunctionCost) -> Result<(), CompileError> {
        self.functions += 1;
        self.code_bytes += bytes;
        self.flow += cost.flow;
        self.branches += cost.branches;
        within("functions", self.functions.into(), FUNCTIONS, SPLIT)?;
        within(
            "bytes of code",
            self.code_bytes,
            CODE_BYTES,
            "build with --release, or split the module into several rules",
        )?;
        within(
            "variables times blocks",
            self.flow,
            FLOW,
            "build with --release, or split the module into several rules",
        )?;
        within(
            "branches",
            self.branches,
            BRANCHES,
            "build with --release, or split the module into several rules",
        )
    }
}

fn within(what: &'static str, found: u64, limit: u64, hint: &'static str) -> Result<(), CompileError> {
    if found > limit {
        return Err(CompileError::TooComplex { what, found, limit, hint });
    }
    Ok(())
}
