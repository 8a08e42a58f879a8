//! Modules of the tests, written as text.

use portcullis_engine::{Inspection, Module, Phase};
use portcullis_view::View;

use crate::patient;

/// ABI 1: always blocks.
pub(crate) fn blocks() -> Vec<u8> {
    wat::parse_str(
        r#"(module (memory (export "memory") 1)
             (func (export "inspect_request") (param i32 i32) (result i32) i32.const 1))"#,
    )
    .unwrap()
}

/// ABI 2. Its configuration is one letter: `V` and a digit is its verdict, `N` is refused with 7 and a message, `n` with
/// 8 and none, `T` traps, `L` loops, `M` grows, `G` logs, `S` searches. It keeps the verdict in memory and adds one to it
/// at each request, counts in a global too, and describes itself after its configuration.
pub(crate) fn configurable() -> Vec<u8> {
    wat::parse_str(format!(
        r#"(module
             (import "portcullis" "log" (func $log (param i32 i32 i32)))
             (import "portcullis" "match_set" (func $match_set (param i32 i32 i32) (result i32)))
             (memory (export "memory") 2)
             (global $next (mut i32) (i32.const 4096))
             (global $runs (mut i32) (i32.const 0))
             (data (i32.const 64) "{detail}")
             (data (i32.const 256) "{describe}")
             (data (i32.const 1024) "static")
             (func (export "pc_buffer") (param $length i32) (result i32)
               (local $at i32)
               (local.set $at (global.get $next))
               (global.set $next (i32.add (global.get $next) (local.get $length)))
               (local.get $at))
             (func (export "pc_configure") (param $at i32) (param $length i32) (result i32)
               (local $letter i32)
               (local.set $letter (i32.load8_u (local.get $at)))
               (if (i32.eq (local.get $letter) (i32.const {N})) (then (i32.store8 (i32.const 16) (i32.const 1)) (return (i32.const 7))))
               (if (i32.eq (local.get $letter) (i32.const {n})) (then (return (i32.const 8))))
               (if (i32.eq (local.get $letter) (i32.const {T})) (then unreachable))
               (if (i32.eq (local.get $letter) (i32.const {L})) (then (loop $again (br $again))))
               (if (i32.eq (local.get $letter) (i32.const {M})) (then (drop (memory.grow (i32.const 1000)))))
               (if (i32.eq (local.get $letter) (i32.const {G})) (then (call $log (i32.const 1) (local.get $at) (local.get $length))))
               (if (i32.eq (local.get $letter) (i32.const {S})) (then (drop (call $match_set (i32.const 0) (local.get $at) (i32.const 1)))))
               (i32.store8 (i32.const 8) (i32.sub (i32.load8_u offset=1 (local.get $at)) (i32.const {zero})))
               (i32.const 0))
             (func (export "pc_describe") (result i64)
               (i64.const {described_at}))
             (func (export "pc_detail") (result i64)
               (if (result i64) (i32.load8_u (i32.const 16))
                 (then (i64.const {detailed_at}))
                 (else (i64.const 0))))
             (func (export "pc_request") (param i32 i32) (result i32)
               (global.set $runs (i32.add (global.get $runs) (i32.const 1)))
               (i32.store8 (i32.const 8) (i32.add (i32.load8_u (i32.const 8)) (i32.const 1)))
               (i32.sub (i32.load8_u (i32.const 8)) (global.get $runs))))"#,
        detail = r"\01\00\00\00\0b\00\00\00no such list\00",
        describe = r#"{\22name\22:\22configured\22,\22sections\22:[\22path\22]}"#,
        described_at = (256_u64 << 32) + 41,
        detailed_at = (64_u64 << 32) + 20,
        N = u32::from(b'N'),
        n = u32::from(b'n'),
        T = u32::from(b'T'),
        L = u32::from(b'L'),
        M = u32::from(b'M'),
        G = u32::from(b'G'),
        S = u32::from(b'S'),
        zero = u32::from(b'0'),
    ))
    .unwrap()
}

/// Runs a module of ABI 2 on a request of which it sees nothing.
pub(crate) fn run(module: &Module) -> Inspection {
    module.inspect_view(Phase::Request, &View::new(), &[], &patient()).unwrap()
}
