//! The module check, which comes before compiling: are the bytes a module, does it export what the ABI asks for, is it of
//! a size that makes compiling and instantiating it cheap. Validates it on the way.

use serde::{Deserialize, Serialize};
use wasmparser::{
    ConstExpr, DataKind, ElementItems, ElementKind, Encoding, FuncValidatorAllocations, Operator, Parser,
    Payload, ValidPayload, Validator,
};

use crate::compile_error::{CompileError, Import, invalid};
use crate::cost::Costs;
use crate::describe::{self, Describe};
use crate::exports::{self, Abi};
use crate::function_cost;
use crate::instance_reuse::{self, InstanceReuse, Survey};
use crate::phase::{Phase, Phases};
use crate::settings::{FEATURES, PAGE, TABLE_ELEMENTS};

/// What a module declares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// Version of the module ABI that the engine uses with it.
    pub abi: u16,
    /// Bytes of the module.
    pub size: usize,
    /// Names of all exports, in the order of the module.
    pub exports: Vec<String>,
    /// Linear memory in bytes that each instance starts with.
    pub memory_bytes: u64,
    /// Bytes of static data, which each instance copies into its memory. Not charged to the rule's fuel.
    pub data_bytes: u64,
    /// Functions in the module.
    pub functions: u32,
    /// Phases in which the module is run; of ABI 1, `Request` alone.
    pub phases: Phases,
    /// How every evaluation comes to an instance that is as new.
    pub reuse: InstanceReuse,
    /// What the module says about itself; the default if it says nothing, or is of ABI 1.
    pub describe: Describe,
}

/// Checks a module against what a rule may be.
pub(crate) fn check(wasm: &[u8], max_bytes: usize, max_memory: u64) -> Result<ModuleInfo, CompileError> {
    check_header(wasm)?;
    if wasm.len() > max_bytes {
        return Err(CompileError::TooLarge { size: wasm.len(), limit: max_bytes });
    }
    let mut validator = Validator::new_with_features(FEATURES);
    let mut allocations = FuncValidatorAllocations::default();
    let mut seen = Seen::default();
    let mut exported = None;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(invalid)?;
        seen.look_at(&payload, max_memory)?;
        match validator.payload(&payload).map_err(invalid)? {
            ValidPayload::Func(function, body) => {
                let (cost, reusable) = function_cost::check(function, &body, allocations, &mut seen.survey)?;
                allocations = reusable;
                seen.costs.function(body.range().len() as u64, cost)?;
            }
            ValidPayload::End(types) => exported = Some(exports::check(&types.as_ref(), &seen.exports)?),
            ValidPayload::Ok | ValidPayload::Parser(_) => {}
        }
    }
    let (abi, phases) = exported.ok_or(CompileError::Compile("the module has no end".into()))?;
    let (describe, phases) = match abi {
        Abi::V1 => (Describe::default(), Phases::from_iter([Phase::Request])),
        Abi::V2 => {
            let describe = seen.describe.unwrap_or_default();
            let phases = run_in(&describe, phases)?;
            (describe, phases)
        }
    };
    Ok(ModuleInfo {
        abi: match abi {
            Abi::V1 => 1,
            Abi::V2 => 2,
        },
        phases,
        reuse: seen.survey.result(),
        describe,
        size: wasm.len(),
        memory_bytes: seen.memory_bytes,
        data_bytes: seen.costs.data_bytes(),
        functions: seen.costs.functions(),
        exports: seen.exports,
    })
}

/// What the sections said so far.
#[derive(Default)]
struct Seen {
    exports: Vec<String>,
    memory_bytes: u64,
    describe: Option<Describe>,
    costs: Costs,
    survey: Survey,
}

/// The phases that the module declares, all of which have to be exported; without a word about them those that are.
fn run_in(describe: &Describe, exported: Phases) -> Result<Phases, CompileError> {
    let Some(declared) = &describe.phases else { return Ok(exported) };
    if let Some(missing) = declared.iter().find(|phase| !exported.contains(**phase)) {
        return Err(CompileError::UnexportedPhase { phase: missing.name(), export: missing.export() });
    }
    if declared.is_empty() {
        return Err(CompileError::NoPhase);
    }
    Ok(declared.iter().copied().collect())
}

impl Seen {
    /// Every instance of a module with data outside its memory fails half made.
    fn check_data(&self, segment: u32, offset: &ConstExpr<'_>, bytes: u64) -> Result<(), CompileError> {
        let memory = self.memory_bytes;
        match constant(offset).map(|start| u64::from(start) + bytes) {
            Some(end) if end > memory => Err(CompileError::DataOutOfBounds { segment, end, memory }),
            _ => Ok(()),
        }
    }

    fn look_at(&mut self, payload: &Payload<'_>, max_memory: u64) -> Result<(), CompileError> {
        match payload {
            Payload::Version { encoding: Encoding::Component, .. } => return Err(CompileError::Component),
            Payload::ImportSection(section) => {
                Costs::imports(section.count())?;
                let imports = section
                    .clone()
                    .into_imports()
                    .map(|import| {
                        import.map(|import| Import { module: import.module.into(), name: import.name.into() })
                    })
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(invalid)?;
                let imports: Vec<_> = imports
                    .into_iter()
                    .filter(|import| !exports::is_offered(&import.module, &import.name))
                    .collect();
                if !imports.is_empty() {
                    let hint = import_hint(&imports);
                    return Err(CompileError::UnsupportedImports { imports, hint });
                }
            }
            Payload::MemorySection(section) => {
                Costs::memories(section.count())?;
                for memory in section.clone() {
                    let memory = memory.map_err(invalid)?;
                    if memory.memory64 {
                        return Err(CompileError::Memory64);
                    }
                    let declared = memory.initial.saturating_mul(PAGE);
                    if declared > max_memory {
                        return Err(CompileError::MemoryTooLarge { declared, limit: max_memory });
                    }
                    self.memory_bytes = declared;
                    self.survey.memory(declared);
                }
            }
            Payload::TableSection(section) => {
                Costs::tables(section.count())?;
                for table in section.clone() {
                    Costs::table(table.map_err(invalid)?.ty.initial, TABLE_ELEMENTS)?;
                }
            }
            Payload::ExportSection(section) => {
                Costs::exports(section.count())?;
                for export in section.clone() {
                    let export = export.map_err(invalid)?;
                    if export.name.starts_with(instance_reuse::PREFIX) {
                        return Err(CompileError::ReservedExport { name: export.name.into() });
                    }
                    self.exports.push(export.name.into());
                }
            }
            Payload::TypeSection(section) => {
                Costs::types(section.count())?;
                for function in section.clone().into_iter_err_on_gc_types() {
                    let function = function.map_err(invalid)?;
                    self.costs
                        .function_type(function.params().len() as u64, function.results().len() as u64)?;
                }
            }
            Payload::GlobalSection(section) => {
                Costs::globals(section.count(), &section.range())?;
                for global in section.clone() {
                    self.survey.global(global.map_err(invalid)?.ty);
                }
            }
            Payload::ElementSection(section) => {
                let mut passive = 0;
                for segment in section.clone() {
                    let segment = segment.map_err(invalid)?;
                    if matches!(segment.kind, ElementKind::Passive) {
                        passive += u64::from(match segment.items {
                            ElementItems::Functions(items) => items.count(),
                            ElementItems::Expressions(_, items) => items.count(),
                        });
                    }
                }
                Costs::elements(&section.range(), passive)?;
            }
            Payload::DataSection(section) => {
                let (mut all, mut active) = (0, 0);
                for (number, segment) in (0_u32..).zip(section.clone()) {
                    let segment = segment.map_err(invalid)?;
                    let bytes = segment.data.len() as u64;
                    all += bytes;
                    if let DataKind::Active { offset_expr, .. } = &segment.kind {
                        active += bytes;
                        self.check_data(number, offset_expr, bytes)?;
                    }
                }
                self.costs.data(section.count(), &section.range(), all, active)?;
            }
            Payload::CustomSection(section) if section.name() == describe::SECTION => {
                self.describe = Some(Describe::parse(section.data())?);
            }
            _ => {}
        }
        Ok(())
    }
}

/// An address that a constant expression says right away, as those of compilers do.
fn constant(expression: &ConstExpr<'_>) -> Option<u32> {
    let mut operators = expression.get_operators_reader();
    match (operators.read().ok()?, operators.read().ok()?) {
        (Operator::I32Const { value }, Operator::End) => Some(value.cast_unsigned()),
        _ => None,
    }
}

/// Names what was pushed instead of a module.
fn check_header(wasm: &[u8]) -> Result<(), CompileError> {
    const MAGIC: &[u8] = b"\0asm";
    const CORE: &[u8] = &[1, 0, 0, 0];
    let found = match wasm.strip_prefix(MAGIC) {
        Some(rest) if rest.starts_with(CORE) => return Ok(()),
        Some([_, _, 1, 0, ..]) => return Err(CompileError::Component),
        Some([a, b, c, d, ..]) => {
            format!("WebAssembly of version {}", u32::from_le_bytes([*a, *b, *c, *d]))
        }
        Some(rest) => format!("only the first {} bytes of a module", MAGIC.len() + rest.len()),
        None => looks_like(wasm),
    };
    Err(CompileError::NotWasm { found })
}

fn looks_like(bytes: &[u8]) -> String {
    const KNOWN: [(&[u8], &str); 12] = [
        (b"\x7fELF", "an ELF executable (build for wasm32-unknown-unknown)"),
        (b"\x1f\x8b", "gzip data (unpack it)"),
        (b"\x28\xb5\x2f\xfd", "zstd data (unpack it)"),
        (b"PK\x03\x04", "a zip archive (unpack it)"),
        (b"BC\xc0\xde", "LLVM bitcode (link it)"),
        (b"!<arch>", "a static library (build a cdylib)"),
        (b"#!", "a script"),
        (b"(module", "WebAssembly text (run wat2wasm on it)"),
        (b"<", "an HTML or XML page"),
        (b"{", "a JSON document"),
        (b"MZ", "a Windows executable (build for wasm32-unknown-unknown)"),
        (b"-----BEGIN", "a PEM file"),
    ];
    if bytes.is_empty() {
        return "an empty file".into();
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return "a tar archive (unpack it)".into();
    }
    let start = bytes.trim_ascii_start();
    if let Some((_, name)) = KNOWN.iter().find(|(magic, _)| start.starts_with(magic)) {
        return (*name).into();
    }
    let head: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{} bytes that start with {}", bytes.len(), head.join(" "))
}

fn import_hint(imports: &[Import]) -> &'static str {
    let from = |prefix: &str| imports.iter().any(|import| import.module.starts_with(prefix));
    if from("wasi") {
        "it was built for WASI: build for wasm32-unknown-unknown (TinyGo: -target=wasm-unknown)"
    } else if from("__wbindgen") || from("wbg") || from("./") {
        "it was built with wasm-bindgen: leave that out, and the crates that need it, and build for wasm32-unknown-unknown"
    } else if imports.iter().any(|import| import.module == "env" && import.name == "abort") {
        "AssemblyScript asks for it: compile with `--use abort=`"
    } else if from("go") {
        "it was built for a browser: use TinyGo with -target=wasm-unknown"
    } else {
        "a rule gets all it needs handed over, and may import portcullis.log and portcullis.match_set: remove the others and build for wasm32-unknown-unknown"
    }
}
