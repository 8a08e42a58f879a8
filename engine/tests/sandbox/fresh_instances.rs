//! No request sees anything of another one.

use portcullis_engine::Verdict;

use crate::{compile, engine, patient};

#[test]
fn globals_memory_and_tables_are_new_for_each_request() {
    let engine = engine();
    // Blocks if it finds traces of an earlier run, in a global, at both ends of its memory, in grown memory, in the
    // table; then leaves traces in all of them.
    let module = compile(
        &engine,
        r#"(module
             (memory (export "memory") 20)
             (table $table 2 10 funcref)
             (elem (i32.const 0) $nothing)
             (global $seen (mut i32) (i32.const 0))
             (func $nothing)
             (func (export "inspect_request") (param $ptr i32) (param $len i32) (result i32)
               (local $traces i32) (local $grown i32)
               (local.set $grown (i32.mul (memory.grow (i32.const 1)) (i32.const 65536)))
               (local.set $traces
                 (i32.or (global.get $seen)
                 (i32.or (i32.load (i32.const 0))
                 (i32.or (i32.load (i32.const 1310716))
                 (i32.or (i32.load offset=65532 (local.get $grown))
                 (i32.or (i32.eqz (ref.is_null (table.get $table (i32.const 1))))
                         (i32.ne (table.size $table) (i32.const 2))))))))
               (global.set $seen (i32.const 1))
               (i32.store (i32.const 0) (i32.const -1))
               (i32.store (i32.const 1310716) (i32.const -1))
               (i32.store offset=65532 (local.get $grown) (i32.const -1))
               (table.set $table (i32.const 1) (ref.func $nothing))
               (drop (table.grow $table (ref.func $nothing) (i32.const 3)))
               (i32.ne (local.get $traces) (i32.const 0))))"#,
    )
    .unwrap();
    for _ in 0..100 {
        assert_eq!(module.inspect(b"{}", &patient()).unwrap().verdict, Verdict::Allow);
    }
}

#[test]
fn a_rule_finds_nothing_of_another_rule_in_its_memory() {
    let engine = engine();
    let writer = compile(
        &engine,
        r#"(module (memory (export "memory") 30)
             (func (export "inspect_request") (param i32 i32) (result i32)
               (local $at i32)
               (loop $again
                 (i32.store (local.get $at) (i32.const 0x5ec8e7))
                 (local.set $at (i32.add (local.get $at) (i32.const 512)))
                 (br_if $again (i32.lt_u (local.get $at) (i32.const 1966080))))
               i32.const 0))"#,
    )
    .unwrap();
    let reader = compile(
        &engine,
        r#"(module (memory (export "memory") 30)
             (func (export "inspect_request") (param i32 i32) (result i32)
               (local $at i32)
               (loop $again
                 (if (i32.load (local.get $at)) (then (return (i32.const 1))))
                 (local.set $at (i32.add (local.get $at) (i32.const 512)))
                 (br_if $again (i32.lt_u (local.get $at) (i32.const 1966080))))
               i32.const 0))"#,
    )
    .unwrap();
    for _ in 0..20 {
        assert_eq!(writer.inspect(b"{}", &patient()).unwrap().verdict, Verdict::Allow);
        assert_eq!(reader.inspect(b"{}", &patient()).unwrap().verdict, Verdict::Allow);
    }
}

#[test]
fn a_run_that_failed_leaves_nothing_behind() {
    let engine = engine();
    let module = compile(
        &engine,
        r#"(module (memory (export "memory") 1)
             (func (export "inspect_request") (param $ptr i32) (param $len i32) (result i32)
               (if (i32.load (i32.const 8)) (then (return (i32.const 1))))
               (i32.store (i32.const 8) (i32.const 1))
               (if (i32.gt_u (local.get $len) (i32.const 2)) (then unreachable))
               i32.const 0))"#,
    )
    .unwrap();
    for _ in 0..20 {
        assert!(module.inspect(b"traps", &patient()).is_err());
        assert_eq!(module.inspect(b"{}", &patient()).unwrap().verdict, Verdict::Allow);
    }
}
