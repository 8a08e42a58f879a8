//! Nothing of one request is ever visible in another, nor anything of one rule in another: whoever looks finds zeros.
//!
//! A rule is given a request full of a marker and spreads it over its memory, its globals, its table and its stack; it
//! then returns, traps or runs out of fuel. After each, other instances look for the marker in all they can reach.

use std::thread;
use std::time::Duration;

use portcullis_engine::{Engine, EngineConfig, InspectError, Limits, Module, Phase, Verdict, WorkerInstance};
use portcullis_view::{Head, Reader, Sections, View};

/// Eight bytes that nothing else writes.
const MARKER: &[u8; 8] = b"\xa7LEAKED\xa7";

/// Slots of the pool; each attack is repeated more often than that.
const SLOTS: usize = 8;

fn engine() -> Engine {
    Engine::new(&EngineConfig { workers: SLOTS / 4, ..EngineConfig::default() }).unwrap()
}

/// All of 4 MiB is searched byte by byte.
fn limits() -> Limits {
    Limits { fuel: 500_000_000, fuel_per_byte: 0, memory_bytes: 4 << 20, deadline: Duration::from_secs(60) }
}

fn little_fuel() -> Limits {
    Limits { fuel: 20_000_000, ..limits() }
}

fn request(marker: &[u8], sections: Sections, view: &mut View) {
    let head = Head::from_localhost(b"POST", b"/");
    let long = marker.repeat(1 + usize::from(!marker.is_empty()) * 2_000);
    let fields: [(&[u8], &[u8]); 3] = [(b"host", b"localhost"), (b"x-secret", &long), (b"cookie", marker)];
    // What a request has that the next one lacks must not stay.
    let fields = if marker.is_empty() { &fields[..1] } else { &fields[..] };
    view.head(&head, fields.iter().copied(), sections);
    if !marker.is_empty() {
        view.body(&long, sections);
        view.trailers([(&b"x"[..], marker)], sections);
        view.response_head(200, [(&b"x"[..], marker)], sections);
        view.response_body(&long, sections);
        view.hook(b"sql", marker, [&long[..]], sections);
    }
}

fn view_of(marker: &[u8], sections: Sections) -> View {
    let mut view = View::new();
    request(marker, sections, &mut view);
    view
}

/// The number that the marker is in memory.
fn marker() -> i64 {
    i64::from_le_bytes(*MARKER)
}

/// Spreads the marker over everything, then ends with `end`.
fn writer(engine: &Engine, pages: u32, grown: u32, end: &str) -> Module {
    compile(
        engine,
        &format!(
            r#"(module
                 (memory (export "memory") {pages})
                 (table $table 100 funcref)
                 (elem declare func $down)
                 (global $a (mut i64) (i64.const 0))
                 (global $b (mut v128) (v128.const i64x2 0 0))
                 (func (export "pc_buffer") (param i32) (result i32) i32.const 1024)
                 (func (export "pc_carry") (result i64) i64.const 0x1000)
                 (func (export "pc_detail") (result i64) i64.const 0x4000000010)
                 (func (export "pc_request") (param $ptr i32) (param $len i32) (result i32)
                   (local $at i32) (local $end i32)
                   (drop (memory.grow (i32.const {grown})))
                   (global.set $a (i64.const {marker}))
                   (global.set $b (i64x2.splat (i64.const {marker})))
                   (table.fill $table (i32.const 0) (ref.func $down) (i32.const 100))
                   (drop (table.grow $table (ref.func $down) (i32.const 900)))
                   (drop (call $down (i64.const {marker}) (i32.const 500)))
                   (local.set $end (i32.mul (memory.size) (i32.const 65536)))
                   (loop $again
                     (i64.store (local.get $at) (i64.const {marker}))
                     (local.set $at (i32.add (local.get $at) (i32.const 8)))
                     (br_if $again (i32.lt_u (local.get $at) (local.get $end))))
                   {end})
                 ;; Leaves the marker on the stack, deep down.
                 (func $down (param i64 i32) (result i64)
                   (if (result i64) (local.get 1)
                     (then (i64.xor (local.get 0)
                       (call $down (local.get 0) (i32.sub (local.get 1) (i32.const 1)))))
                     (else (local.get 0)))))"#,
            marker = marker(),
        ),
    )
}

/// Blocks if it finds anything that is not zero in its memory outside its buffer, in its globals, its table, or in
/// locals that were never set; memory is grown as far as it goes and then searched.
fn finder(engine: &Engine, pages: u32) -> Module {
    compile(
        engine,
        &format!(
            r#"(module
                 (memory (export "memory") {pages})
                 (table $table 100 1000 funcref)
                 (global $a (mut i64) (i64.const 0))
                 (global $b (mut v128) (v128.const i64x2 0 0))
                 (func (export "pc_buffer") (param i32) (result i32) i32.const 1024)
                 (func (export "pc_request") (param $ptr i32) (param $len i32) (result i32)
                   (local $at i32) (local $end i32)
                   (local $never i64) (local $never2 v128)
                   (memory.fill (local.get $ptr) (i32.const 0) (local.get $len))
                   (drop (memory.grow (i32.sub (i32.const 64) (memory.size))))
                   (drop (table.grow $table (ref.null func) (i32.const 900)))
                   (if (i64.ne (global.get $a) (i64.const 0)) (then (return (i32.const 1))))
                   (if (v128.any_true (global.get $b)) (then (return (i32.const 1))))
                   (if (i64.ne (local.get $never) (i64.const 0)) (then (return (i32.const 1))))
                   (if (v128.any_true (local.get $never2)) (then (return (i32.const 1))))
                   (loop $again
                     (if (i32.eqz (ref.is_null (table.get $table (local.get $at)))) (then (return (i32.const 1))))
                     (local.set $at (i32.add (local.get $at) (i32.const 1)))
                     (br_if $again (i32.lt_u (local.get $at) (i32.const 1000))))
                   (local.set $at (i32.const 0))
                   (local.set $end (i32.mul (memory.size) (i32.const 65536)))
                   (loop $again
                     (if (v128.any_true (v128.load (local.get $at))) (then (return (i32.const 1))))
                     (local.set $at (i32.add (local.get $at) (i32.const 16)))
                     (br_if $again (i32.lt_u (local.get $at) (local.get $end))))
                   (i32.ne (memory.size) (i32.const 64))))"#
        ),
    )
}

fn compile(engine: &Engine, wat: &str) -> Module {
    engine.compile(&wat::parse_str(wat).unwrap()).unwrap()
}

/// Nobody finds anything, in any slot.
fn assert_clean(finders: &[Module], after: &str) {
    let innocent = view_of(b"", Sections::DEFAULT);
    for finder in finders {
        for _ in 0..SLOTS {
            let said = finder.inspect_view(Phase::Request, &innocent, b"", &limits()).unwrap();
            assert_eq!(said.verdict, Verdict::Allow, "after {after}");
        }
    }
}

#[test]
fn nothing_of_a_request_is_left_in_any_slot() {
    let engine = engine();
    // With little memory, with more than stays mapped between two evaluations, and with all of it at once.
    let finders = [finder(&engine, 1), finder(&engine, 20), finder(&engine, 64)];
    let secret = view_of(MARKER, Sections::DEFAULT);
    for (pages, grown) in [(1, 0), (2, 14), (1, 63), (40, 0), (64, 0)] {
        for (end, what) in [
            ("i32.const 1", "a verdict"),
            ("unreachable", "a trap"),
            ("(loop $for_ever (br $for_ever)) i32.const 0", "no fuel"),
        ] {
            let writer = writer(&engine, pages, grown, end);
            for _ in 0..SLOTS + 1 {
                let said = writer.inspect_view(Phase::Request, &secret, MARKER, &little_fuel());
                match what {
                    "a verdict" => assert!(said.is_ok()),
                    "a trap" => assert!(matches!(said, Err(InspectError::Trap { .. }))),
                    _ => assert!(matches!(said, Err(InspectError::OutOfFuel { .. }))),
                }
            }
            assert_clean(&finders, &format!("{what} with {pages} + {grown} pages"));
        }
    }
}

#[test]
fn nothing_of_a_rule_is_left_to_the_same_rule() {
    let engine = engine();
    // Looks before it writes.
    let both = compile(
        &engine,
        &format!(
            r#"(module
                 (memory (export "memory") 2)
                 (global $a (mut i64) (i64.const 0))
                 (func (export "pc_buffer") (param i32) (result i32) i32.const 1024)
                 (func (export "pc_request") (param $ptr i32) (param $len i32) (result i32)
                   (local $at i32)
                   (if (i64.ne (global.get $a) (i64.const 0)) (then (return (i32.const 1))))
                   (memory.fill (local.get $ptr) (i32.const 0) (local.get $len))
                   (loop $again
                     (if (v128.any_true (v128.load (local.get $at))) (then (return (i32.const 1))))
                     (local.set $at (i32.add (local.get $at) (i32.const 16)))
                     (br_if $again (i32.lt_u (local.get $at) (i32.const 131072))))
                   (global.set $a (i64.const {marker}))
                   (local.set $at (i32.const 0))
                   (loop $again
                     (i64.store (local.get $at) (i64.const {marker}))
                     (local.set $at (i32.add (local.get $at) (i32.const 8)))
                     (br_if $again (i32.lt_u (local.get $at) (i32.const 131072))))
                   i32.const 0))"#,
            marker = marker()
        ),
    );
    for turn in 0..10 * SLOTS {
        let view = view_of(if turn % 2 == 0 { MARKER } else { b"" }, Sections::DEFAULT);
        let said = both.inspect_view(Phase::Request, &view, b"", &limits()).unwrap();
        assert_eq!(said.verdict, Verdict::Allow, "turn {turn}");
    }
    // An instance that is kept shows that it would be found.
    let mut kept = WorkerInstance::new(both);
    let mut ask =
        || kept.inspect_view(Phase::Request, &view_of(b"", Sections::DEFAULT), b"", &limits()).unwrap();
    assert_eq!([ask().verdict, ask().verdict], [Verdict::Allow, Verdict::Block]);
}

#[test]
fn nothing_passes_between_threads() {
    let engine = engine();
    let (writer, finder) = (writer(&engine, 1, 30, "i32.const 1"), finder(&engine, 1));
    let (secret, innocent) = (view_of(MARKER, Sections::DEFAULT), view_of(b"", Sections::DEFAULT));
    thread::scope(|scope| {
        for _ in 0..SLOTS / 4 {
            scope.spawn(|| {
                for _ in 0..40 {
                    writer.inspect_view(Phase::Request, &secret, MARKER, &limits()).unwrap();
                }
            });
            scope.spawn(|| {
                for _ in 0..40 {
                    let said = finder.inspect_view(Phase::Request, &innocent, b"", &limits()).unwrap();
                    assert_eq!(said.verdict, Verdict::Allow);
                }
            });
        }
    });
}

#[test]
fn a_workers_instance_is_its_own() {
    let engine = engine();
    let secret = view_of(MARKER, Sections::DEFAULT);
    let finders = [finder(&engine, 1), finder(&engine, 64)];
    let mut kept = WorkerInstance::new(writer(&engine, 1, 20, "i32.const 1"));
    for _ in 0..2 {
        kept.inspect_view(Phase::Request, &secret, MARKER, &limits()).unwrap();
        // While it lives, and its memory holds the marker.
        assert_clean(&finders, "a worker's instance that lives");
    }
    // Another of the same rule begins with nothing.
    let mut other = WorkerInstance::new(finders[0].clone());
    let innocent = view_of(b"", Sections::DEFAULT);
    assert_eq!(
        other.inspect_view(Phase::Request, &innocent, b"", &limits()).unwrap().verdict,
        Verdict::Allow
    );
    drop(kept);
    assert_clean(&finders, "a worker's instance that is gone");
}

#[test]
fn a_workers_instance_does_not_outlive_an_error() {
    let engine = engine();
    let innocent = view_of(b"", Sections::DEFAULT);
    // Counts its evaluations. The second one ends badly, in the phase itself or in what is said about its verdict.
    for (body, detail, fails) in [
        ("(if (i32.eq (global.get $n) (i32.const 2)) (then unreachable))", "i64.const 0", true),
        ("", "(if (i32.eq (global.get $n) (i32.const 2)) (then unreachable)) i64.const 0", false),
        ("", "(if (i32.eq (global.get $n) (i32.const 2)) (then (loop $l (br $l)))) i64.const 0", false),
    ] {
        let module = compile(
            &engine,
            &format!(
                r#"(module (memory (export "memory") 2) (global $n (mut i32) (i32.const 0))
                     (func (export "pc_buffer") (param i32) (result i32) i32.const 1024)
                     (func (export "pc_detail") (result i64) {detail})
                     (func (export "pc_request") (param i32 i32) (result i32)
                       (global.set $n (i32.add (global.get $n) (i32.const 1)))
                       {body} (i32.add (i32.const 1) (i32.gt_u (global.get $n) (i32.const 2)))))"#
            ),
        );
        let mut worker = WorkerInstance::new(module);
        let mut ask = || worker.inspect_view(Phase::Request, &innocent, b"", &little_fuel());
        assert_eq!(ask().unwrap().verdict, Verdict::Block);
        assert_eq!(ask().is_err(), fails);
        // A new instance counts from one again; the old one would be at three.
        assert_eq!(ask().unwrap().verdict, Verdict::Block, "{detail}");
    }
}

#[test]
fn a_view_that_is_used_again_holds_nothing_of_the_request_before() {
    let mut view = View::new();
    let mut bytes = Vec::new();
    for turn in 0..4 {
        let marker = if turn % 2 == 0 { &MARKER[..] } else { b"" };
        request(marker, Sections::ALL, &mut view);
        let carry = if turn % 2 == 0 { &MARKER[..] } else { b"" };
        // In a buffer that is dirty, as the memory of a worker's instance is.
        bytes.resize(view.len_of(Sections::ALL, carry), 0);
        bytes.fill(MARKER[0]);
        view.write(Sections::ALL, carry, &mut bytes);
        Reader::new(&bytes).unwrap();
        let found = bytes.windows(MARKER.len()).any(|window| window == MARKER);
        assert_eq!(found, turn % 2 == 0, "turn {turn}");
        assert!(turn % 2 == 0 || !bytes.contains(&MARKER[0]), "every byte of the view is written");
    }
}

#[test]
fn what_a_rule_hands_on_is_of_its_own_memory_only() {
    let engine = engine();
    let writer = writer(&engine, 1, 0, "i32.const 1");
    writer.inspect_view(Phase::Request, &view_of(MARKER, Sections::DEFAULT), b"", &limits()).unwrap();
    // Hands on memory that it never wrote.
    let hands_on = compile(
        &engine,
        r#"(module (memory (export "memory") 2)
             (func (export "pc_buffer") (param i32) (result i32) i32.const 1024)
             (func (export "pc_carry") (result i64) i64.const 0x1000000001000)
             (func (export "pc_response") (param i32 i32) (result i32) i32.const 0)
             (func (export "pc_request") (param i32 i32) (result i32) i32.const 0))"#,
    );
    let innocent = view_of(b"", Sections::DEFAULT);
    for _ in 0..SLOTS {
        let said = hands_on.inspect_view(Phase::Request, &innocent, b"", &limits()).unwrap();
        assert_eq!(said.carry, vec![0; 4096]);
    }
}

/// Has the kernel swap out what it can of this process, if the machine has swap. Says whether it did.
fn swap_out() -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let anonymous =
        maps.lines().filter(|line| line.contains(" rw-p 00000000 00:00 0") && !line.contains('['));
    for line in anonymous {
        let (start, end) = line.split(' ').next().and_then(|range| range.split_once('-')).unwrap();
        let [start, end] = [start, end].map(|hex| usize::from_str_radix(hex, 16).unwrap());
        let start = std::ptr::with_exposed_provenance_mut(start);
        // SAFETY: pages that are swapped out come back with what they held when somebody looks at them. A range that
        // is no longer mapped is an error.
        let _ = unsafe { rustix::mm::madvise(start, end - start.addr(), rustix::mm::Advice::LinuxPageOut) };
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    !status.lines().any(|line| line.starts_with("VmSwap:") && line.split_whitespace().nth(1) == Some("0"))
}

#[test]
fn nothing_is_left_of_what_was_swapped_out() {
    let engine = engine();
    let finders = [finder(&engine, 1), finder(&engine, 20)];
    let secret = view_of(MARKER, Sections::DEFAULT);
    let long = Limits { fuel: u64::MAX, deadline: std::time::Duration::from_millis(300), ..limits() };
    // Both an instance that would be restored and one that would not, in the middle of their evaluation.
    let wait = "(loop $for_ever (br $for_ever)) i32.const 0";
    let restored = compile(
        &engine,
        &format!(
            r#"(module (memory (export "memory") 4)
                 (func (export "pc_buffer") (param i32) (result i32) i32.const 1024)
                 (func (export "pc_request") (param $ptr i32) (param i32) (result i32) (local $at i32)
                   (loop $again
                     (if (i64.eq (i64.load offset=200000 (local.get $at)) (i64.const {marker})) (then (return (i32.const 1))))
                     (i64.store offset=200000 (local.get $at) (i64.const {marker}))
                     (local.set $at (i32.add (local.get $at) (i32.const 8)))
                     (br_if $again (i32.lt_u (local.get $at) (i32.const 40000))))
                   (local.set $at (i32.const 0))
                   (loop $while
                     (local.set $at (i32.add (local.get $at) (i32.const 1)))
                     (br_if $while (i32.lt_u (local.get $at) (i32.const 100000000))))
                   i32.const 0))"#,
            marker = marker()
        ),
    );
    let patient = Limits { fuel: u64::MAX, ..limits() };
    for _ in 0..3 {
        for (rule, limits) in [(&writer(&engine, 3, 1, wait), &long), (&restored, &patient)] {
            let evaluation = thread::scope(|scope| {
                let evaluation = scope.spawn(|| rule.inspect_view(Phase::Request, &secret, MARKER, limits));
                let mut swapped = false;
                while !evaluation.is_finished() {
                    swapped |= swap_out();
                }
                println!("swapped out: {swapped}");
                evaluation.join().unwrap()
            });
            if let Ok(said) = evaluation {
                assert_eq!(said.verdict, Verdict::Allow, "the rule found what it had left");
            }
            assert_clean(&finders, "an evaluation that was swapped out");
        }
    }
}
