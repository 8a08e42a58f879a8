//! An instance that was restored is as one that was never called.

use std::thread;
use std::time::Duration;

use portcullis_engine::{
    Engine, EngineConfig, InspectError, InstanceCounts, InstanceReuse, Limits, Module, Obstacle, Phase,
    Verdict,
};
use portcullis_view::{Head, Sections, View};

fn engine() -> Engine {
    Engine::new(&EngineConfig { workers: 1, ..EngineConfig::default() }).unwrap()
}

/// One whose evaluations all have an instance of their own.
fn engine_that_restores_nothing() -> Engine {
    Engine::new(&EngineConfig { workers: 1, idle_instances: 0, ..EngineConfig::default() }).unwrap()
}

fn limits() -> Limits {
    Limits { deadline: Duration::from_secs(20), ..Limits::default() }
}

fn compile(engine: &Engine, wat: &str) -> Module {
    engine.compile(&wat::parse_str(wat).unwrap()).unwrap()
}

fn view(fields: &[(&[u8], &[u8])]) -> View {
    let mut view = View::new();
    let head = Head::from_localhost(b"GET", b"/");
    view.head(&head, fields.iter().copied(), Sections::DEFAULT);
    view
}

/// Adds up its whole memory and its globals, and hands the sum on; then writes to all of them. What a start function
/// and static data leave is part of what it begins with.
const SUMS: &str = r#"(module
    (memory (export "memory") 3)
    (table 2 funcref) (elem (i32.const 0) $start)
    (data (i32.const 70000) "static data") (data $passive "passive data")
    (global $a (mut i32) (i32.const 7))
    (global $b (mut i64) (i64.const -1))
    (global $c (mut f32) (f32.const nan:0x200001))
    (global $d (mut f64) (f64.const -0))
    (global $e (mut v128) (v128.const i64x2 1 2))
    (global $constant i32 (i32.const 3))
    (func $start (local $i i32)
      (global.set $a (i32.const 8))
      (loop $again
        (i32.store offset=4096 (i32.mul (local.get $i) (i32.const 4)) (local.get $i))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const 1500)))))
    (start $start)
    (func (export "pc_buffer") (param i32) (result i32) (i32.const 130000))
    (func $sum (result i64) (local $at i32) (local $sum i64)
      (loop $again
        (local.set $sum (i64.add (i64.rotl (local.get $sum) (i64.const 7)) (i64.load (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $again (i32.lt_u (local.get $at) (i32.const 130000))))
      (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u (global.get $a))))
      (local.set $sum (i64.xor (local.get $sum) (global.get $b)))
      (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u (i32.reinterpret_f32 (global.get $c)))))
      (local.set $sum (i64.add (local.get $sum) (i64.reinterpret_f64 (global.get $d))))
      (local.set $sum (i64.add (local.get $sum) (i64x2.extract_lane 0 (global.get $e))))
      (i64.sub (local.get $sum) (i64x2.extract_lane 1 (global.get $e))))
    (func (export "pc_request") (param $ptr i32) (param $len i32) (result i32) (local $at i32)
      (i64.store (i32.const 190000) (call $sum))
      (global.set $a (i32.const 99)) (global.set $b (i64.const 99)) (global.set $c (f32.const 99))
      (global.set $d (f64.const 99)) (global.set $e (v128.const i64x2 99 99))
      (memory.init $passive (i32.const 20000) (i32.const 0) (i32.const 12))
      (loop $again
        (i64.store (local.get $at) (i64.const 0x5ec8e75ec8e75ec8))
        (local.set $at (i32.add (local.get $at) (i32.const 512)))
        (br_if $again (i32.lt_u (local.get $at) (i32.const 130000))))
      (i32.const 0))
    (func (export "pc_hook") (param i32 i32) (result i32) (i32.const 0))
    (func (export "pc_carry") (result i64) (i64.const 0x2e63000000008)))"#;

#[test]
fn memory_and_globals_begin_as_the_start_function_left_them() {
    let more_fuel = Limits { fuel: 2_000_000, ..limits() };
    let engine = engine();
    let rule = compile(&engine, SUMS);
    assert_eq!(rule.info().reuse, InstanceReuse::Restored { globals: 5 });
    let anew = compile(&engine_that_restores_nothing(), SUMS);
    let ask = |rule: &Module| rule.inspect_view(Phase::Request, &view(&[]), b"", &more_fuel).unwrap();
    let expected = ask(&anew);
    assert_eq!((expected.carry.len(), ask(&anew)), (8, expected.clone()));
    assert_eq!(engine.instances().idle, 0);
    for turn in 0..20 {
        assert_eq!(ask(&rule), expected, "turn {turn}");
        assert_eq!(engine.instances().idle, 1, "it was given back");
    }
    // The engine that makes instances anew finds other state in one that is kept, so the sum would tell.
    let mut kept = portcullis_engine::WorkerInstance::new(anew);
    let mut again = || kept.inspect_view(Phase::Request, &view(&[]), b"", &more_fuel).unwrap().carry;
    assert_ne!([again(), again()][1], expected.carry);
}

#[test]
fn evaluations_are_counted_by_how_they_came_to_their_instance() {
    let engine = engine();
    let rule = |more: &str| {
        compile(
            &engine,
            &format!(
                r#"(module (memory (export "memory") 1) (table 1 funcref)
                     (func (export "pc_buffer") (param i32) (result i32) (i32.const 1024))
                     (func (export "pc_request") (param i32 i32) (result i32) {more} (i32.const 0)))"#
            ),
        )
    };
    let (restored, made) = (rule(""), rule("(table.set (i32.const 0) (ref.null func))"));
    for rule in [&restored, &made] {
        for _ in 0..10 {
            rule.inspect_view(Phase::Request, &view(&[]), b"", &limits()).unwrap();
        }
    }
    assert_eq!(engine.instances(), InstanceCounts { idle: 1, restored: 9, made: 11 });
    restored.probe(&limits()).unwrap();
    assert_eq!(engine.instances().idle, 0, "a rule that was tried out waits for its first request");
}

#[test]
fn what_ended_badly_or_grew_is_not_used_again() {
    let engine = engine();
    for (body, detail, ends_well) in [
        ("(i32.const 1)", "(i64.const 0)", true),
        ("unreachable", "(i64.const 0)", false),
        ("(loop $l (br $l)) (i32.const 0)", "(i64.const 0)", false),
        ("(i32.const 9)", "(i64.const 0)", false),
        ("(i32.const 1)", "unreachable", false),
        ("(drop (memory.grow (i32.const 1))) (i32.const 1)", "(i64.const 0)", false),
        ("(drop (memory.grow (i32.const 0))) (i32.const 1)", "(i64.const 0)", true),
        // 260 KiB touched.
        (
            "(memory.fill (i32.const 0) (i32.const 1) (i32.const 266240)) (i32.const 1)",
            "(i64.const 0)",
            false,
        ),
        ("(memory.fill (i32.const 0) (i32.const 1) (i32.const 200000)) (i32.const 1)", "(i64.const 0)", true),
    ] {
        let rule = compile(
            &engine,
            &format!(
                r#"(module (memory (export "memory") 5)
                     (func (export "pc_buffer") (param i32) (result i32) (i32.const 1024))
                     (func (export "pc_detail") (result i64) {detail})
                     (func (export "pc_request") (param i32 i32) (result i32) {body}))"#
            ),
        );
        let more_fuel = Limits { fuel: 1_000_000, ..limits() };
        let first = rule.inspect_view(Phase::Request, &view(&[]), b"", &more_fuel);
        assert_eq!(engine.instances().idle, usize::from(ends_well), "{body} {detail}");
        assert_eq!(first, rule.inspect_view(Phase::Request, &view(&[]), b"", &more_fuel));
        drop(rule);
        assert_eq!(engine.instances().idle, 0, "a rule that is gone has none");
    }
}

#[test]
fn modules_whose_state_is_more_than_memory_and_numbers_are_made_anew() {
    let engine = engine();
    let globals = |count: usize| "(global (mut i32) (i32.const 0))".repeat(count);
    let made_anew = |because| InstanceReuse::Instantiated { because };
    for (more, expected) in [
        (String::new(), InstanceReuse::Restored { globals: 0 }),
        (globals(32), InstanceReuse::Restored { globals: 32 }),
        (globals(33), made_anew(Obstacle::Globals)),
        ("(global (mut funcref) (ref.null func))".into(), made_anew(Obstacle::Globals)),
        ("(global funcref (ref.null func))".into(), InstanceReuse::Restored { globals: 0 }),
        (r#"(global (export "g") (mut i32) (i32.const 0))"#.into(), InstanceReuse::Restored { globals: 1 }),
        (
            "(table 1 funcref) (func (drop (table.get (i32.const 0))) (drop (table.size)))".into(),
            InstanceReuse::Restored { globals: 0 },
        ),
    ]
    .into_iter()
    .chain(
        [
            "(table.set (i32.const 0) (ref.null func))",
            "(drop (table.grow (ref.null func) (i32.const 1)))",
            "(table.fill (i32.const 0) (ref.null func) (i32.const 1))",
            "(table.copy (i32.const 0) (i32.const 0) (i32.const 1))",
            "(table.init $e (i32.const 0) (i32.const 0) (i32.const 1))",
            "(elem.drop $e)",
            "(data.drop $d)",
        ]
        .map(|does| {
            let more = format!(r#"(table 1 funcref) (elem $e func $f) (data $d "x") (func $f {does})"#);
            (more, made_anew(Obstacle::TablesOrSegments))
        }),
    ) {
        let rule = compile(
            &engine,
            &format!(
                r#"(module (memory (export "memory") 1) {more}
                     (func (export "pc_buffer") (param i32) (result i32) (i32.const 1024))
                     (func (export "pc_request") (param i32 i32) (result i32) (i32.const 1)))"#
            ),
        );
        assert_eq!(rule.info().reuse, expected, "{more}");
        for _ in 0..3 {
            let said = rule.inspect_view(Phase::Request, &view(&[]), b"", &limits()).unwrap();
            assert_eq!(said.verdict, Verdict::Block);
        }
        let restored = matches!(expected, InstanceReuse::Restored { .. });
        assert_eq!(engine.instances().idle, usize::from(restored), "{more}");
    }
    let large = compile(
        &engine,
        r#"(module (memory (export "memory") 33) (func (export "inspect_request") (param i32 i32) (result i32) (i32.const 1)))"#,
    );
    assert_eq!(large.info().reuse, made_anew(Obstacle::Memory));
}

#[test]
fn limits_are_those_of_the_evaluation_whichever_instance_it_gets() {
    let engine = engine();
    let wat = r#"(module (memory (export "memory") 4) (global $n (mut i32) (i32.const 0))
        (func $start (loop $l
          (global.set $n (i32.add (global.get $n) (i32.const 1)))
          (br_if $l (i32.lt_u (global.get $n) (i32.const 100)))))
        (start $start)
        (func (export "pc_buffer") (param i32) (result i32) (i32.const 1024))
        (func (export "pc_request") (param i32 i32) (result i32)
          (drop (memory.grow (i32.const 0))) (i32.ne (global.get $n) (i32.const 100))))"#;
    let (rule, anew) = (compile(&engine, wat), compile(&engine_that_restores_nothing(), wat));
    let ask = |rule: &Module, limits: &Limits| rule.inspect_view(Phase::Request, &view(&[]), b"", limits);
    let needed = ask(&anew, &limits()).unwrap().fuel_used;
    for turn in 0..3 {
        for fuel in [u64::MAX, 10_000, needed + 1, needed, needed - 1, 500, 100, 0] {
            for memory_bytes in [4 << 20, 4 << 16, (4 << 16) - 1, 0] {
                let limits = Limits { fuel, fuel_per_byte: 0, memory_bytes, ..limits() };
                let (found, expected) = (ask(&rule, &limits), ask(&anew, &limits));
                assert_eq!(found, expected, "turn {turn}, {limits:?}");
                let fits = fuel > needed && memory_bytes >= 4 << 16;
                assert_eq!(found.is_ok(), fits, "{limits:?}: {found:?}");
            }
        }
    }
}

#[test]
fn a_rule_of_abi_1_finds_the_pages_of_its_own_request() {
    let engine = engine();
    // Blocks if it has more memory than its request needs, or finds anything behind the request.
    let wat = r#"(module (memory (export "memory") 1)
        (func (export "inspect_request") (param $ptr i32) (param $len i32) (result i32) (local $at i32)
          (if (i32.ne (local.get $ptr) (i32.const 65536)) (then (return (i32.const 1))))
          (if (i32.ne (memory.size) (i32.add (i32.const 1)
                (i32.div_u (i32.add (local.get $len) (i32.const 65535)) (i32.const 65536))))
            (then (return (i32.const 1))))
          (if (i32.load (i32.const 512)) (then (return (i32.const 1))))
          (i32.store (i32.const 512) (i32.const 1))
          (local.set $at (i32.add (local.get $ptr) (local.get $len)))
          (loop $again
            (if (i32.lt_u (local.get $at) (i32.shl (memory.size) (i32.const 16))) (then
              (if (i32.load8_u (local.get $at)) (then (return (i32.const 1))))
              (i32.store8 (local.get $at) (i32.const 1))
              (local.set $at (i32.add (local.get $at) (i32.const 16)))
              (br $again))))
          (i32.const 0)))"#;
    let rule = compile(&engine, wat);
    let more_fuel = Limits { fuel: 1_000_000, ..limits() };
    for length in [10, 9, 65_536, 65_537, 1, 70_000, 70_001, 10, 131_073, 10] {
        let request = vec![b'x'; length];
        for _ in 0..2 {
            let said = rule.inspect(&request, &more_fuel).unwrap();
            assert_eq!(said.verdict, Verdict::Allow, "{length} bytes");
        }
    }
    // One for each number of pages.
    assert_eq!(engine.instances().idle, 3);
    let little = Limits { memory_bytes: 2 << 16, ..more_fuel };
    assert_eq!(rule.inspect(&[b'x'; 10], &little).unwrap().verdict, Verdict::Allow);
    let refused = rule.inspect(&[b'x'; 65_537], &little).unwrap_err();
    assert!(matches!(refused, InspectError::RequestDoesNotFit { bytes: 65_537, .. }), "{refused:?}");
}

#[test]
fn the_rules_evaluated_last_have_their_instances_ready() {
    let engine =
        Engine::new(&EngineConfig { workers: 1, idle_instances: 3, ..EngineConfig::default() }).unwrap();
    let rules: Vec<_> = (0..5)
        .map(|verdict| {
            compile(
                &engine,
                &format!(
                    r#"(module (memory (export "memory") 1)
                         (func (export "pc_buffer") (param i32) (result i32) (i32.const 1024))
                         (func (export "pc_request") (param i32 i32) (result i32) (i32.const {})))"#,
                    verdict % 4
                ),
            )
        })
        .collect();
    for turn in 0..3 {
        for (verdict, rule) in rules.iter().enumerate() {
            let said = rule.inspect_view(Phase::Request, &view(&[]), b"", &limits()).unwrap();
            assert_eq!(said.verdict as usize, verdict % 4, "turn {turn}");
            assert!(engine.instances().idle <= 3);
        }
    }
    assert_eq!(engine.instances().idle, 3);
}

#[test]
fn many_threads_and_rules_that_come_and_go_share_no_state() {
    let engine = Engine::new(&EngineConfig { workers: 3, ..EngineConfig::default() }).unwrap();
    // Blocks if it finds the mark that it leaves.
    let wat = |number: i32| {
        format!(
            r#"(module (memory (export "memory") 2) (global $g (mut i32) (i32.const {number}))
                 (func (export "pc_buffer") (param i32) (result i32) (i32.const 1024))
                 (func (export "pc_request") (param $ptr i32) (param $len i32) (result i32)
                   (if (i32.ne (global.get $g) (i32.const {number})) (then (return (i32.const 1))))
                   (global.set $g (i32.const -1))
                   (if (i32.load (i32.const 100000)) (then (return (i32.const 1))))
                   (i32.store (i32.const 100000) (i32.const -1))
                   (i32.const 0)))"#
        )
    };
    let shared: Vec<_> = (0..3).map(|number| compile(&engine, &wat(number))).collect();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (engine, shared) = (&engine, &shared);
            scope.spawn(move || {
                let view = view(&[(b"x", b"y")]);
                for turn in 0..100 {
                    let own = compile(engine, &wat(1_000 * thread + turn));
                    for rule in shared.iter().chain([&own, &own]) {
                        for _ in 0..10 {
                            let said = rule.inspect_view(Phase::Request, &view, b"", &limits()).unwrap();
                            assert_eq!(said.verdict, Verdict::Allow);
                        }
                    }
                }
            });
        }
    });
    assert!((3..=12).contains(&engine.instances().idle), "{}", engine.instances().idle);
    drop(shared);
    assert_eq!(engine.instances().idle, 0);
}
