//! How the request gets into the module's memory.

use portcullis_engine::{Cause, Engine, InspectError, Limits, Module, Step, Verdict};

use crate::{assert_still_serves, compile, engine, patient};

/// A rule that blocks if the first and the last byte of the input are `{` and `}`, with the given memory and `alloc`.
fn braces(engine: &Engine, memory: &str, more: &str) -> Module {
    compile(
        engine,
        &format!(
            r#"(module (memory (export "memory") {memory}) {more}
                 (func (export "inspect_request") (param $ptr i32) (param $len i32) (result i32)
                   (i32.and
                     (i32.eq (i32.load8_u (local.get $ptr)) (i32.const 123))
                     (i32.eq
                       (i32.load8_u (i32.sub (i32.add (local.get $ptr) (local.get $len)) (i32.const 1)))
                       (i32.const 125)))))"#
        ),
    )
    .unwrap()
}

fn alloc(result: &str) -> String {
    format!(r#"(func (export "alloc") (param i32) (result i32) {result})"#)
}

fn request(bytes: usize) -> Vec<u8> {
    let mut request = vec![b' '; bytes];
    request[0] = b'{';
    request[bytes - 1] = b'}';
    request
}

#[test]
fn without_alloc_the_request_is_behind_everything_the_module_has() {
    let engine = engine();
    let module = compile(
        &engine,
        r#"(module (memory (export "memory") 2) (data (i32.const 131068) "data")
             (func (export "inspect_request") (param $ptr i32) (param $len i32) (result i32)
               (i32.and
                 (i32.eq (local.get $ptr) (i32.const 131072))
                 (i32.eq (i32.load (i32.const 131068)) (i32.const 0x61746164)))))"#,
    )
    .unwrap();
    for bytes in [2, 65_536, 65_537, 300_000] {
        assert_eq!(module.inspect(&request(bytes), &patient()).unwrap().verdict, Verdict::Block);
    }
}

#[test]
fn every_byte_of_the_request_arrives() {
    let engine = engine();
    let appended = braces(&engine, "0", "");
    let allocated = braces(&engine, "8", &alloc("i32.const 16"));
    for module in [appended, allocated] {
        for bytes in [2, 1_024, 65_535, 65_536, 65_537, 400_000] {
            assert_eq!(
                module.inspect(&request(bytes), &patient()).unwrap().verdict,
                Verdict::Block,
                "{bytes}"
            );
        }
    }
}

#[test]
fn an_empty_input_is_handed_over() {
    let engine = engine();
    let module = compile(
        &engine,
        r#"(module (memory (export "memory") 0)
             (func (export "inspect_request") (param i32 i32) (result i32) (local.get 1)))"#,
    )
    .unwrap();
    assert_eq!(module.inspect(b"", &patient()).unwrap().verdict, Verdict::Allow);
}

#[test]
fn alloc_may_grow_the_memory_and_use_the_last_byte() {
    let engine = engine();
    let grows = alloc(
        "(i32.mul (memory.grow (i32.div_u (i32.add (local.get 0) (i32.const 65535)) (i32.const 65536))) (i32.const 65536))",
    );
    let module = braces(&engine, "1", &grows);
    assert_eq!(module.inspect(&request(65_536), &patient()).unwrap().verdict, Verdict::Block);
    let to_the_end = braces(&engine, "1", &alloc("(i32.sub (i32.const 65536) (local.get 0))"));
    assert_eq!(to_the_end.inspect(&request(1_000), &patient()).unwrap().verdict, Verdict::Block);
}

#[test]
fn a_buffer_outside_the_memory_is_refused() {
    let engine = engine();
    // Outside; straddling the end; wrapping around 2^32; the sign bit.
    for (result, address) in [
        ("65536", 65_536),
        ("65530", 65_530),
        ("-1", u32::MAX),
        ("-10", u32::MAX - 9),
        ("-2147483648", 1 << 31),
    ] {
        let module = braces(&engine, "1", &alloc(&format!("i32.const {result}")));
        let error = module.inspect(&request(20), &patient()).unwrap_err();
        assert_eq!(error, InspectError::BadBuffer { step: Step::Alloc, address, length: 20, memory: 65_536 });
        assert_eq!(error.cause(), Cause::Error);
        assert_still_serves(&engine);
    }
}

#[test]
fn an_alloc_without_memory_left_is_a_request_that_does_not_fit() {
    let engine = engine();
    let module = braces(&engine, "1", &alloc("i32.const 0"));
    let error = module.inspect(&request(20), &patient()).unwrap_err();
    assert_eq!(error, InspectError::RequestDoesNotFit { bytes: 20, limit: 4 << 20 });
    assert_eq!(error.cause(), Cause::Budget);
}

#[test]
fn an_alloc_that_misbehaves_is_named() {
    let engine = engine();
    let traps = braces(&engine, "1", &alloc("unreachable"));
    let error = traps.inspect(b"{}", &patient()).unwrap_err();
    assert!(matches!(error, InspectError::Trap { step: Step::Alloc, .. }), "{error:?}");
    let loops = braces(&engine, "1", &alloc("(loop $again (br $again)) i32.const 8"));
    let error = loops.inspect(b"{}", &patient()).unwrap_err();
    assert_eq!(error, InspectError::OutOfFuel { step: Step::Alloc, budget: 100_000 });
}

#[test]
fn a_request_that_does_not_fit_into_the_limit_is_said_so() {
    let engine = engine();
    let module = braces(&engine, "1", "");
    let limits = Limits { memory_bytes: 2 << 16, ..patient() };
    assert!(module.inspect(&request(65_536), &limits).is_ok());
    let error = module.inspect(&request(65_537), &limits).unwrap_err();
    assert_eq!(error, InspectError::RequestDoesNotFit { bytes: 65_537, limit: 2 << 16 });
    assert_eq!(error.cause(), Cause::Budget);
    // The module's own maximum counts too.
    let full = braces(&engine, "1 1", "");
    assert!(matches!(full.inspect(b"{}", &patient()), Err(InspectError::RequestDoesNotFit { .. })));
}

#[test]
fn a_limit_above_the_engines_is_the_engines() {
    let engine = engine();
    let module = braces(&engine, "1", "");
    let limits = Limits { memory_bytes: u64::MAX, ..patient() };
    let error = module.inspect(&request(16 << 20), &limits).unwrap_err();
    assert_eq!(error, InspectError::RequestDoesNotFit { bytes: 16 << 20, limit: 16 << 20 });
}
