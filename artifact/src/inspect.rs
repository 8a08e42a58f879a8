//! What a module is, read from its bytes without running it.

mod advice;
mod imports;
mod summary;

use std::fmt;

use thiserror::Error;
use wasmparser::types::{EntityType, TypesRef};
use wasmparser::{KnownCustom, Parser, Payload, ValType, Validator, WasmFeatures};

use crate::content::{is_core_module, looks_like};
use crate::digest::Digest;

pub use summary::{Abi, CustomSection, Export, Import, Memory, ModuleSummary};

/// The bytes are not a valid core WebAssembly module.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotAModule {
    /// Something else altogether.
    #[error("expected a core WebAssembly module, found {looks_like}")]
    OtherContent {
        /// What the bytes look like.
        looks_like: String,
    },
    /// Starts as a module, but is cut off or breaks a rule of the specification.
    #[error("the WebAssembly module is invalid at byte {offset} of {size}: {problem}")]
    Invalid {
        /// Where, from the start.
        offset: usize,
        /// Bytes of the whole file.
        size: usize,
        /// Which rule.
        problem: String,
    },
}

/// Validates a module and describes it.
pub fn inspect(wasm: &[u8]) -> Result<ModuleSummary, NotAModule> {
    if !is_core_module(wasm) {
        return Err(NotAModule::OtherContent { looks_like: looks_like(wasm) });
    }
    let describe = || -> wasmparser::Result<ModuleSummary> {
        let types = Validator::new_with_features(WasmFeatures::default()).validate_all(wasm)?;
        read(wasm, types.as_ref())
    };
    describe().map_err(|error| NotAModule::Invalid {
        offset: error.offset(),
        size: wasm.len(),
        problem: error.message().to_owned(),
    })
}

fn read(wasm: &[u8], types: TypesRef<'_>) -> wasmparser::Result<ModuleSummary> {
    let memory = (types.memory_count() > 0).then(|| types.memory_at(0));
    let mut summary = ModuleSummary {
        digest: Digest::of(wasm),
        size: wasm.len() as u64,
        abi: Vec::new(),
        exports: Vec::new(),
        imports: Vec::new(),
        memory: memory.map(|memory| Memory { min_pages: memory.initial, max_pages: memory.maximum }),
        functions: 0,
        code_size: 0,
        data_size: 0,
        stack: None,
        has_start: false,
        custom_sections: Vec::new(),
        producers: Vec::new(),
        problems: Vec::new(),
        advice: Vec::new(),
    };
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    let kind =
                        types.entity_type_from_import(&import).map(|entity| Kind(entity, types).to_string());
                    let kind = kind.unwrap_or_default();
                    summary.imports.push(Import {
                        module: import.module.into(),
                        name: import.name.into(),
                        kind,
                    });
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    let kind =
                        types.entity_type_from_export(&export).map(|entity| Kind(entity, types).to_string());
                    summary.exports.push(Export { name: export.name.into(), kind: kind.unwrap_or_default() });
                }
            }
            Payload::GlobalSection(globals) => summary.stack = advice::stack_size(globals)?,
            Payload::StartSection { .. } => summary.has_start = true,
            Payload::CodeSectionStart { count, range, .. } => {
                summary.functions = count;
                summary.code_size = range.len() as u64;
            }
            Payload::DataSection(data) => summary.data_size = data.range().len() as u64,
            Payload::CustomSection(section) => {
                let size = section.data().len() as u64;
                summary.custom_sections.push(CustomSection { name: section.name().into(), size });
                if let KnownCustom::Producers(producers) = section.as_known() {
                    // Informative and often hand-made: what cannot be read is left out.
                    summary.producers = read_producers(producers).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
    summary.abi = advice::abi(&summary.exports);
    summary.problems = advice::problems(&summary, memory);
    summary.advice = advice::advice(&summary, summary.stack);
    Ok(summary)
}

fn read_producers(fields: wasmparser::ProducersSectionReader<'_>) -> wasmparser::Result<Vec<String>> {
    let mut producers = Vec::new();
    for field in fields {
        let field = field?;
        for value in field.values {
            let value = value?;
            producers.push(format!("{}: {} {}", field.name, value.name, value.version).trim_end().to_owned());
        }
    }
    Ok(producers)
}

/// Shows the type of an import or export.
struct Kind<'a>(EntityType, TypesRef<'a>);

impl fmt::Display for Kind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(entity, types) = self;
        match entity {
            EntityType::Func(id) | EntityType::FuncExact(id) => {
                let function = types[*id].unwrap_func();
                write!(f, "func ({})", list(function.params()))?;
                match function.results() {
                    [] => Ok(()),
                    [one] => write!(f, " -> {one}"),
                    several => write!(f, " -> ({})", list(several)),
                }
            }
            EntityType::Memory(_) => f.write_str("memory"),
            EntityType::Table(_) => f.write_str("table"),
            EntityType::Global(global) if global.mutable => write!(f, "global mut {}", global.content_type),
            EntityType::Global(global) => write!(f, "global {}", global.content_type),
            EntityType::Tag(_) => f.write_str("tag"),
        }
    }
}

fn list(types: &[ValType]) -> String {
    types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(wat: &str) -> ModuleSummary {
        inspect(&wat::parse_str(wat).unwrap()).unwrap()
    }

    /// As rustc lays a module out: a stack of 1 MiB below the data, hence 17 pages.
    const RUST_DEFAULTS: &str = r#"(module
        (memory (export "memory") 17)
        (global $__stack_pointer (mut i32) (i32.const 1048576))
        (global (export "__data_end") i32 (i32.const 1048600))
        (func (export "inspect_request") (param i32 i32) (result i32) i32.const 0)
        (data (i32.const 1048576) "sqlmap"))"#;

    #[test]
    fn the_parts_of_a_module_are_described() {
        let summary = summary(RUST_DEFAULTS);
        assert_eq!(summary.abi, [Abi::V1]);
        assert_eq!(summary.memory, Some(Memory { min_pages: 17, max_pages: None }));
        assert_eq!(summary.exports[2].name, "inspect_request");
        assert_eq!(summary.exports[2].kind, "func (i32, i32) -> i32");
        assert_eq!(summary.exports[1].kind, "global i32");
        assert_eq!((summary.functions, summary.has_start), (1, false));
        assert!(summary.code_size > 0 && summary.data_size > 6);
        assert_eq!(summary.problems, Vec::<String>::new());
    }

    #[test]
    fn the_default_stack_of_rust_is_named_with_the_flag_that_shrinks_it() {
        let advice = summary(RUST_DEFAULTS).advice.join("\n");
        assert!(advice.contains("17 pages") && advice.contains("-C link-arg=-zstack-size=16384"), "{advice}");
        let small = RUST_DEFAULTS.replace("17", "1").replace("1048576", "16384").replace("1048600", "16390");
        assert_eq!(summary(&small).advice, Vec::<String>::new());
    }

    #[test]
    fn a_memory_over_the_default_limit_is_pointed_out() {
        let advice = summary(&RUST_DEFAULTS.replace(") 17)", ") 65)")).advice.join("\n");
        assert!(advice.contains("65 pages (4160 KiB), more than the default limit of 4096 KiB"), "{advice}");
        assert!(
            !summary(&RUST_DEFAULTS.replace(") 17)", ") 64)")).advice.join("\n").contains("limits.memory")
        );
    }

    #[test]
    fn both_versions_of_the_contract_are_recognised() {
        let both = summary(
            r#"(module (memory (export "memory") 1 4)
                (func (export "inspect_request") (param i32 i32) (result i32) i32.const 0)
                (func (export "pc_buffer") (param i32) (result i32) i32.const 0)
                (func (export "pc_configure") (param i32 i32) (result i32) i32.const 0)
                (func (export "pc_request") (param i32 i32) (result i32) i32.const 0))"#,
        );
        assert_eq!(both.abi, [Abi::V1, Abi::V2]);
        assert_eq!(both.memory, Some(Memory { min_pages: 1, max_pages: Some(4) }));
        assert_eq!(serde_json::to_value(&both).unwrap()["abi"], serde_json::json!(["1", "2"]));
    }

    #[test]
    fn what_keeps_a_module_from_being_a_rule_is_said() {
        for (wat, expected) in [
            (
                r#"(module (memory (export "memory") 1) (func (export "main")))"#,
                "neither \"inspect_request\"",
            ),
            (r#"(module (memory (export "memory") 1) (func (export "main")))"#, "found main"),
            (
                r#"(module (func (export "inspect_request") (param i32 i32) (result i32) i32.const 0))"#,
                "\"memory\"",
            ),
            (
                r#"(module (memory (export "memory") 1) (func (export "inspect_request") (param i32) (result i32) i32.const 0))"#,
                "expected func (i32, i32) -> i32, found func (i32) -> i32",
            ),
            (
                r#"(module (memory (export "memory") 1) (func (export "alloc"))
                    (func (export "inspect_request") (param i32 i32) (result i32) i32.const 0))"#,
                "\"alloc\": expected func (i32) -> i32, found func ()",
            ),
            (
                r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32))))"#,
                "wasi_snapshot_preview1.fd_write",
            ),
            (r#"(module (import "__wbindgen_placeholder__" "__wbindgen_throw" (func)))"#, "wasm-bindgen"),
            (r#"(module (import "env" "puts" (func)))"#, "env.puts"),
            (r#"(module (memory (export "memory") i64 1))"#, "64-bit"),
        ] {
            let problems = summary(wat).problems.join("\n");
            assert!(problems.contains(expected), "{wat}: {problems}");
        }
    }

    #[test]
    fn a_start_function_and_debug_information_are_pointed_out() {
        let mut wasm = wat::parse_str(
            r#"(module (memory (export "memory") 1) (func $s) (start $s)
                (func (export "inspect_request") (param i32 i32) (result i32) i32.const 0))"#,
        )
        .unwrap();
        // A custom section ".debug_info" of 2000 bytes: id 0, length 2012 as LEB128, name length 11.
        wasm.extend_from_slice(&[0, 0xdc, 0x0f, 11]);
        wasm.extend_from_slice(b".debug_info");
        wasm.extend_from_slice(&[0; 2000]);
        let summary = inspect(&wasm).unwrap();
        assert!(summary.has_start);
        assert_eq!(summary.custom_sections.last().unwrap().size, 2000);
        let advice = summary.advice.join("\n");
        assert!(advice.contains("start function") && advice.contains("wasm-opt"), "{advice}");
    }

    #[test]
    fn what_is_not_a_module_is_named() {
        assert!(inspect(b"\x7fELF\x02\x01").unwrap_err().to_string().contains("ELF"));
        assert!(inspect(b"").unwrap_err().to_string().contains("0 bytes"));
        let cut = &wat::parse_str(RUST_DEFAULTS).unwrap()[..40];
        let message = inspect(cut).unwrap_err().to_string();
        assert!(message.contains("of 40"), "{message}");
        let wrong = wat::parse_str("(module (func (result i32)))").unwrap();
        assert!(matches!(inspect(&wrong), Err(NotAModule::Invalid { .. })));
    }
}
