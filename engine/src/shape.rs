//! Looks at a module before it is compiled: is it one, does it export what the ABI asks for, is it of a size that
//! makes compiling and instantiating it cheap. Validates it on the way.

use wasmparser::types::{EntityType, TypesRef};
use wasmparser::{
    DataKind, Encoding, FuncValidatorAllocations, Parser, Payload, ValType, ValidPayload, Validator,
};

use crate::compile_error::{CompileError, Import, invalid};
use crate::cost::Costs;
use crate::engine::PAGE;
use crate::function_cost;
use crate::settings::{FEATURES, TABLE_ELEMENTS};

/// What a module declares.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(invalid)?;
        seen.look_at(&payload, max_memory)?;
        match validator.payload(&payload).map_err(invalid)? {
            ValidPayload::Func(function, body) => {
                let (flow, reusable) = function_cost::check(function, &body, allocations)?;
                allocations = reusable;
                seen.costs.function(body.range().len() as u64, flow)?;
            }
            ValidPayload::End(types) => check_exports(&types.as_ref(), &seen.exports)?,
            ValidPayload::Ok | ValidPayload::Parser(_) => {}
        }
    }
    Ok(ModuleInfo {
        abi: 1,
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
    costs: Costs,
}

impl Seen {
    fn look_at(&mut self, payload: &Payload<'_>, max_memory: u64) -> Result<(), CompileError> {
        match payload {
            Payload::Version { encoding: Encoding::Component, .. } => return Err(CompileError::Component),
            Payload::ImportSection(section) => {
                let imports = section
                    .clone()
                    .into_imports()
                    .map(|import| {
                        import.map(|import| Import { module: import.module.into(), name: import.name.into() })
                    })
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(invalid)?;
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
                    self.exports.push(export.map_err(invalid)?.name.into());
                }
            }
            Payload::TypeSection(section) => Costs::types(section.count())?,
            Payload::GlobalSection(section) => Costs::globals(section.count(), &section.range())?,
            Payload::ElementSection(section) => Costs::elements(&section.range())?,
            Payload::DataSection(section) => {
                let (mut all, mut active) = (0, 0);
                for segment in section.clone() {
                    let segment = segment.map_err(invalid)?;
                    let bytes = segment.data.len() as u64;
                    all += bytes;
                    if matches!(segment.kind, DataKind::Active { .. }) {
                        active += bytes;
                    }
                }
                self.costs.data(&section.range(), all, active)?;
            }
            _ => {}
        }
        Ok(())
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
        "a rule gets all it needs through inspect_request: remove them and build for wasm32-unknown-unknown"
    }
}

const I32: ValType = ValType::I32;

/// A function that the ABI knows.
struct Function {
    name: &'static str,
    params: &'static [ValType],
    /// In words, for messages.
    expected: &'static str,
    required: bool,
}

/// The functions of version 1. All of them return one i32.
const FUNCTIONS: [Function; 3] = [
    Function {
        name: "inspect_request",
        params: &[I32, I32],
        expected: "a function (i32, i32) -> i32",
        required: true,
    },
    Function { name: "alloc", params: &[I32], expected: "a function (i32) -> i32", required: false },
    Function {
        name: "configure",
        params: &[I32, I32],
        expected: "a function (i32, i32) -> i32",
        required: false,
    },
];

fn check_exports(types: &TypesRef<'_>, found: &[String]) -> Result<(), CompileError> {
    let export = |name: &str| {
        types
            .core_exports()
            .into_iter()
            .flatten()
            .find(|(export, _)| *export == name)
            .map(|(_, entity)| entity)
    };
    let missing = |name, hint| CompileError::MissingExport { name, found: found.to_vec(), hint };
    match export("memory") {
        Some(EntityType::Memory(_)) => {}
        Some(other) => {
            return Err(CompileError::WrongType {
                export: "memory".into(),
                expected: "the memory",
                found: describe(types, &other),
            });
        }
        None => {
            return Err(missing(
                "memory",
                "export the module's memory under that name (Rust: crate-type cdylib)",
            ));
        }
    }
    for Function { name, params, expected, required } in FUNCTIONS {
        match export(name) {
            Some(EntityType::Func(id))
                if types[id].unwrap_func().params() == params
                    && types[id].unwrap_func().results() == [I32] => {}
            Some(other) => {
                let found = describe(types, &other);
                return Err(CompileError::WrongType { export: name.into(), expected, found });
            }
            None if required => {
                return Err(missing(
                    name,
                    "export the function of the module ABI, version 1 (Rust: #[no_mangle] pub extern \"C\" fn in a cdylib)",
                ));
            }
            None => {}
        }
    }
    Ok(())
}

fn describe(types: &TypesRef<'_>, entity: &EntityType) -> String {
    match entity {
        EntityType::Func(id) | EntityType::FuncExact(id) => {
            let function = types[*id].unwrap_func();
            let list = |list: &[ValType]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let results = match function.results() {
                [] => "nothing".into(),
                [one] => one.to_string(),
                several => format!("({})", list(several)),
            };
            format!("a function ({}) -> {results}", list(function.params()))
        }
        EntityType::Table(_) => "a table".into(),
        EntityType::Memory(_) => "a memory".into(),
        EntityType::Global(_) => "a global".into(),
        EntityType::Tag(_) => "a tag".into(),
    }
}
