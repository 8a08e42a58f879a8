//! A rule that misbehaves gives a typed error, and the engine goes on.

use std::time::Duration;

use portcullis_engine::{Cause, Engine, InspectError, Limits, Module, Step};

use crate::{assert_still_serves, compile, engine, patient, rule};

/// Runs it more than once: the error must not depend on a slot that nobody had used.
fn failure(engine: &Engine, module: &Module, limits: &Limits) -> InspectError {
    let first = module.inspect(b"{}", limits).unwrap_err();
    for _ in 0..20 {
        assert_eq!(module.inspect(b"{}", limits).unwrap_err(), first);
    }
    assert_still_serves(engine);
    first
}

fn trap(engine: &Engine, module: &Module) -> String {
    match failure(engine, module, &patient()) {
        InspectError::Trap { step: Step::Inspect, trap } => trap,
        other => panic!("expected a trap, got {other:?}"),
    }
}

#[test]
fn an_endless_loop_runs_out_of_fuel() {
    let engine = engine();
    let error = failure(&engine, &rule(&engine, "(loop $again (br $again)) i32.const 0"), &patient());
    assert_eq!(error, InspectError::OutOfFuel { step: Step::Inspect, budget: 100_000 });
    assert_eq!(error.cause(), Cause::Budget);
}

#[test]
fn an_endless_loop_with_endless_fuel_meets_the_deadline() {
    let engine = engine();
    let limits = Limits { fuel: u64::MAX, deadline: Duration::from_millis(1), ..Limits::default() };
    let module = rule(&engine, "(loop $again (br $again)) i32.const 0");
    let error = failure(&engine, &module, &limits);
    assert_eq!(error, InspectError::DeadlineExceeded { step: Step::Inspect, deadline: limits.deadline });
    assert_eq!(error.cause(), Cause::Budget);
    assert_eq!(module.probe(&limits).unwrap_err(), error);
}

#[test]
fn endless_recursion_overflows_the_guests_stack_only() {
    let engine = engine();
    let module = compile(
        &engine,
        r#"(module (memory (export "memory") 1)
             (func $down (param i32) (result i32) (i32.add (call $down (local.get 0)) (i32.const 1)))
             (func (export "inspect_request") (param i32 i32) (result i32) (call $down (local.get 0))))"#,
    )
    .unwrap();
    let trap = trap(&engine, &module);
    assert!(trap.contains("call stack exhausted"), "{trap}");
}

#[test]
fn a_loop_at_the_start_runs_out_of_fuel() {
    let engine = engine();
    let module = compile(
        &engine,
        r#"(module (memory (export "memory") 1)
             (func $start (loop $again (br $again)))
             (start $start)
             (func (export "inspect_request") (param i32 i32) (result i32) i32.const 0))"#,
    )
    .unwrap();
    let expected = InspectError::OutOfFuel { step: Step::Start, budget: 100_000 };
    assert_eq!(failure(&engine, &module, &patient()), expected);
    assert_eq!(module.probe(&patient()).unwrap_err(), expected);
    let limits = Limits { fuel: u64::MAX, ..Limits::default() };
    assert_eq!(
        failure(&engine, &module, &limits),
        InspectError::DeadlineExceeded { step: Step::Start, deadline: limits.deadline }
    );
}

#[test]
fn a_trap_at_the_start_is_found_by_the_probe() {
    let engine = engine();
    let module = compile(
        &engine,
        r#"(module (memory (export "memory") 1)
             (func $start unreachable)
             (start $start)
             (func (export "inspect_request") (param i32 i32) (result i32) i32.const 0))"#,
    )
    .unwrap();
    let error = module.probe(&patient()).unwrap_err();
    assert!(matches!(error, InspectError::Trap { step: Step::Start, .. }), "{error:?}");
    assert_eq!(error.cause(), Cause::Error);
    assert_still_serves(&engine);
}

#[test]
fn data_at_a_computed_address_outside_the_memory_is_a_trap_at_the_start() {
    let engine = engine();
    let module = compile(
        &engine,
        r#"(module (memory (export "memory") 1) (data (offset (i32.add (i32.const 65000) (i32.const 530))) "0123456789")
             (func (export "inspect_request") (param i32 i32) (result i32) i32.const 0))"#,
    )
    .unwrap();
    let error = failure(&engine, &module, &patient());
    assert!(matches!(error, InspectError::Trap { step: Step::Start, .. }), "{error:?}");
}

#[test]
fn growing_memory_past_the_limit_is_told_from_a_trap() {
    let engine = engine();
    let limit = patient().memory_bytes;
    let at_once = rule(&engine, "(drop (memory.grow (i32.const 100))) i32.const 0");
    // A page for the request is in front of it.
    let expected = InspectError::MemoryLimit { step: Step::Inspect, wanted: (1 + 1 + 100) << 16, limit };
    let error = failure(&engine, &at_once, &patient());
    assert_eq!(error, expected);
    assert_eq!(error.cause(), Cause::Budget);

    let in_a_loop = rule(&engine, "(loop $again (drop (memory.grow (i32.const 1))) (br $again)) i32.const 0");
    assert_eq!(
        failure(&engine, &in_a_loop, &patient()),
        InspectError::MemoryLimit { step: Step::Inspect, wanted: limit + (1 << 16), limit }
    );

    let everything = rule(&engine, "(drop (memory.grow (i32.const 65536))) i32.const 0");
    let error = failure(&engine, &everything, &patient());
    assert!(matches!(error, InspectError::MemoryLimit { .. }), "{error:?}");
}

#[test]
fn growing_beyond_what_the_module_itself_declares_is_minus_one() {
    let engine = engine();
    let module = compile(
        &engine,
        r#"(module (memory (export "memory") 1 3)
             (func (export "inspect_request") (param i32 i32) (result i32)
               (i32.eq (memory.grow (i32.const 5)) (i32.const -1))))"#,
    )
    .unwrap();
    assert_eq!(module.inspect(b"{}", &patient()).unwrap().verdict as i32, 1);
}

#[test]
fn growing_in_a_loop_that_never_gets_anything_costs_fuel() {
    let engine = engine();
    let module = rule(&engine, "(loop $again (drop (memory.grow (i32.const 0))) (br $again)) i32.const 0");
    let turns = |fuel: u64| {
        let counted = rule(
            &engine,
            &format!(
                "(local $n i32) (local.set $n (i32.const {}))
                 (loop $again (drop (memory.grow (i32.const 0)))
                   (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))) i32.const 0",
                fuel / 50
            ),
        );
        counted.inspect(b"{}", &Limits { fuel, ..patient() })
    };
    assert!(matches!(failure(&engine, &module, &patient()), InspectError::OutOfFuel { .. }));
    assert!(matches!(turns(10_000), Err(InspectError::OutOfFuel { .. })));
}

#[test]
fn a_declared_memory_above_the_rules_limit_is_found_by_the_probe() {
    let engine = engine();
    let module = compile(
        &engine,
        r#"(module (memory (export "memory") 17)
             (func (export "inspect_request") (param i32 i32) (result i32) i32.const 0))"#,
    )
    .unwrap();
    let limits = Limits { memory_bytes: 1 << 20, ..patient() };
    let error = module.probe(&limits).unwrap_err();
    assert_eq!(error, InspectError::MemoryLimit { step: Step::Start, wanted: 17 << 16, limit: 1 << 20 });
    let message = error.to_string();
    assert!(message.contains("1114112") && message.contains("1048576"), "{message}");
    assert_eq!(module.probe(&patient()), Ok(()));
}

#[test]
fn traps_say_what_happened() {
    let engine = engine();
    assert!(trap(&engine, &rule(&engine, "unreachable")).contains("unreachable"));
    let out_of_bounds = rule(&engine, "(i32.load (i32.const 0x7fffffff))");
    assert!(trap(&engine, &out_of_bounds).contains("out of bounds"));
    let just_behind = rule(&engine, "(i32.load8_u (i32.mul (memory.size) (i32.const 65536)))");
    assert!(trap(&engine, &just_behind).contains("out of bounds"));
    let farthest = rule(&engine, "(i32.load offset=0xffffffff (i32.const -1))");
    assert!(trap(&engine, &farthest).contains("out of bounds"));
    let divide = rule(&engine, "(i32.div_u (i32.const 1) (i32.const 0))");
    assert!(trap(&engine, &divide).contains("divide by zero"));
}

#[test]
fn a_number_that_is_no_verdict_is_an_error() {
    let engine = engine();
    for number in [7, -1, 4, i32::MAX, i32::MIN] {
        let error = failure(&engine, &rule(&engine, &format!("i32.const {number}")), &patient());
        assert_eq!(error, InspectError::InvalidVerdict { step: Step::Inspect, result: number });
        assert_eq!(error.cause(), Cause::Error);
    }
}

#[test]
fn a_verdict_on_the_last_drop_of_fuel_is_none() {
    let engine = engine();
    let module = rule(&engine, "i32.const 1");
    let enough = module.inspect(b"{}", &patient()).unwrap().fuel_used;
    let exactly = Limits { fuel: enough, ..patient() };
    assert_eq!(
        module.inspect(b"{}", &exactly).unwrap_err(),
        InspectError::OutOfFuel { step: Step::Inspect, budget: enough }
    );
    assert!(module.inspect(b"{}", &Limits { fuel: enough + 1, ..patient() }).is_ok());
}

#[test]
fn a_function_that_returns_with_a_debt_is_out_of_fuel() {
    let engine = engine();
    // Straight code: nothing looks at the fuel before it returns.
    let module =
        rule(&engine, &format!("{} i32.const 1", "(i32.store (i32.const 0) (i32.const 1))".repeat(500)));
    let error = module.inspect(b"{}", &Limits { fuel: 100, ..patient() }).unwrap_err();
    assert_eq!(error, InspectError::OutOfFuel { step: Step::Inspect, budget: 100 });
}

#[test]
fn bulk_operations_are_charged_by_the_byte() {
    let engine = engine();
    let module = rule(&engine, "(memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) i32.const 0");
    let limits = Limits { fuel: 65_000, ..patient() };
    assert!(matches!(module.inspect(b"{}", &limits), Err(InspectError::OutOfFuel { .. })));
    let used = module.inspect(b"{}", &patient()).unwrap().fuel_used;
    assert!(used > 65_536, "{used}");
}

#[test]
fn static_data_is_copied_for_free() {
    let engine = engine();
    let module = compile(
        &engine,
        &format!(
            r#"(module (memory (export "memory") 2) (data (i32.const 0) "{}") (data (i32.const 70000) "{}")
                 (func (export "inspect_request") (param i32 i32) (result i32)
                   (i32.eq (i32.load8_u (i32.const 30000)) (i32.const 120))))"#,
            "x".repeat(50_000),
            "y".repeat(1_000),
        ),
    )
    .unwrap();
    assert_eq!(module.info().data_bytes, 51_000);
    let inspection = module.inspect(b"{}", &Limits { fuel: 1_000, ..patient() }).unwrap();
    assert_eq!(inspection.verdict as i32, 1);
    assert!(inspection.fuel_used < 100, "{inspection:?}");
}

#[test]
fn bulk_operations_in_a_row_do_not_outrun_fuel_and_deadline() {
    let engine = engine();
    // Straight code: no loop turns, no function begins.
    let fill = "(memory.fill (i32.const 0) (i32.const 1) (i32.mul (memory.size) (i32.const 65536)))";
    let module =
        rule(&engine, &format!("(drop (memory.grow (i32.const 62))) {} i32.const 0", fill.repeat(4_000)));
    assert!(matches!(module.inspect(b"{}", &patient()), Err(InspectError::OutOfFuel { .. })));
    let limits = Limits { fuel: u64::MAX, ..Limits::default() };
    assert!(matches!(module.inspect(b"{}", &limits), Err(InspectError::DeadlineExceeded { .. })));
}

#[test]
fn the_budget_follows_the_input() {
    let engine = engine();
    // One turn a byte, five instructions each.
    let module = rule(
        &engine,
        "(loop $again (br_if $again (local.tee $len (i32.sub (local.get $len) (i32.const 1))))) i32.const 0",
    );
    let limits = Limits { fuel: 10_000, fuel_per_byte: 0, ..patient() };
    let request = vec![b' '; 8 << 10];
    assert_eq!(
        module.inspect(&request, &limits).unwrap_err(),
        InspectError::OutOfFuel { step: Step::Inspect, budget: 10_000 }
    );
    assert!(module.inspect(&request, &Limits { fuel_per_byte: 10, ..limits }).is_ok());
}
