//! A module is configured once, and every instance of it starts configured.

use portcullis_engine::{CompileError, Module, Verdict};

use crate::modules::{blocks, configurable, run};
use crate::{compiler, engine, patient, tests};

tests![
    a_configured_module_starts_configured_every_time,
    another_configuration_is_another_rule,
    without_a_configuration_nothing_is_called,
    a_module_describes_itself_after_it_was_configured,
    a_refused_configuration_says_why,
    a_module_that_fails_while_it_is_configured_is_refused,
    a_module_that_takes_no_configuration_is_refused_with_one,
    a_module_that_changes_its_table_cannot_be_frozen,
    a_module_of_abi_1_is_configured_too,
    memory_that_was_added_for_the_configuration_stays,
    what_the_configuration_builds_is_bounded_like_static_data,
    what_is_scattered_over_memory_becomes_one_segment,
];

fn configured(wasm: &[u8], config: &str) -> Result<Module, CompileError> {
    compiler().compile(&engine(), wasm, Some(config.as_bytes()))
}

fn a_configured_module_starts_configured_every_time() {
    let module = configured(&configurable(), "V2").unwrap();
    for _ in 0..50 {
        assert_eq!(run(&module).verdict, Verdict::Log);
    }
}

fn another_configuration_is_another_rule() {
    let (engine, compiler, wasm) = (engine(), compiler(), configurable());
    let one = compiler.compile(&engine, &wasm, Some(b"V1")).unwrap();
    let three = compiler.compile(&engine, &wasm, Some(b"V3")).unwrap();
    for _ in 0..10 {
        assert_eq!((run(&one).verdict, run(&three).verdict), (Verdict::Block, Verdict::RateLimit));
    }
}

fn without_a_configuration_nothing_is_called() {
    let module = compiler().compile(&engine(), &configurable(), None).unwrap();
    assert_eq!(run(&module).verdict, Verdict::Allow);
    assert_eq!(module.info().describe.name, "");
}

fn a_module_describes_itself_after_it_was_configured() {
    let wasm = configurable();
    let module = configured(&wasm, "V1").unwrap();
    assert_eq!(module.info().describe.name, "configured");
    // The size that is told is the module's.
    assert_eq!(module.info().size, wasm.len());
}

fn a_refused_configuration_says_why() {
    let error = configured(&configurable(), "N").unwrap_err();
    assert_eq!(error, CompileError::ConfigRefused { code: 7, message: Some("no such lis".into()) });
    assert!(error.to_string().contains("refused the rule's `config` with 7: no such lis"), "{error}");
    assert!(!error.is_host_fault());
    let error = configured(&configurable(), "n").unwrap_err();
    assert_eq!(error, CompileError::ConfigRefused { code: 8, message: None });
}

fn a_module_that_fails_while_it_is_configured_is_refused() {
    for (config, found) in [
        ("T", "unreachable"),
        ("L", "fuel"),
        ("M", "bytes of memory"),
        ("S", "match_set is there for requests"),
    ] {
        let error = configured(&configurable(), config).unwrap_err();
        let CompileError::ConfigFailed { step, reason } = &error else { panic!("{error:?}") };
        assert_eq!(step, "pc_configure");
        assert!(reason.contains(found), "{error}");
    }
    assert!(configured(&configurable(), "G1").is_ok());
}

fn a_module_that_takes_no_configuration_is_refused_with_one() {
    let error = configured(&blocks(), "{}").unwrap_err();
    assert_eq!(error, CompileError::NotConfigurable { expected: "configure" });
    let abi_2 = wat::parse_str(
        r#"(module (memory (export "memory") 1)
             (func (export "pc_buffer") (param i32) (result i32) i32.const 0)
             (func (export "pc_request") (param i32 i32) (result i32) i32.const 0))"#,
    )
    .unwrap();
    let error = configured(&abi_2, "{}").unwrap_err();
    assert_eq!(error, CompileError::NotConfigurable { expected: "pc_configure" });
}

fn a_module_that_changes_its_table_cannot_be_frozen() {
    let wasm = wat::parse_str(
        r#"(module (memory (export "memory") 1) (table 2 funcref) (elem declare func $f)
             (func $f)
             (func (export "configure") (param i32 i32) (result i32)
               (table.set (i32.const 0) (ref.func $f)) i32.const 0)
             (func (export "inspect_request") (param i32 i32) (result i32) i32.const 0))"#,
    )
    .unwrap();
    let error = configured(&wasm, "{}").unwrap_err();
    let CompileError::CannotFreeze { reason } = &error else { panic!("{error:?}") };
    assert!(reason.contains("table.set"), "{error}");
    assert!(compiler().compile(&engine(), &wasm, None).is_ok());
}

fn a_module_of_abi_1_is_configured_too() {
    let with_alloc = r#"(func (export "alloc") (param i32) (result i32) i32.const 1024)"#;
    for alloc in ["", with_alloc] {
        let wasm = wat::parse_str(format!(
            r#"(module (memory (export "memory") 1) {alloc}
                 (func (export "configure") (param $at i32) (param $length i32) (result i32)
                   (i32.store (i32.const 0) (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))
                   (i32.sub (local.get $length) (i32.const 1)))
                 (func (export "inspect_request") (param i32 i32) (result i32)
                   (i32.load (i32.const 0))
                   (i32.store (i32.const 0) (i32.const 0))))"#
        ))
        .unwrap();
        let module = configured(&wasm, "2").unwrap();
        for _ in 0..10 {
            assert_eq!(module.inspect(b"{}", &patient()).unwrap().verdict, Verdict::Log);
        }
        assert_eq!(
            configured(&wasm, "12").unwrap_err(),
            CompileError::ConfigRefused { code: 1, message: None }
        );
    }
}

fn memory_that_was_added_for_the_configuration_stays() {
    let wasm = grows_and_fills(3, "(i32.mul (i32.const 3) (i32.const 65536))");
    let module = configured(&wasm, "x").unwrap();
    // One for the module, one for the configuration, three of its own.
    assert_eq!(module.info().memory_bytes, 5 << 16);
    assert_eq!(module.inspect(b"{}", &patient()).unwrap().verdict, Verdict::Block);
    assert!(module.info().data_bytes < 3 * 65_536 + 1_024, "{}", module.info().data_bytes);
}

fn what_the_configuration_builds_is_bounded_like_static_data() {
    let error = configured(&grows_and_fills(17, "(i32.const 1048577)"), "x").unwrap_err();
    let CompileError::TooComplex { what, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*what, "bytes of static data, which every request copies");
}

/// Adds pages and fills so many bytes of them; at a request it looks at the last.
fn grows_and_fills(pages: u32, bytes: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(module (memory (export "memory") 1) (global $at (mut i32) (i32.const 0))
             (func (export "configure") (param i32 i32) (result i32)
               (global.set $at (i32.mul (memory.grow (i32.const {pages})) (i32.const 65536)))
               (memory.fill (global.get $at) (i32.const 120) {bytes})
               (i32.const 0))
             (func (export "inspect_request") (param i32 i32) (result i32)
               (i32.eq (i32.load8_u (i32.sub (i32.add (global.get $at) {bytes}) (i32.const 1))) (i32.const 120))))"#
    ))
    .unwrap()
}

fn what_is_scattered_over_memory_becomes_one_segment() {
    // One byte in 64 is set, over 256 KiB: 4,096 runs of bytes that are not zero.
    let wasm = wat::parse_str(
        r#"(module (memory (export "memory") 6)
             (func (export "configure") (param i32 i32) (result i32)
               (local $at i32)
               (local.set $at (i32.const 65536))
               (loop $next
                 (i32.store8 (local.get $at) (i32.const 1))
                 (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 64))) (i32.const 327680))))
               (i32.const 0))
             (func (export "inspect_request") (param i32 i32) (result i32) (i32.load8_u (i32.const 327616))))"#,
    )
    .unwrap();
    let module = configured(&wasm, "x").unwrap();
    assert_eq!(module.inspect(b"{}", &patient()).unwrap().verdict, Verdict::Block);
    assert!((262_000..263_000).contains(&module.info().data_bytes), "{}", module.info().data_bytes);
}
