//! The functions of the module ABI: which a module has to export, and of which type.

use wasmparser::ValType;
use wasmparser::types::{EntityType, TypesRef};

use crate::abi2::table::{IMPORT_MODULE, export, import};
use crate::compile_error::CompileError;
use crate::phase::{Phase, Phases};

const I32: ValType = ValType::I32;
const I64: ValType = ValType::I64;

/// A version of the module ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abi {
    V1,
    V2,
}

/// A function that the ABI knows.
struct Function {
    name: &'static str,
    params: &'static [ValType],
    results: &'static [ValType],
    /// In words, for messages.
    expected: &'static str,
    required: bool,
}

impl Function {
    const fn required(name: &'static str) -> Self {
        Self { required: true, ..Self::two_to_one(name) }
    }

    const fn two_to_one(name: &'static str) -> Self {
        let (params, results): (&[ValType], &[ValType]) = (&[I32, I32], &[I32]);
        Self { name, params, results, expected: "a function (i32, i32) -> i32", required: false }
    }

    const fn one_to_one(name: &'static str, required: bool) -> Self {
        Self { name, params: &[I32], results: &[I32], expected: "a function (i32) -> i32", required }
    }

    const fn to_bytes(name: &'static str) -> Self {
        Self { name, params: &[], results: &[I64], expected: "a function () -> i64", required: false }
    }
}

const VERSION_1: &[Function] = &[
    Function::required("inspect_request"),
    Function::one_to_one("alloc", false),
    Function::two_to_one("configure"),
];

const VERSION_2: &[Function] = &[
    Function::one_to_one(export::BUFFER, true),
    Function::two_to_one(export::REQUEST),
    Function::two_to_one(export::REQUEST_BODY),
    Function::two_to_one(export::RESPONSE),
    Function::two_to_one(export::MESSAGE),
    Function::two_to_one(export::HOOK),
    Function::two_to_one(export::CONFIGURE),
    Function::to_bytes(export::DESCRIBE),
    Function::to_bytes(export::DETAIL),
    Function::to_bytes(export::CARRY),
];

/// What a module may import, all of it from the module `portcullis`.
const IMPORTS: &[Function] = &[
    Function {
        name: import::LOG,
        params: &[I32, I32, I32],
        results: &[],
        expected: "a function (i32, i32, i32)",
        required: false,
    },
    Function {
        name: import::MATCH_SET,
        params: &[I32, I32, I32],
        results: &[I32],
        expected: "a function (i32, i32, i32) -> i32",
        required: false,
    },
];

/// Whether a host has an import of that name; its type is checked by [`check`].
pub(crate) fn is_offered(module: &str, name: &str) -> bool {
    module == IMPORT_MODULE && IMPORTS.iter().any(|import| import.name == name)
}

/// The version of the ABI that a module is run with, and its phases. `found` are the names of all exports.
pub(crate) fn check(types: &TypesRef<'_>, found: &[String]) -> Result<(Abi, Phases), CompileError> {
    check_imports(types)?;
    let phases: Phases =
        Phase::ALL.into_iter().filter(|phase| found.iter().any(|name| name == phase.export())).collect();
    let abi = if phases.is_empty() { Abi::V1 } else { Abi::V2 };
    check_memory(types, found)?;
    let functions = match abi {
        Abi::V1 => VERSION_1,
        Abi::V2 => VERSION_2,
    };
    for function in functions {
        check_export(types, found, function, abi)?;
    }
    Ok((abi, phases))
}

fn check_imports(types: &TypesRef<'_>) -> Result<(), CompileError> {
    for (module, name, entity) in types.core_imports().into_iter().flatten() {
        let offered = IMPORTS.iter().find(|import| module == IMPORT_MODULE && import.name == name);
        if let Some(import) = offered
            && !is_function(types, &entity, import)
        {
            return Err(CompileError::WrongImport {
                import: import.name,
                expected: import.expected,
                found: describe(types, &entity),
            });
        }
    }
    Ok(())
}

fn check_memory(types: &TypesRef<'_>, found: &[String]) -> Result<(), CompileError> {
    match exported(types, export::MEMORY) {
        Some(EntityType::Memory(_)) => Ok(()),
        Some(other) => Err(CompileError::WrongType {
            export: export::MEMORY.into(),
            expected: "the memory",
            found: describe(types, &other),
        }),
        None => Err(CompileError::MissingExport {
            name: export::MEMORY,
            found: found.to_vec(),
            hint: "export the module's memory under that name (Rust: crate-type cdylib)",
        }),
    }
}

fn check_export(
    types: &TypesRef<'_>,
    found: &[String],
    function: &Function,
    abi: Abi,
) -> Result<(), CompileError> {
    match exported(types, function.name) {
        Some(entity) if is_function(types, &entity, function) => Ok(()),
        Some(other) => Err(CompileError::WrongType {
            export: function.name.into(),
            expected: function.expected,
            found: describe(types, &other),
        }),
        None if function.required => Err(CompileError::MissingExport {
            name: function.name,
            found: found.to_vec(),
            hint: match abi {
                Abi::V1 => {
                    "export pc_buffer and pc_request of module ABI 2, or this function of ABI 1 (Rust: #[no_mangle] pub extern \"C\" fn in a cdylib)"
                }
                Abi::V2 => "module ABI 2 asks for it: it says where the host may write the view",
            },
        }),
        None => Ok(()),
    }
}

fn exported(types: &TypesRef<'_>, name: &str) -> Option<EntityType> {
    types.core_exports().into_iter().flatten().find(|(export, _)| *export == name).map(|(_, entity)| entity)
}

fn is_function(types: &TypesRef<'_>, entity: &EntityType, expected: &Function) -> bool {
    let EntityType::Func(id) = entity else { return false };
    let function = types[*id].unwrap_func();
    function.params() == expected.params && function.results() == expected.results
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
