//! Whether a module can be a rule, and what would make it a smaller one (abi.md).

use wasmparser::{GlobalSectionReader, MemoryType, Operator, ValType};

use super::imports::import_problems;
use super::summary::{Abi, Export, ModuleSummary};

const REQUEST: &str = "func (i32, i32) -> i32";
const ALLOC: &str = "func (i32) -> i32";
const CONFIGURE: &str = "func (i32, i32) -> i32";
const BYTES: &str = "func () -> i64";

/// Exports that the contract gives a type.
const TYPED_EXPORTS: [(&str, &str); 14] = [
    ("memory", "memory"),
    ("inspect_request", REQUEST),
    ("alloc", ALLOC),
    ("configure", CONFIGURE),
    ("pc_buffer", ALLOC),
    ("pc_configure", CONFIGURE),
    ("pc_request", REQUEST),
    ("pc_request_body", REQUEST),
    ("pc_response", REQUEST),
    ("pc_message", REQUEST),
    ("pc_hook", REQUEST),
    ("pc_describe", BYTES),
    ("pc_detail", BYTES),
    ("pc_carry", BYTES),
];
const V1: [&str; 2] = ["memory", "inspect_request"];
const V2: [&str; 2] = ["memory", "pc_buffer"];
/// The functions of version 2 that look at something; one of them is enough.
const PHASES: [&str; 5] = ["pc_request", "pc_request_body", "pc_response", "pc_message", "pc_hook"];

/// rustc's default; more than this is worth a word.
const RUST_STACK: u64 = 1 << 20;
const PAGE: u64 = 64 << 10;
/// The memory an instance gets unless the rule's limits say otherwise (abi.md).
const DEFAULT_MEMORY_LIMIT: u64 = 4 << 20;
/// Debug information below this is not worth a word.
const NOTABLE_DEBUG_INFO: u64 = 1024;

/// The versions whose exports are all there with the right types.
pub(super) fn abi(exports: &[Export]) -> Vec<Abi> {
    let has = |name: &&str| exports.iter().any(|export| export.name == **name && is_right_type(export));
    let mut versions = Vec::new();
    if V1.iter().all(has) {
        versions.push(Abi::V1);
    }
    if V2.iter().all(has) && PHASES.iter().any(has) {
        versions.push(Abi::V2);
    }
    versions
}

fn expected_kind(name: &str) -> Option<&'static str> {
    TYPED_EXPORTS.iter().find(|(typed, _)| *typed == name).map(|(_, kind)| *kind)
}

fn is_right_type(export: &Export) -> bool {
    expected_kind(&export.name).is_none_or(|kind| kind == export.kind)
}

/// Why no host can run the module as a rule.
pub(super) fn problems(summary: &ModuleSummary, memory: Option<MemoryType>) -> Vec<String> {
    let exports = |name: &str| summary.exports.iter().any(|export| export.name == name);
    let mut problems = Vec::new();
    if !exports("memory") {
        problems.push("it exports no \"memory\": the host has nowhere to write the request".to_owned());
    }
    let has_phase = PHASES.iter().any(|name| exports(name));
    if has_phase && !exports("pc_buffer") {
        problems.push(
            "it exports no \"pc_buffer\": the host has nowhere to write the view (version 2)".to_owned(),
        );
    }
    if !exports("inspect_request") && !has_phase {
        let functions = summary.exports.iter().filter(|export| export.kind.starts_with("func"));
        let functions: Vec<&str> = functions.map(|export| export.name.as_str()).take(8).collect();
        let found = if functions.is_empty() { "no function".to_owned() } else { functions.join(", ") };
        problems.push(format!(
            "it exports neither \"inspect_request\" (version 1) nor \"pc_request\" (version 2), found {found}: in \
             Rust, use crate-type cdylib and #[unsafe(no_mangle)] pub extern \"C\" fn"
        ));
    }
    for export in summary.exports.iter().filter(|export| !is_right_type(export)) {
        let expected = expected_kind(&export.name).unwrap_or_default();
        problems.push(format!("export \"{}\": expected {expected}, found {}", export.name, export.kind));
    }
    if let Some(memory) = memory {
        if memory.memory64 {
            problems.push("its memory is 64-bit: build for wasm32-unknown-unknown".to_owned());
        }
        if memory.shared {
            problems.push("its memory is shared: build without threads".to_owned());
        }
    }
    problems.extend(import_problems(&summary.imports));
    problems
}

/// The stack that a linker of the LLVM family reserved, in bytes: its stack pointer is the first global, a
/// mutable i32, and starts at the stack's top.
pub(super) fn stack_size(globals: GlobalSectionReader<'_>) -> wasmparser::Result<Option<u64>> {
    let Some(first) = globals.into_iter().next().transpose()? else {
        return Ok(None);
    };
    if !first.ty.mutable || first.ty.content_type != ValType::I32 {
        return Ok(None);
    }
    match first.init_expr.get_operators_reader().read()? {
        Operator::I32Const { value } => Ok(u64::try_from(value).ok()),
        _ => Ok(None),
    }
}

/// What would make the module smaller or faster.
pub(super) fn advice(summary: &ModuleSummary, stack_size: Option<u64>) -> Vec<String> {
    let mut advice = Vec::new();
    if let (Some(memory), Some(stack)) = (summary.memory, stack_size)
        && stack >= RUST_STACK
        && memory.min_pages * PAGE > stack
    {
        advice.push(format!(
            "its memory starts with {} pages ({} KiB) because {} KiB are reserved for the stack, rustc's default: \
             build with RUSTFLAGS=\"-C link-arg=-zstack-size=16384\"",
            memory.min_pages,
            memory.min_pages * 64,
            stack >> 10,
        ));
    }
    if let Some(memory) = summary.memory
        && memory.min_pages.saturating_mul(PAGE) > DEFAULT_MEMORY_LIMIT
    {
        advice.push(format!(
            "its memory starts with {} pages ({} KiB), more than the default limit of {} KiB: it only runs with a \
             higher limits.memory",
            memory.min_pages,
            memory.min_pages.saturating_mul(64),
            DEFAULT_MEMORY_LIMIT >> 10,
        ));
    }
    let is_debug = |name: &str| name == "name" || name.starts_with(".debug_");
    let debug = summary.custom_sections.iter().filter(|section| is_debug(&section.name));
    let debug: u64 = debug.map(|section| section.size).sum();
    if debug >= NOTABLE_DEBUG_INFO {
        advice.push(format!(
            "{} KiB of {} KiB are names and debug information: set strip = true and opt-level = \"s\" in the release \
             profile, or run wasm-opt -Os --strip-debug",
            debug >> 10,
            summary.size >> 10,
        ));
    }
    if summary.has_start {
        advice.push(
            "it has a start function, which runs before every request and is charged as its fuel: do that work at \
             build time"
                .to_owned(),
        );
    }
    advice
}
