//! What is not a rule is refused before it is compiled, in one sentence.

use portcullis_engine::{CompileError, Engine, EngineConfig};

use crate::{assert_still_serves, compile, engine};

const INSPECT: &str = r#"(func (export "inspect_request") (param i32 i32) (result i32) i32.const 0)"#;

fn refusal(wat: &str) -> CompileError {
    let engine = engine();
    let error = compile(&engine, wat).unwrap_err();
    assert_still_serves(&engine);
    error
}

#[test]
fn what_is_not_wasm_is_named() {
    let engine = engine();
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    for (bytes, found) in [
        (&b""[..], "an empty file"),
        (b"\x7fELF\x02\x01\x01", "ELF"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\n<!DOCTYPE html><html>", "HTML"),
        (b"{\"schemaVersion\": 2}", "JSON"),
        (b"  (module)", "WebAssembly text"),
        (b"PK\x03\x04", "zip"),
        (&tar, "tar"),
        (b"\0as", "3 bytes that start with 00 61 73"),
        (b"\0asm", "only the first 4 bytes of a module"),
        (b"\0asm\x02\0\0\0", "version 2"),
        (b"hello", "68 65 6c 6c 6f"),
    ] {
        let error = engine.compile(bytes).unwrap_err();
        assert!(matches!(error, CompileError::NotWasm { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.contains(found), "{message}");
    }
}

#[test]
fn a_component_is_not_a_module() {
    assert_eq!(engine().compile(b"\0asm\x0d\0\x01\0").unwrap_err(), CompileError::Component);
}

#[test]
fn a_module_cut_short_is_invalid_wherever_it_is_cut() {
    let engine = engine();
    let whole = wat::parse_str(format!(r#"(module (memory (export "memory") 1) {INSPECT})"#)).unwrap();
    for length in 8..whole.len() {
        let error = engine.compile(&whole[..length]).unwrap_err();
        assert!(
            matches!(error, CompileError::Invalid { .. } | CompileError::MissingExport { .. }),
            "{length}: {error:?}"
        );
    }
    assert!(engine.compile(&whole).is_ok());
}

#[test]
fn a_module_with_one_byte_changed_never_harms_the_engine() {
    let engine = engine();
    let whole = wat::parse_str(format!(r#"(module (memory (export "memory") 1) {INSPECT})"#)).unwrap();
    let mut refused = 0;
    for at in 0..whole.len() {
        for flip in [0x01, 0x40, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed[at] ^= flip;
            match engine.compile(&changed) {
                // Whatever it does now, it does it within its limits.
                Ok(module) => drop(module.probe(&crate::patient())),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > whole.len());
    assert_still_serves(&engine);
}

#[test]
fn a_missing_export_is_named_with_what_there_is() {
    let error =
        refusal(r#"(module (memory (export "memory") 1) (func (export "inspect")) (func (export "run")))"#);
    let CompileError::MissingExport { name, ref found, .. } = error else { panic!("{error:?}") };
    assert_eq!(name, "inspect_request");
    assert_eq!(found, &["memory", "inspect", "run"]);
    let message = error.to_string();
    assert!(message.contains("only `memory`, `inspect`, `run`"), "{message}");

    let error = refusal(&format!("(module (memory 1) {INSPECT})"));
    assert!(matches!(error, CompileError::MissingExport { name: "memory", .. }), "{error:?}");
    let error = refusal("(module)");
    assert!(error.to_string().contains("found no exports"), "{error}");
}

#[test]
fn an_export_of_the_wrong_type_is_described() {
    for (wat, export, found) in [
        (
            r#"(module (memory (export "memory") 1) (func (export "inspect_request") (param i32) (result i64) i64.const 0))"#,
            "inspect_request",
            "a function (i32) -> i64",
        ),
        (
            r#"(module (memory (export "memory") 1) (global (export "inspect_request") i32 (i32.const 0)))"#,
            "inspect_request",
            "a global",
        ),
        (&format!(r#"(module (table (export "memory") 1 funcref) {INSPECT})"#), "memory", "a table"),
        (
            &format!(r#"(module (memory (export "memory") 1) (func (export "alloc")) {INSPECT})"#),
            "alloc",
            "a function () -> nothing",
        ),
        (
            &format!(
                r#"(module (memory (export "memory") 1) (func (export "configure") (param i64 i64)) {INSPECT})"#
            ),
            "configure",
            "a function (i64, i64) -> nothing",
        ),
    ] {
        let error = refusal(wat);
        let CompileError::WrongType { export: named, found: described, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!((named.as_str(), described.as_str()), (export, found));
    }
}

#[test]
fn imports_are_listed_with_the_target_to_use() {
    for (module, name, hint) in [
        ("wasi_snapshot_preview1", "fd_write", "wasm32-unknown-unknown"),
        ("__wbindgen_placeholder__", "__wbindgen_describe", "wasm-bindgen"),
        ("wbg", "__wbindgen_throw", "wasm-bindgen"),
        ("env", "abort", "--use abort="),
        ("gojs", "runtime.wasmExit", "TinyGo"),
        ("env", "log", "portcullis.match_set"),
    ] {
        let error = refusal(&format!(
            r#"(module (import "{module}" "{name}" (func)) (memory (export "memory") 1) {INSPECT})"#
        ));
        let message = error.to_string();
        assert!(matches!(error, CompileError::UnsupportedImports { .. }), "{error:?}");
        assert!(message.contains(&format!("{module}.{name}")) && message.contains(hint), "{message}");
    }
}

#[test]
fn a_long_list_of_imports_is_cut_and_cleaned() {
    let imports: String = (0..40).map(|n| format!("(import \"env\" \"f{n}\\0a\\1b[31m\" (func))")).collect();
    let message = refusal(&format!("(module {imports})")).to_string();
    assert!(message.contains("env.f0[31m") && message.contains("and 35 more"), "{message}");
    assert!(!message.contains(char::is_control), "{message}");
}

#[test]
fn a_memory_larger_than_any_rule_may_have_is_refused() {
    let error = refusal(&format!(r#"(module (memory (export "memory") 257) {INSPECT})"#));
    assert_eq!(error, CompileError::MemoryTooLarge { declared: 257 << 16, limit: 16 << 20 });
}

#[test]
fn a_64_bit_memory_is_refused() {
    assert_eq!(
        refusal(&format!(r#"(module (memory (export "memory") i64 1) {INSPECT})"#)),
        CompileError::Memory64
    );
}

#[test]
fn what_the_pool_cannot_hold_is_refused() {
    for (wat, what) in [
        (format!(r#"(module (memory (export "memory") 1) (memory 1) {INSPECT})"#), "memories"),
        (
            format!(r#"(module (memory (export "memory") 1) (table 1 funcref) (table 1 funcref) {INSPECT})"#),
            "tables",
        ),
        (
            format!(r#"(module (memory (export "memory") 1) (table 10001 funcref) {INSPECT})"#),
            "elements of the table",
        ),
        (
            format!(
                r#"(module (memory (export "memory") 1) {} {INSPECT})"#,
                "(global i32 (i32.const 0))".repeat(1_001)
            ),
            "globals",
        ),
        (
            format!(
                r#"(module (memory (export "memory") 100) (data (i32.const 0) "{}") {INSPECT})"#,
                "x".repeat((1 << 20) + 1)
            ),
            "bytes of static data, which every request copies",
        ),
    ] {
        let error = refusal(&wat);
        assert!(matches!(error, CompileError::TooComplex { what: found, .. } if found == what), "{error:?}");
    }
}

#[test]
fn a_huge_function_is_refused_before_the_compiler_sees_it() {
    let body = "(drop (i32.const 0))".repeat(25_000);
    let error = refusal(&format!(r#"(module (memory (export "memory") 1) {INSPECT} (func {body}))"#));
    let CompileError::FunctionTooLarge { function: 1, unit: "bytes", found, limit: 65_536 } = error else {
        panic!("{error:?}")
    };
    assert!(found > 65_536);
}

#[test]
fn forty_thousand_locals_are_refused_before_the_compiler_sees_them() {
    let locals = "i64 ".repeat(40_000);
    let error =
        refusal(&format!(r#"(module (memory (export "memory") 1) {INSPECT} (func (local {locals})))"#));
    assert_eq!(
        error,
        CompileError::FunctionTooLarge { function: 1, unit: "locals", found: 40_000, limit: 2_000 }
    );
}

#[test]
fn nested_loops_that_would_take_the_compiler_minutes_are_refused() {
    let depth = 200;
    let wat = format!(
        r#"(module (memory (export "memory") 1) {INSPECT} (func (local {}) {} {} {}))"#,
        "i64 ".repeat(200),
        "(loop ".repeat(depth),
        (0..200)
            .map(|n| format!("(local.set {n} (i64.const 1)) (br_if {n} (i32.const 1))"))
            .collect::<String>(),
        ")".repeat(depth),
    );
    assert!(matches!(refusal(&wat), CompileError::FunctionTooLarge { unit: "variables times blocks", .. }));
    let wat = format!(
        r#"(module (memory (export "memory") 1) {INSPECT} (func {} {}))"#,
        "(block ".repeat(2_001),
        ")".repeat(2_001),
    );
    assert!(matches!(refusal(&wat), CompileError::FunctionTooLarge { unit: "nested blocks", .. }));
}

#[test]
fn many_functions_that_are_each_allowed_are_too_much_together() {
    let function = format!("(func (local {}) {})", "i64 ".repeat(100), "(block)".repeat(1_000));
    let wat = format!(r#"(module (memory (export "memory") 1) {INSPECT} {})"#, function.repeat(30));
    assert!(matches!(refusal(&wat), CompileError::TooComplex { what: "variables times blocks", .. }));
    let code = format!("(func {})", "(drop (i32.const 0))".repeat(15_000));
    let wat = format!(r#"(module (memory (export "memory") 1) {INSPECT} {})"#, code.repeat(50));
    assert!(matches!(refusal(&wat), CompileError::TooComplex { what: "bytes of code", .. }));
}

#[test]
fn data_outside_the_memory_is_refused() {
    let with = |data: &str| format!(r#"(module (memory (export "memory") 1) {INSPECT} {data})"#);
    for (data, end) in [
        (r#"(data (i32.const 65534) "abc")"#, 65_537),
        (r#"(data (i32.const 65537) "")"#, 65_537),
        (r#"(data (i32.const -1) "abc")"#, (1 << 32) + 2),
    ] {
        let error = refusal(&with(data));
        let expected = CompileError::DataOutOfBounds { segment: 0, end, memory: 65_536 };
        assert_eq!(error, expected);
    }
    for data in [r#"(data (i32.const 65533) "abc")"#, r#"(data (i32.const 65536) "")"#, r#"(data "abc")"#] {
        compile(&engine(), &with(data)).unwrap();
    }
}

#[test]
fn names_of_the_hosts_are_not_exported() {
    for name in ["portcullis.start", "portcullis.global.0"] {
        let wat = format!(r#"(module (memory (export "memory") 1) {INSPECT} (func (export "{name}")))"#);
        assert_eq!(refusal(&wat), CompileError::ReservedExport { name: name.into() });
    }
}

#[test]
fn initialisers_are_bounded_too() {
    let sum = format!("(i32.const 0) {}", "(i32.add (i32.const 1))".repeat(50_000));
    for (section, what) in [
        (format!("(global i32 {sum})"), "bytes of global initialisers"),
        (format!("(table 1 funcref) (elem (offset {sum}) func)"), "bytes of element segments"),
        (format!("(data (offset {sum}) \"x\")"), "bytes of data segments' heads"),
    ] {
        let error = refusal(&format!(r#"(module (memory (export "memory") 1) {section} {INSPECT})"#));
        assert!(matches!(error, CompileError::TooComplex { what: found, .. } if found == what), "{error:?}");
    }
}

#[test]
fn a_module_beyond_the_engines_size_is_refused_unread() {
    let engine =
        Engine::new(&EngineConfig { workers: 1, max_module_bytes: 1_000, ..EngineConfig::default() })
            .unwrap();
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    module.resize(1_001, 0xff);
    assert_eq!(engine.compile(&module).unwrap_err(), CompileError::TooLarge { size: 1_001, limit: 1_000 });
}

#[test]
fn what_a_module_declares_is_told() {
    let engine = engine();
    let module =
        compile(&engine, &format!(r#"(module (memory (export "memory") 17) (func) {INSPECT})"#)).unwrap();
    let info = module.info();
    assert_eq!((info.abi, info.memory_bytes, info.functions), (1, 17 << 16, 2));
    assert_eq!(info.exports, ["memory", "inspect_request"]);
    assert!(info.size > 0);
}
