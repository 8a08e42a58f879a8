//! Which Wasm a rule may use: version 2.0 and extended constants, nothing that makes results depend on the machine.

use portcullis_engine::{CompileError, Verdict};

use crate::{compile, engine, patient, rule};

#[test]
fn what_compilers_emit_today_runs() {
    let engine = engine();
    for body in [
        // SIMD.
        "(i32x4.extract_lane 0 (i32x4.add (v128.const i32x4 1 2 3 4) (v128.const i32x4 0 0 0 0)))",
        "(i32.extend8_s (i32.const 1))",
        "(i32.trunc_sat_f64_u (f64.const 1.5))",
        "(memory.copy (i32.const 0) (i32.const 8) (i32.const 8)) i32.const 1",
        "(block (result i32 i32) i32.const 1 i32.const 2) drop",
    ] {
        let module = rule(&engine, body);
        assert_eq!(module.inspect(b"{}", &patient()).unwrap().verdict, Verdict::Block, "{body}");
    }
}

#[test]
fn the_bits_of_a_nan_are_the_same_everywhere() {
    let engine = engine();
    let module = rule(
        &engine,
        "(i32.eq (i32.reinterpret_f32 (f32.add (f32.const -nan:0x200001) (f32.const 1))) (i32.const 0x7fc00000))",
    );
    assert_eq!(module.inspect(b"{}", &patient()).unwrap().verdict, Verdict::Block);
}

#[test]
fn everything_else_is_refused() {
    let engine = engine();
    for (what, wat) in [
        (
            "relaxed SIMD",
            "(func (param v128 v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 1)))",
        ),
        ("threads", "(func (drop (i32.atomic.load (i32.const 0))))"),
        ("tail calls", "(func $f (return_call $f))"),
        ("exceptions", "(tag (param i32))"),
        ("garbage collection", "(type (struct (field i32)))"),
        ("external references", "(func (param externref))"),
        ("function references", "(type $t (func)) (func (param (ref null $t)))"),
    ] {
        let error = compile(
            &engine,
            &format!(
                r#"(module (memory (export "memory") 1) {wat}
                     (func (export "inspect_request") (param i32 i32) (result i32) i32.const 0))"#
            ),
        )
        .unwrap_err();
        assert!(matches!(error, CompileError::Invalid { .. }), "{what}: {error:?}");
    }
}
