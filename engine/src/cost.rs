//! Bounds on what compiling a module and instantiating it cost. Fuel and deadlines are counted only once code runs.

use std::ops::Range;

use wasmparser::FunctionBody;

use crate::compile_error::CompileError;

/// Bytes of one function body. Fuel and deadline are looked at where functions begin and loops turn, so this bounds
/// what runs unobserved, and it bounds the compiler, which is not linear in the size of a function.
const BODY_BYTES: u64 = 64 << 10;

/// Locals of one function, parameters aside. Some 40,000 abort the compiler.
const LOCALS: u64 = 2_000;

/// Functions of a module.
const FUNCTIONS: u32 = 20_000;

/// Bytes of all function bodies.
const CODE_BYTES: u64 = 4 << 20;

/// Types of a module.
const TYPES: u32 = 5_000;

/// Globals: each instance initialises every one.
const GLOBALS: u32 = 1_000;

/// Bytes of the element section: each instance evaluates it.
const ELEMENT_BYTES: u64 = 128 << 10;

/// Bytes of the data section: each instance copies it.
const DATA_BYTES: u64 = 1 << 20;

/// What has been counted so far.
#[derive(Default)]
pub(crate) struct Costs {
    functions: u32,
    code_bytes: u64,
}

impl Costs {
    pub(crate) fn functions(&self) -> u32 {
        self.functions
    }

    pub(crate) fn memories(&self, count: u32) -> Result<(), CompileError> {
        within("memories", count.into(), 1, "a rule has one memory")
    }

    pub(crate) fn tables(&self, count: u32) -> Result<(), CompileError> {
        within("tables", count.into(), 1, "a rule has one table of functions")
    }

    pub(crate) fn table(&self, elements: u64, limit: u64) -> Result<(), CompileError> {
        within("elements of the table", elements, limit, "call fewer functions through pointers")
    }

    pub(crate) fn types(&self, count: u32) -> Result<(), CompileError> {
        within("types", count.into(), TYPES.into(), "split the module into several rules")
    }

    pub(crate) fn globals(&self, count: u32) -> Result<(), CompileError> {
        within("globals", count.into(), GLOBALS.into(), "keep state in memory")
    }

    pub(crate) fn elements(&self, range: &Range<usize>) -> Result<(), CompileError> {
        within(
            "bytes of element segments",
            range.len() as u64,
            ELEMENT_BYTES,
            "call fewer functions through pointers",
        )
    }

    pub(crate) fn data(&self, range: &Range<usize>) -> Result<(), CompileError> {
        within(
            "bytes of static data, which every request copies",
            range.len() as u64,
            DATA_BYTES,
            "make the tables of the rule smaller",
        )
    }

    /// Counts one function.
    pub(crate) fn function(&mut self, body: &FunctionBody<'_>) -> Result<(), CompileError> {
        let index = self.functions;
        let too_large = |unit, found, limit| {
            Err(CompileError::FunctionTooLarge { function: index, unit, found, limit })
        };
        let bytes = body.range().len() as u64;
        if bytes > BODY_BYTES {
            return too_large("bytes", bytes, BODY_BYTES);
        }
        let locals = locals(body).map_err(|error| CompileError::Invalid {
            message: error.message().into(),
            offset: error.offset(),
        })?;
        if locals > LOCALS {
            return too_large("locals", locals, LOCALS);
        }
        self.functions += 1;
        self.code_bytes += bytes;
        within("functions", self.functions.into(), FUNCTIONS.into(), "split the module into several rules")?;
        within("bytes of code", self.code_bytes, CODE_BYTES, "build with --release, or split the module into several rules")
    }
}

fn locals(body: &FunctionBody<'_>) -> Result<u64, wasmparser::BinaryReaderError> {
    let mut total = 0;
    for group in body.get_locals_reader()? {
        total += u64::from(group?.0);
    }
    Ok(total)
}

fn within(what: &'static str, found: u64, limit: u64, hint: &'static str) -> Result<(), CompileError> {
    if found > limit {
        return Err(CompileError::TooComplex { what, found, limit, hint });
    }
    Ok(())
}
