//! Attacks with the describe section and its pattern sets.

use portcullis_engine::{Phase, Step, Verdict};

use crate::table::Outcome::{self, OutOfFuel, Refused, Says, Trap};
use crate::table::{Attack, binary, rule, with_section, withstand};

const SECTION: &str = "portcullis.describe";
const MATCH: &str = r#"(import "portcullis" "match_set" (func $match (param i32 i32 i32) (result i32)))"#;
const REQUEST: Step = Step::Phase(Phase::Request);
const ALLOW: Outcome = Says(Verdict::Allow);

fn described(name: &'static str, expected: Outcome, json: &[u8]) -> Attack {
    binary(name, expected, with_section(&rule("", "i32.const 0"), SECTION, json))
}

/// A rule that looks for this set, `body` calls `$match`.
fn matching(name: &'static str, expected: Outcome, patterns: &[&str], body: &str) -> Attack {
    let json = serde_json::json!({ "patternSets": [{ "patterns": patterns }] }).to_string();
    binary(name, expected, with_section(&rule(MATCH, body), SECTION, json.as_bytes()))
}

#[test]
fn documents() {
    let nested = |open: &str, close: &str| {
        format!("{{\"configSchema\": {}1{}}}", open.repeat(10_000), close.repeat(10_000))
    };
    let list =
        |key: &str, item: &str, count: usize| format!("{{\"{key}\": [{}]}}", vec![item; count].join(","));
    withstand(vec![
        described("64 KiB and a byte", Refused("at most 65536"), &vec![b' '; (64 << 10) + 1]),
        described("nothing", Refused("cannot be used"), b""),
        described("not JSON", Refused("cannot be used"), b"name: x"),
        described("not UTF-8", Refused("cannot be used"), b"{\"name\": \"\xff\"}"),
        described("not an object", Refused("cannot be used"), b"[[[]]]"),
        described("lists in lists", Refused("recursion limit"), nested("[", "]").as_bytes()),
        described("objects in objects", Refused("recursion limit"), nested("{\"a\":", "}").as_bytes()),
        described("lists in lists, skipped", ALLOW, nested("[", "]").replace("configSchema", "x").as_bytes()),
        described("a key twice", Refused("duplicate field"), br#"{"name": "a", "name": "b"}"#),
        described("a number for every atom", Refused("cannot be used"), br#"{"abi": {"major": 1e999}}"#),
        described("a version that wraps", Refused("cannot be used"), br#"{"abi": {"major": 65538}}"#),
        described("a later version", Refused("update Portcullis"), br#"{"abi": {"minor": 65535}}"#),
        described("an earlier version", Refused("ABI 1"), br#"{"abi": {"major": 1}}"#),
        described("thousands of phases", ALLOW, list("phases", "\"request\"", 5_000).as_bytes()),
        described("no phase", Refused("no phase"), br#"{"phases": []}"#),
        described("a phase that is not exported", Refused("pc_response"), br#"{"phases": ["response"]}"#),
        described("thousands of sections", ALLOW, list("sections", "\"headers\"", 5_000).as_bytes()),
        described("no section", ALLOW, br#"{"sections": []}"#),
        described("thousands of tags", Refused("tags"), list("tags", "\"a\"", 5_000).as_bytes()),
        described(
            "thousands of literals",
            Refused("literals"),
            list("prefilter", r#"{"section": "path", "literals": ["aaaa"]}"#, 1_000).as_bytes(),
        ),
        described(
            "thousands of pattern sets",
            Refused("pattern sets"),
            list("patternSets", r#"{"patterns": []}"#, 2_000).as_bytes(),
        ),
        described(
            "thousands of patterns",
            Refused("patterns"),
            list("patternSets", &list("patterns", "\"a\"", 2_000), 1).as_bytes(),
        ),
        described(
            "a huge name",
            Refused("the name"),
            format!("{{\"name\": \"{}\"}}", "n".repeat(60_000)).as_bytes(),
        ),
        described("a name of escapes", Refused("the name"), br#"{"name": "\u001b[31m"}"#),
        described(
            "a state of escapes",
            Refused("cannot be used"),
            format!("{{\"state\": \"\\u001b[31m\\r\\n{}\"}}", "s".repeat(60_000)).as_bytes(),
        ),
        described(
            "a feature of escapes",
            Refused("update Portcullis"),
            format!("{{\"abi\": {{\"features\": [\"\\u001b\\n{}\"]}}}}", "f".repeat(60_000)).as_bytes(),
        ),
        described(
            "a section of escapes",
            Refused("no section"),
            format!("{{\"sections\": [\"\\u001b\\n{}\"]}}", "f".repeat(60_000)).as_bytes(),
        ),
        described(
            "a literal of escapes",
            Refused("literal"),
            br#"{"prefilter": [{"section": "path", "literals": ["\u001b\u001b\u001b\u001b"]}]}"#,
        ),
    ]);
}

#[test]
fn several_documents() {
    let two = |first: &[u8], last: &[u8]| {
        let mut wasm = with_section(&rule("", "i32.const 0"), SECTION, first);
        let other = with_section("(module)", SECTION, last);
        wasm.extend_from_slice(&other[8..]);
        wasm
    };
    withstand(vec![
        binary("the last counts", Refused("pc_response"), two(b"{}", br#"{"phases": ["response"]}"#)),
        binary("the first does not", ALLOW, two(br#"{"phases": ["response"]}"#, b"{}")),
        binary("a thousand of them", ALLOW, {
            let mut wasm = with_section(&rule("", "i32.const 0"), SECTION, b"{}");
            let one = with_section("(module)", SECTION, b"{\"name\": \"again\"}");
            (0..1_000).for_each(|_| wasm.extend_from_slice(&one[8..]));
            wasm
        }),
    ]);
}

#[test]
fn pattern_sets() {
    let one = "(call $match (i32.const 0) (i32.const 0) (i32.const 1000)) drop i32.const 0";
    let for_ever = "(loop $again (drop (call $match (i32.const 0) (i32.const 0) (i32.const 1000))) (br $again)) i32.const 0";
    let nothing_for_ever = "(loop $again (drop (call $match (i32.const 0) (i32.const 0) (i32.const 0))) (br $again)) i32.const 0";
    let large = r"a.{200}b.{200}c";
    let everywhere: Vec<String> = (0..256).map(|n| format!("[ab]|z{n}")).collect();
    let everywhere: Vec<&str> = everywhere.iter().map(String::as_str).collect();
    withstand(vec![
        matching(
            "an automaton that explodes",
            Refused("patterns cannot be used"),
            &["(?:(?:(?:a{100}){100}){100}){100}"],
            one,
        ),
        matching("nothing, very often", OutOfFuel(REQUEST), &["(?:(?:){1000}){1000}"], for_ever),
        matching("every letter there is", Refused("patterns cannot be used"), &[r"(?u)\w{1000}"], one),
        matching("parentheses", Refused("patterns cannot be used"), &[&"(".repeat(1_000)], one),
        matching("a pattern of escapes", Refused("patterns cannot be used"), &["(\u{1b}[31m\n\r("], one),
        matching(
            "states that double with each letter",
            OutOfFuel(REQUEST),
            &[r"(?:a|b)*a(?:a|b){60}"],
            for_ever,
        ),
        matching("many states, for ever", OutOfFuel(REQUEST), &[large], for_ever),
        matching(
            "a search of nothing in many states, for ever",
            OutOfFuel(REQUEST),
            &[large],
            nothing_for_ever,
        ),
        matching("all patterns match everywhere", OutOfFuel(REQUEST), &everywhere, for_ever),
        matching("a set of no patterns", OutOfFuel(REQUEST), &[], for_ever),
        matching(
            "a search of nowhere",
            Trap(REQUEST, "out of bounds"),
            &["a"],
            "(call $match (i32.const 0) (i32.const 131072) (i32.const 1))",
        ),
        matching(
            "a search that wraps",
            Trap(REQUEST, "out of bounds"),
            &["a"],
            "(call $match (i32.const 0) (i32.const -1) (i32.const 3))",
        ),
        matching(
            "a search of 4 GiB",
            OutOfFuel(REQUEST),
            &["a"],
            "(call $match (i32.const 0) (i32.const 0) (i32.const -1))",
        ),
        matching(
            "a search of nothing at the end",
            ALLOW,
            &["x"],
            "(call $match (i32.const 0) (i32.const 131072) (i32.const 0)) i32.const 1 i32.add",
        ),
        matching(
            "the next set",
            Trap(REQUEST, "does not have"),
            &["a"],
            "(call $match (i32.const 1) (i32.const 0) (i32.const 1))",
        ),
    ]);
}
