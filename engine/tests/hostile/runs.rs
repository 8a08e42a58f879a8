//! Attacks by running: loops, memory, tables, the stack, control flow, traps.

use portcullis_engine::{Phase, Step, Verdict};

use crate::table::Outcome::{MemoryLimit, NoRoom, NoVerdict, OutOfFuel, Refused, Says, Trap};
use crate::table::{attack, rule, rule_1, withstand};

const REQUEST: Step = Step::Phase(Phase::Request);
const ALLOW: crate::table::Outcome = Says(Verdict::Allow);
const FOREVER: &str = "(loop $again (br $again)) i32.const 0";

#[test]
fn the_start_function() {
    let start = |body: &str| rule(&format!("(func $start {body}) (start $start)"), "i32.const 0");
    withstand(vec![
        attack("a start that loops", OutOfFuel(Step::Start), &start("(loop $again (br $again))")),
        attack(
            "a start that loops, in ABI 1",
            OutOfFuel(Step::Start),
            &rule_1("(func $start (loop $again (br $again))) (start $start)", "i32.const 0"),
        ),
        attack("a start that traps", Trap(Step::Start, "unreachable"), &start("unreachable")),
        attack(
            "a start that recurses",
            Trap(Step::Start, "call stack exhausted"),
            &start("(call $start) (call $start)"),
        ),
        attack(
            "a start that takes all memory at once",
            MemoryLimit(Step::Start),
            &start("(drop (memory.grow (i32.const 65534)))"),
        ),
        attack(
            "a start that takes memory page by page, in a straight line",
            MemoryLimit(Step::Start),
            &start(&"(drop (memory.grow (i32.const 1)))".repeat(3_000)),
        ),
        attack(
            "a start that takes what it may and fills it again and again",
            OutOfFuel(Step::Start),
            &start(
                "(drop (memory.grow (i32.const 62)))
                 (loop $again (memory.fill (i32.const 0) (i32.const 255) (i32.const 4194304)) (br $again))",
            ),
        ),
        attack(
            "a start that logs",
            Trap(Step::Start, "called by the start function"),
            &rule(
                r#"(import "portcullis" "log" (func $log (param i32 i32 i32)))
                   (func $start (call $log (i32.const 0) (i32.const 0) (i32.const 1))) (start $start)"#,
                "i32.const 0",
            ),
        ),
        attack(
            "a start that is an import",
            Refused("not valid"),
            &rule(
                r#"(import "portcullis" "log" (func $log (param i32 i32 i32))) (start $log)"#,
                "i32.const 0",
            ),
        ),
    ]);
}

#[test]
fn memory() {
    withstand(vec![
        attack(
            "memory.grow in a straight line",
            MemoryLimit(REQUEST),
            &rule("", &format!("{} i32.const 0", "(drop (memory.grow (i32.const 1)))".repeat(3_000))),
        ),
        attack(
            "memory.grow by everything",
            MemoryLimit(REQUEST),
            &rule("", "(drop (memory.grow (i32.const -1))) i32.const 0"),
        ),
        attack(
            "memory.grow by nothing, for ever",
            OutOfFuel(REQUEST),
            &rule("", "(loop $again (drop (memory.grow (i32.const 0))) (br $again)) i32.const 0"),
        ),
        attack(
            "memory.grow by nothing, in a straight line",
            OutOfFuel(REQUEST),
            &rule("", &format!("{} i32.const 0", "(drop (memory.grow (i32.const 0)))".repeat(3_900))),
        ),
        attack(
            "memory.grow beyond the module's own maximum",
            ALLOW,
            &rule("", "(i32.ne (memory.grow (i32.const 1)) (i32.const -1))")
                .replace("\"memory\") 2)", "\"memory\") 2 2)"),
        ),
        attack(
            "memory.fill over everything, for ever",
            OutOfFuel(REQUEST),
            &rule(
                "",
                "(loop $again (memory.fill (i32.const 0) (i32.const 1) (i32.const 131072)) (br $again)) i32.const 0",
            ),
        ),
        attack(
            "memory.fill beyond the end",
            Trap(REQUEST, "out of bounds memory access"),
            &rule("", "(memory.fill (i32.const 131071) (i32.const 1) (i32.const 2)) i32.const 0"),
        ),
        attack(
            "memory.fill that wraps is paid for first",
            OutOfFuel(REQUEST),
            &rule("", "(memory.fill (i32.const 1) (i32.const 1) (i32.const -1)) i32.const 0"),
        ),
        attack(
            "memory.copy over itself, for ever",
            OutOfFuel(REQUEST),
            &rule(
                "",
                "(loop $again (memory.copy (i32.const 1) (i32.const 0) (i32.const 131071)) (br $again)) i32.const 0",
            ),
        ),
        attack(
            "memory.copy that wraps",
            Trap(REQUEST, "out of bounds memory access"),
            &rule("", "(memory.copy (i32.const -1) (i32.const 0) (i32.const 2)) i32.const 0"),
        ),
        attack(
            "memory.init of a segment that was dropped",
            Trap(REQUEST, "out of bounds memory access"),
            &rule(
                "(data $d \"abc\")",
                "(data.drop $d) (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)) i32.const 0",
            ),
        ),
        attack(
            "memory.init for ever",
            OutOfFuel(REQUEST),
            &rule(
                "(data $d \"abc\")",
                "(loop $again (memory.init $d (i32.const 0) (i32.const 0) (i32.const 3)) (br $again)) i32.const 0",
            ),
        ),
        attack(
            "a load at the end of 4 GiB",
            Trap(REQUEST, "out of bounds memory access"),
            &rule("", "(i32.load8_u offset=4294967295 (i32.const -1))"),
        ),
        attack(
            "a vector half outside",
            Trap(REQUEST, "out of bounds memory access"),
            &rule("", "(v128.any_true (v128.load (i32.const 131057)))"),
        ),
        attack(
            "a store into every page that there is not",
            Trap(REQUEST, "out of bounds memory access"),
            &rule(
                "",
                "(local.set $a (i32.const 131072))
                 (loop $again
                   (i32.store (local.get $a) (i32.const 1))
                   (local.set $a (i32.add (local.get $a) (i32.const 65536)))
                   (br $again)) i32.const 0",
            ),
        ),
        attack(
            "a memory without room, in ABI 1",
            NoRoom,
            &rule_1("", "i32.const 0").replace("\"memory\") 1)", "\"memory\") 0 0)"),
        ),
        attack(
            "data outside the memory",
            Refused("data segment 0 ends at 131073"),
            &rule("(data (i32.const 131070) \"abc\")", "i32.const 0"),
        ),
        attack(
            "data at a computed address outside the memory",
            Trap(Step::Start, "out of bounds memory access"),
            &rule("(data (offset (i32.add (i32.const 131000) (i32.const 70))) \"abc\")", "i32.const 0"),
        ),
        attack(
            "data at the end of 4 GiB",
            Refused("data segment 0 ends at 4294967298"),
            &rule("(data (i32.const -1) \"abc\")", "i32.const 0"),
        ),
    ]);
}

#[test]
fn tables() {
    let table = "(table $t 2 funcref) (elem $e funcref (ref.null func) (ref.null func) (ref.null func))";
    withstand(vec![
        attack(
            "table.grow for ever",
            OutOfFuel(REQUEST),
            &rule(table, "(loop $again (drop (table.grow $t (ref.null func) (i32.const 1))) (br $again)) i32.const 0"),
        ),
        attack(
            "table.grow beyond the pool is -1",
            ALLOW,
            &rule(table, "(i32.ne (table.grow $t (ref.null func) (i32.const 10000)) (i32.const -1))"),
        ),
        attack(
            "table.grow by everything is paid for by the element",
            OutOfFuel(REQUEST),
            &rule(table, "(i32.ne (table.grow $t (ref.null func) (i32.const -1)) (i32.const -1))"),
        ),
        attack(
            "table.fill over everything, for ever",
            OutOfFuel(REQUEST),
            &rule(
                table,
                "(drop (table.grow $t (ref.null func) (i32.const 9998)))
                 (loop $again (table.fill $t (i32.const 0) (ref.null func) (i32.const 10000)) (br $again)) i32.const 0",
            ),
        ),
        attack(
            "table.copy over everything, for ever",
            OutOfFuel(REQUEST),
            &rule(
                table,
                "(drop (table.grow $t (ref.null func) (i32.const 9998)))
                 (loop $again (table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 9999)) (br $again)) i32.const 0",
            ),
        ),
        attack(
            "table.init for ever",
            OutOfFuel(REQUEST),
            &rule(table, "(loop $again (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 2)) (br $again)) i32.const 0"),
        ),
        attack(
            "table.init beyond the end",
            Trap(REQUEST, "table"),
            &rule(table, "(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 3)) i32.const 0"),
        ),
        attack(
            "elements outside the table",
            Trap(Step::Start, "table"),
            &rule("(table 2 funcref) (func $f) (elem (i32.const 1) $f $f)", "i32.const 0"),
        ),
        attack(
            "a table of things that are not of this module",
            Refused("not valid"),
            &rule("(table $x 2 externref)", "i32.const 0"),
        ),
    ]);
}

#[test]
fn the_stack() {
    let many = "v128 ".repeat(900);
    let wide = "(local.get 0) ".repeat(90);
    let parameters = "i32 ".repeat(90);
    withstand(vec![
        attack(
            "recursion",
            Trap(REQUEST, "call stack exhausted"),
            &rule("(func $f (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1)))", "(call $f (i32.const 0))"),
        ),
        attack(
            "mutual recursion",
            Trap(REQUEST, "call stack exhausted"),
            &rule("(func $f (call $g) (call $g)) (func $g (call $f) (call $f))", "(call $f) i32.const 0"),
        ),
        attack(
            "recursion through the table",
            Trap(REQUEST, "call stack exhausted"),
            &rule(
                "(type $t (func)) (table 1 funcref) (elem (i32.const 0) $f)
                 (func $f (call_indirect (type $t) (i32.const 0)) (call_indirect (type $t) (i32.const 0)))",
                "(call $f) i32.const 0",
            ),
        ),
        attack(
            "recursion with large frames",
            Trap(REQUEST, "call stack exhausted"),
            &rule(
                &format!(
                    "(func $f (param v128) (result v128) (local {many}) {} (call $f (local.get 0)) {} )",
                    (1..400).map(|n| format!("(local.set {n} (v128.load (i32.const {n}))) ")).collect::<String>(),
                    (1..400).map(|n| format!("(local.get {n}) v128.xor ")).collect::<String>(),
                ),
                "(v128.any_true (call $f (v128.const i64x2 1 2)))",
            ),
        ),
        attack(
            "recursion with many parameters and results",
            Trap(REQUEST, "call stack exhausted"),
            &rule(
                &format!("(func $f (param {parameters}) (result {parameters}) {wide} call $f)"),
                &format!("{} call $f {} i32.const 0", "(i32.const 1)".repeat(90), "drop ".repeat(90)),
            ),
        ),
        attack(
            "a log from the bottom of the stack",
            Trap(REQUEST, "call stack exhausted"),
            &rule(
                r#"(import "portcullis" "log" (func $log (param i32 i32 i32)))
                   (func $f (call $log (i32.const 0) (i32.const 0) (i32.const 0)) (call $f) (call $f))"#,
                "(call $f) i32.const 0",
            )
            .replace("(call $log (i32.const 0) (i32.const 0) (i32.const 0)) (call $f) (call $f)",
                "(call $f) (call $log (i32.const 0) (i32.const 0) (i32.const 0))"),
        ),
        attack(
            "calls that fork and never end",
            OutOfFuel(REQUEST),
            &rule(
                "(func $f (param i32) (if (local.get 0) (then
                   (call $f (i32.sub (local.get 0) (i32.const 1))) (call $f (i32.sub (local.get 0) (i32.const 1))))))",
                "(call $f (i32.const 64)) i32.const 0",
            ),
        ),
    ]);
}

#[test]
fn control_flow() {
    let targets = "0 ".repeat(60_000);
    let deep =
        |depth: usize| rule("", &format!("{} {} i32.const 0", "(block ".repeat(depth), ")".repeat(depth)));
    withstand(vec![
        attack("a loop", OutOfFuel(REQUEST), &rule("", FOREVER)),
        attack("a loop, in ABI 1", OutOfFuel(Step::Inspect), &rule_1("", FOREVER)),
        attack(
            "loops within loops",
            OutOfFuel(REQUEST),
            &rule("", &format!("{} (br 0) {} i32.const 0", "(loop ".repeat(300), ")".repeat(300))),
        ),
        attack(
            "a br_table of 60,000 targets",
            ALLOW,
            &rule("", &format!("(block (br_table {targets} (local.get $len))) i32.const 0")),
        ),
        attack(
            "a loop through a br_table",
            OutOfFuel(REQUEST),
            &rule("", "(loop $again (br_table $again $again $again (local.get $len))) i32.const 0"),
        ),
        attack("blocks as deep as they may be", ALLOW, &deep(1_999)),
        attack("blocks deeper than that", Refused("nested blocks"), &deep(2_001)),
        attack(
            "64 KiB of divisions in a straight line",
            ALLOW,
            &rule(
                "",
                &format!("i32.const 7 {} i32.const 0 i32.and", "local.get $len i32.div_u ".repeat(20_000)),
            ),
        ),
        attack(
            "a stack of 16,000 values",
            ALLOW,
            &rule(
                "",
                &format!(
                    "{} {} i32.const 0 i32.and",
                    "local.get $len ".repeat(16_000),
                    "i32.add ".repeat(15_999)
                ),
            ),
        ),
        attack(
            "a condition of 30,000 steps",
            ALLOW,
            &rule("", &format!("local.get $len {} (if (then nop)) i32.const 0", "i32.eqz ".repeat(30_000))),
        ),
        attack(
            "500 KB of code in one function",
            Refused("bytes, at most 65536"),
            &rule("", &format!("{} i32.const 0", "(drop (i32.const 1))".repeat(170_000))),
        ),
    ]);
}

#[test]
fn every_kind_of_trap() {
    let trap = |name, says, body: &str| attack(name, Trap(REQUEST, says), &rule("", body));
    let indirect =
        "(type $t (func)) (type $u (func (param i32))) (table 2 funcref) (elem (i32.const 0) $f) (func $f)";
    withstand(vec![
        trap("unreachable", "unreachable", "unreachable"),
        trap("division by zero", "divide by zero", "(i32.rem_s (i32.const 1) (i32.const 0))"),
        trap(
            "division that overflows",
            "integer overflow",
            "(i32.div_s (i32.const 0x80000000) (i32.const -1))",
        ),
        trap("a NaN as an integer", "invalid conversion to integer", "(i32.trunc_f32_s (f32.const nan))"),
        trap("too large for an integer", "integer overflow", "(i32.trunc_f64_u (f64.const 1e300))"),
        attack(
            "a call through nothing",
            Trap(REQUEST, "uninitialized element"),
            &rule(indirect, "(call_indirect (type $t) (i32.const 1)) i32.const 0"),
        ),
        attack(
            "a call through nowhere",
            Trap(REQUEST, "undefined element"),
            &rule(indirect, "(call_indirect (type $t) (i32.const -1)) i32.const 0"),
        ),
        attack(
            "a call of another type",
            Trap(REQUEST, "indirect call type mismatch"),
            &rule(indirect, "(call_indirect (type $u) (i32.const 0) (i32.const 0)) i32.const 0"),
        ),
    ]);
}

#[test]
fn numbers_that_are_no_verdict() {
    let says = |name, number: i32| attack(name, NoVerdict(number), &rule("", &format!("i32.const {number}")));
    withstand(vec![
        says("5", 5),
        says("-1", -1),
        says("the largest", i32::MAX),
        says("the smallest", i32::MIN),
        says("Block in the wrong half", 1 << 16),
        says("Sanitise where nothing can be replaced", 4),
        attack("Sanitise in ABI 1", NoVerdict(4), &rule_1("", "i32.const 4")),
        attack(
            "Sanitise in a hook",
            Says(Verdict::Sanitise),
            &rule("", "i32.const 4").replace("pc_request", "pc_hook"),
        )
        .in_phase(Phase::Hook),
    ]);
}

#[test]
fn vectors_and_floats_are_the_same_everywhere() {
    // The bits of what comes of a NaN with a payload.
    let canonical = |bits: &str| format!("(i32.ne (i32.reinterpret_f32 {bits}) (i32.const 0x7fc00000))");
    let nan = "(f32.reinterpret_i32 (i32.const 0xffa12345))";
    withstand(vec![
        attack("f32.add of a NaN", ALLOW, &rule("", &canonical(&format!("(f32.add {nan} (f32.const 1))")))),
        attack("f32.sqrt of -1", ALLOW, &rule("", &canonical("(f32.sqrt (f32.const -1))"))),
        attack("f32.min of a NaN", ALLOW, &rule("", &canonical(&format!("(f32.min (f32.const 1) {nan})")))),
        attack(
            "f64 of a NaN, and back",
            ALLOW,
            &rule("", &canonical(&format!("(f32.demote_f64 (f64.promote_f32 {nan}))"))),
        ),
        attack(
            "f32x4.div of zeros",
            ALLOW,
            &rule(
                "",
                &canonical(
                    "(f32x4.extract_lane 3 (f32x4.div (f32x4.splat (f32.const 0)) (f32x4.splat (f32.const 0))))",
                ),
            ),
        ),
        attack(
            "vectors for ever",
            OutOfFuel(REQUEST),
            &rule(
                "(global $v (mut v128) (v128.const i64x2 1 2))",
                "(loop $again (global.set $v (i64x2.mul (global.get $v) (i8x16.popcnt (global.get $v)))) (br $again)) i32.const 0",
            ),
        ),
    ]);
}
