//! Attacks with what ABI 2 adds: the buffer, the detail, the carry, the imports.

use portcullis_engine::{Engine, EngineConfig, Phase, Step, Verdict};
use portcullis_view::Sections;

use crate::table::Outcome::{
    BadBuffer, BadDetail, CarryTooLarge, MemoryLimit, NoRoom, OutOfFuel, Refused, Says, Trap,
};
use crate::table::{attack, rule, with_buffer, withstand};
use crate::{limits, view};

const REQUEST: Step = Step::Phase(Phase::Request);
const ALLOW: crate::table::Outcome = Says(Verdict::Allow);
const BLOCK: crate::table::Outcome = Says(Verdict::Block);

const LOG: &str = r#"(import "portcullis" "log" (func $log (param i32 i32 i32)))"#;
const MATCH: &str = r#"(import "portcullis" "match_set" (func $match (param i32 i32 i32) (result i32)))"#;

#[test]
fn the_buffer() {
    let buffer = |name, expected, body: &str| attack(name, expected, &with_buffer(body, "", "i32.const 0"));
    let counting = "(global $n (mut i32) (i32.const 0))";
    withstand(vec![
        buffer("no buffer", NoRoom, "i32.const 0"),
        buffer("a buffer at -1", BadBuffer(Step::Buffer), "i32.const -1"),
        buffer("a buffer at the end of 4 GiB", BadBuffer(Step::Buffer), "i32.const 0xfffffff0"),
        buffer("a buffer in the upper half", BadBuffer(Step::Buffer), "i32.const 0x80000000"),
        buffer("a buffer that starts inside", BadBuffer(Step::Buffer), "i32.const 131071"),
        buffer("a buffer right behind the end", BadBuffer(Step::Buffer), "i32.const 131072"),
        buffer(
            "a buffer that ends one byte too late",
            BadBuffer(Step::Buffer),
            "(i32.sub (i32.const 131073) (local.get $len))",
        ),
        buffer("a buffer that just fits", ALLOW, "(i32.sub (i32.const 131072) (local.get $len))"),
        buffer("a buffer at an odd place", ALLOW, "i32.const 1"),
        buffer("a buffer that loops", OutOfFuel(Step::Buffer), "(loop $again (br $again)) i32.const 8"),
        buffer("a buffer that traps", Trap(Step::Buffer, "unreachable"), "unreachable"),
        buffer(
            "a buffer that wants all memory",
            MemoryLimit(Step::Buffer),
            "(drop (memory.grow (i32.const 63))) i32.const 8",
        ),
        buffer("a buffer in new memory", ALLOW, "(i32.mul (memory.grow (i32.const 1)) (i32.const 65536))"),
        attack(
            "a buffer that recurses",
            Trap(Step::Buffer, "call stack exhausted"),
            &with_buffer(
                "(call $f (i32.const 1))",
                "(func $f (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1)))",
                "i32.const 0",
            ),
        ),
        attack(
            "a buffer over the module's own data",
            ALLOW,
            &with_buffer(
                "i32.const 16",
                "(data (i32.const 0) \"0123456789012345678901234567890123456789\")",
                // The view is there, whole.
                "(i32.ne (i32.load (i32.const 16)) (i32.const 0x32564350))",
            ),
        ),
        attack(
            "a buffer in another place each time",
            ALLOW,
            &with_buffer(
                "(global.set $n (i32.add (global.get $n) (i32.const 8))) (i32.add (i32.const 4096) (global.get $n))",
                counting,
                "(i32.ne (i32.load (local.get $ptr)) (i32.const 0x32564350))",
            ),
        ),
        attack(
            "a rule that overwrites its view",
            ALLOW,
            &rule("", "(memory.fill (local.get $ptr) (i32.const 255) (local.get $len)) i32.const 0"),
        ),
    ]);
}

/// A rule that blocks, and whose detail is this place.
fn detail(fields: &str, body: &str) -> String {
    rule(&format!("{fields} (func (export \"pc_detail\") (result i64) {body})"), "i32.const 1")
}

/// A detail of these bytes.
fn said(bytes: &[u8]) -> String {
    let escaped: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
    detail(
        &format!("(data (i32.const 65536) \"{escaped}\")"),
        &format!("i64.const {}", 65_536_u64 << 32 | bytes.len() as u64),
    )
}

fn item(tag: u16, bytes: &[u8]) -> Vec<u8> {
    let mut item = tag.to_le_bytes().to_vec();
    item.extend([0, 0]);
    item.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    item.extend(bytes);
    item.resize(item.len().next_multiple_of(4), 0);
    item
}

fn place(section: u16, index: u32, offset: u32, length: u32) -> Vec<u8> {
    let mut bytes = section.to_le_bytes().to_vec();
    bytes.extend([0, 0]);
    for number in [index, offset, length, 0] {
        bytes.extend(number.to_le_bytes());
    }
    item(5, &bytes)
}

#[test]
fn the_detail() {
    withstand(vec![
        attack("no detail", BLOCK, &detail("", "i64.const 0")),
        attack("a detail of nothing, nowhere", BLOCK, &detail("", "i64.const 0xffffffff00000000")),
        attack(
            "a detail out of bounds",
            BadDetail("not inside the memory"),
            &detail("", "i64.const 0x0001fff800000010"),
        ),
        attack("a detail that wraps", BadDetail("not inside the memory"), &detail("", "i64.const -1")),
        attack("a detail of 128 KiB", BadDetail("at most 32768"), &detail("", "i64.const 0x20000")),
        attack("a detail of zeros", BLOCK, &detail("", "i64.const 0x1000000000100")),
        attack(
            "a detail that loops",
            BadDetail("fuel"),
            &detail("", "(loop $again (br $again)) i64.const 0"),
        ),
        attack("a detail that traps", BadDetail("unreachable"), &detail("", "unreachable")),
        attack(
            "a detail that wants all memory",
            BadDetail("limit"),
            &detail("", "(drop (memory.grow (i32.const 65000))) i64.const 0"),
        ),
        attack(
            "a detail that recurses",
            BadDetail("call stack"),
            &detail("(func $f (call $f) (call $f))", "(call $f) i64.const 0"),
        ),
        attack(
            "a detail in new memory",
            BLOCK,
            &detail(
                "",
                "(i64.or (i64.shl (i64.extend_i32_u (i32.mul (memory.grow (i32.const 1)) (i32.const 65536))) (i64.const 32)) (i64.const 64))",
            ),
        ),
        attack("a message that is not UTF-8", BadDetail("UTF-8"), &said(&item(1, b"\xff\xfe"))),
        attack("a message cut within a character", BadDetail("UTF-8"), &said(&item(1, &"ü".as_bytes()[..1]))),
        attack("a message of control characters", BLOCK, &said(&item(1, b"a\r\nb\x1b[31m\0"))),
        attack("a message too long", BadDetail("1,024"), &said(&item(1, &[b'a'; 1025]))),
        attack("two messages", BadDetail("more than 1"), &said(&[item(1, b"a"), item(1, b"b")].concat())),
        attack("a location elsewhere", BadDetail("path of this host"), &said(&item(9, b"//evil.example"))),
        attack("a header within a header", BadDetail("item 7"), &said(&item(7, b"a\r\nset-cookie: b=c"))),
        attack("a status that is success", BadDetail("status"), &said(&item(6, &200_u32.to_le_bytes()))),
        attack(
            "an item longer than all",
            BadDetail("ends within an item"),
            &said(&[1, 0, 0, 0, 255, 255, 255, 255, 1]),
        ),
        attack("four thousand unknown items", BLOCK, &said(&item(999, b"").repeat(4_000))),
        attack("seventeen tags", BadDetail("more than 16"), &said(&item(4, b"CWE-1").repeat(17))),
        attack("a match in no section", BadDetail("place in the view"), &said(&place(99, 0, 0, 0))),
        attack(
            "a match in a section that is not shown",
            BadDetail("place in the view"),
            &said(&place(6, 0, 0, 1)),
        ),
        attack("a match in no entry", BadDetail("place in the view"), &said(&place(5, u32::MAX, 0, 0))),
        attack("a match that wraps", BadDetail("place in the view"), &said(&place(5, 0, u32::MAX, u32::MAX))),
        attack("a match one byte too long", BadDetail("place in the view"), &said(&place(5, 0, 1, 9))),
        attack("a match that is all of it", BLOCK, &said(&place(5, 0, 0, 9))),
    ]);
}

#[test]
fn the_carry() {
    // Read after every phase but the last, so there is another one.
    let carry = |name, expected, body: &str| {
        let fields = format!(
            "(func (export \"pc_carry\") (result i64) {body})
             (func (export \"pc_response\") (param i32 i32) (result i32) i32.const 0)"
        );
        attack(name, expected, &rule(&fields, "i32.const 0"))
    };
    withstand(vec![
        carry("a carry of nothing", ALLOW, "i64.const 0"),
        carry("a carry of 4 KiB", ALLOW, "i64.const 4096"),
        carry("a carry of a byte more", CarryTooLarge, "i64.const 4097"),
        carry("a carry of 4 GiB", CarryTooLarge, "i64.const -1"),
        carry("a carry out of bounds", BadBuffer(Step::Carry), "i64.const 0x0001fff800000010"),
        carry("a carry that wraps", BadBuffer(Step::Carry), "i64.const 0xffffffff00000010"),
        carry("a carry that loops", OutOfFuel(Step::Carry), "(loop $again (br $again)) i64.const 0"),
        carry("a carry that traps", Trap(Step::Carry, "unreachable"), "unreachable"),
        carry(
            "a carry that wants all memory",
            MemoryLimit(Step::Carry),
            "(drop (memory.grow (i32.const 65000))) i64.const 0",
        ),
        attack(
            "a describe that points nowhere is not asked for a verdict",
            ALLOW,
            &rule("(func (export \"pc_describe\") (result i64) i64.const -1)", "i32.const 0"),
        ),
    ]);
}

#[test]
fn the_imports() {
    let log = |name, expected, body: &str| attack(name, expected, &rule(LOG, &format!("{body} i32.const 0")));
    withstand(vec![
        log(
            "a log of nowhere",
            Trap(REQUEST, "out of bounds"),
            "(call $log (i32.const 0) (i32.const 131072) (i32.const 1))",
        ),
        log(
            "a log that wraps",
            Trap(REQUEST, "out of bounds"),
            "(call $log (i32.const 0) (i32.const -1) (i32.const 2))",
        ),
        log("a log of 4 GiB", OutOfFuel(REQUEST), "(call $log (i32.const 0) (i32.const 0) (i32.const -1))"),
        log(
            "a log of all memory",
            OutOfFuel(REQUEST),
            "(call $log (i32.const 0) (i32.const 0) (i32.const 131072))",
        ),
        log(
            "a log of what is not UTF-8",
            ALLOW,
            "(memory.fill (i32.const 0) (i32.const 255) (i32.const 2000)) (call $log (i32.const 77) (i32.const 0) (i32.const 2000))",
        ),
        log(
            "a log for ever",
            OutOfFuel(REQUEST),
            "(loop $again (call $log (i32.const 0) (i32.const 0) (i32.const 0)) (br $again))",
        ),
        log("hundreds of lines", ALLOW, &"(call $log (i32.const 0) (i32.const 0) (i32.const 1))".repeat(500)),
        log(
            "thousands of lines",
            OutOfFuel(REQUEST),
            &"(call $log (i32.const 0) (i32.const 0) (i32.const 1))".repeat(2_000),
        ),
        attack(
            "a log from the buffer",
            ALLOW,
            &with_buffer(
                "(call $log (i32.const 3) (i32.const 0) (i32.const 9)) i32.const 8",
                LOG,
                "i32.const 0",
            ),
        ),
        attack(
            "a set that there is not",
            Trap(REQUEST, "does not have"),
            &rule(MATCH, "(call $match (i32.const 0) (i32.const 0) (i32.const 1))"),
        ),
        attack(
            "set -1",
            Trap(REQUEST, "does not have"),
            &rule(MATCH, "(call $match (i32.const -1) (i32.const 0) (i32.const 1))"),
        ),
        attack(
            "an import of nobody",
            Refused("env.system"),
            &rule(r#"(import "env" "system" (func (param i32)))"#, "i32.const 0"),
        ),
        attack(
            "an import with control characters",
            Refused("a rule may import"),
            &rule(r#"(import "env\0a\1b[2J" "x\00" (func))"#, "i32.const 0"),
        ),
        attack(
            "an import of another type",
            Refused("portcullis.log"),
            &rule(r#"(import "portcullis" "log" (func (result i64)))"#, "i32.const 0"),
        ),
        attack(
            "an import that is a global",
            Refused("portcullis.match_set"),
            &rule(r#"(import "portcullis" "match_set" (global i32))"#, "i32.const 0"),
        ),
        attack(
            "an import ten thousand times",
            Refused("imports"),
            &rule(&r#"(import "portcullis" "log" (func (param i32 i32 i32)))"#.repeat(10_000), "i32.const 0"),
        ),
        attack(
            "an import that is exported",
            Refused("the export `pc_request` is expected to be"),
            &format!(
                "(module {LOG} (memory (export \"memory\") 1) (export \"pc_request\" (func $log)) (func (export \"pc_buffer\") (param i32) (result i32) i32.const 8))"
            ),
        ),
    ]);
}

#[test]
fn what_a_rule_logs_is_text() {
    let engine = Engine::new(&EngineConfig { workers: 1, ..EngineConfig::default() }).unwrap();
    let wat = rule(
        &format!("{LOG} (data (i32.const 0) \"a\\0d\\0ab\\1b[31m\\ff\")"),
        &format!("{} i32.const 0", "(call $log (i32.const 1) (i32.const 0) (i32.const 10))".repeat(20)),
    );
    let module = engine.compile(&wat::parse_str(wat).unwrap()).unwrap();
    let log = module.inspect_view(Phase::Request, &view(Sections::DEFAULT), b"", &limits()).unwrap().log;
    assert_eq!(log.len(), 16);
    assert!(log.iter().all(|line| line.text == "a  b [31m\u{fffd}"), "{log:?}");
}
