//! Rules of ABI 2: what they see, what they may say, what becomes of them when they cannot see.

use portcullis_crds::wasm_rule::{FailureAction, Mode, OnFailure};
use portcullis_proxy::rules::ActiveRule;

use super::client::Answer;
use super::rules::assert_unjudged;
use super::upstream::Echo;
use super::world::{World, blocks_tilde, rule};

/// Finds a `~` in the view: 1 if there is one.
const TILDE: &str = "(func $tilde (param $at i32) (param $len i32) (result i32)
    (local $end i32)
    (local.set $end (i32.add (local.get $at) (local.get $len)))
    (loop $next
      (if (i32.ge_u (local.get $at) (local.get $end)) (then (return (i32.const 0))))
      (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 126)) (then (return (i32.const 1))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next))
    (unreachable))";

/// A rule of ABI 2 with this describe document and these functions. `$tilde` is there, and 32 KiB from 1,024 on.
pub(crate) fn abi2(name: &str, describe: &str, functions: &str) -> ActiveRule {
    let describe = describe.replace('"', "\\\"");
    rule(
        name,
        &format!(
            r#"(module
                (@custom "portcullis.describe" "{describe}")
                (memory (export "memory") 4)
                (func (export "pc_buffer") (param i32) (result i32) (i32.const 65536))
                {TILDE}
                {functions})"#
        ),
    )
}

/// A phase that blocks what has a `~` in what it is shown.
pub(crate) fn phase(export: &str) -> String {
    format!(
        r#"(func (export "{export}") (param i32 i32) (result i32) (call $tilde (local.get 0) (local.get 1)))"#
    )
}

/// `pc_detail` that says these items.
fn detail(items: &[(u16, &[u8])]) -> String {
    let mut bytes = Vec::new();
    for (tag, item) in items {
        bytes.extend(tag.to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(u32::try_from(item.len()).unwrap().to_le_bytes());
        bytes.extend(*item);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let text: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let pointer = (1_024_u64 << 32) | bytes.len() as u64;
    format!(
        r#"(data (i32.const 1024) "{text}") (func (export "pc_detail") (result i64) (i64.const {pointer}))"#
    )
}

fn world(rules: Vec<ActiveRule>) -> (World, Echo) {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    world.enforce(rules);
    (world, upstream)
}

fn post(world: &World, content_type: &str, body: &str) -> u16 {
    posted(world, content_type, body).status
}

fn posted(world: &World, content_type: &str, body: &str) -> Answer {
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    world.client().send(head + body).answer()
}

#[test]
fn a_rule_sees_the_sections_that_it_declares_and_no_others() {
    for (sections, blocked) in [
        (r#"["headers"]"#, "GET / HTTP/1.1\r\nHost: a\r\nX: ~\r\n\r\n"),
        (r#"["path"]"#, "GET /~ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (r#"["query"]"#, "GET /?a=%7e HTTP/1.1\r\nHost: a\r\n\r\n"),
        (r#"["cookies"]"#, "GET / HTTP/1.1\r\nHost: a\r\nCookie: a=~\r\n\r\n"),
    ] {
        let rule = abi2("r", &format!(r#"{{"sections": {sections}}}"#), &phase("pc_request"));
        let (world, upstream) = world(vec![rule]);
        let mut client = world.client();
        assert_eq!(client.send(blocked).answer().status, 403, "{sections}");
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(client.send(request).answer().status, 200, "{sections}");
        // Of what the others see, this one sees nothing.
        if sections == r#"["path"]"# {
            assert_eq!(client.send("GET /?~ HTTP/1.1\r\nHost: a\r\nX: ~\r\n\r\n").answer().status, 200);
        }
        assert!(upstream.requests() >= 1);
    }
}

#[test]
fn the_answer_to_a_block_is_the_one_that_the_rule_wants() {
    let items = detail(&[
        (1, b"a tilde"),
        (2, b"tilde.header"),
        (6, &429_u32.to_le_bytes()),
        (7, b"text/x-reason"),
        (8, &7_u32.to_le_bytes()),
        (9, b"/blocked"),
        (10, b"no, says {eventId}"),
    ]);
    let mut rule = abi2("r", r#"{"sections": ["headers"]}"#, &(phase("pc_request") + &items));
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX: ~\r\n\r\n";
    let (world, _upstream) = world(vec![]);
    world.enforce(vec![rule]);
    let answer = world.client().send(request).answer();
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("content-type"), Some("text/x-reason"));
    assert_eq!(answer.header("retry-after"), Some("7"));
    assert_eq!(answer.header("location"), Some("/blocked"));
    let id = answer.header("x-portcullis-event-id").unwrap();
    assert_eq!(answer.body, format!("no, says {id}"));

    rule = abi2("r", r#"{"sections": ["headers"]}"#, &(phase("pc_request") + &items));
    rule.mode = Mode::Monitor;
    world.enforce(vec![rule]);
    assert_eq!(world.client().send(request).answer().status, 200);
}

#[test]
fn a_void_detail_leaves_the_verdict_and_the_rules_own_answer() {
    let items = detail(&[(6, &200_u32.to_le_bytes()), (10, b"welcome")]);
    let (world, _upstream) =
        world(vec![abi2("r", r#"{"sections": ["path"]}"#, &(phase("pc_request") + &items))]);
    let answer = world.client().get("/~");
    assert_eq!(answer.status, 403);
    assert!(answer.body.starts_with("Blocked by WASM rule: r\n"), "{}", answer.body);
}

#[test]
fn a_body_is_taken_apart_for_the_rules_that_ask_for_its_arguments() {
    let mut rule = abi2("r", r#"{"sections": ["bodyArguments"]}"#, &phase("pc_request_body"));
    rule.body_bytes = Some(1_000);
    let (world, _upstream) = world(vec![rule]);
    assert_eq!(post(&world, "application/x-www-form-urlencoded", "user=admin"), 200);
    assert_eq!(post(&world, "application/x-www-form-urlencoded", "user=%7Eadmin"), 403);
    assert_eq!(post(&world, "application/json", r#"{"user": ["\u007e"]}"#), 403);
    assert_eq!(post(&world, "application/json", r#"{"user": ["a"]}"#), 200);
    // Larger than limits.bodyBytes.
    assert_eq!(post(&world, "application/json", &"1".repeat(1_001)), 403);
    world.wait_for_metric(
        r#"portcullis_rule_errors_total{namespace="shop",rule="r",cause="body_too_large"} 1"#,
    );
}

#[test]
fn a_body_is_not_read_for_a_phase_without_a_bound_on_bodies() {
    let rule = abi2("r", r#"{"sections": ["body"]}"#, &phase("pc_request_body"));
    let (world, _upstream) = world(vec![rule]);
    assert_eq!(post(&world, "text/plain", "~"), 200);
}

#[test]
fn what_cannot_be_decoded_is_decided_before_the_rule_runs() {
    // 2, Log, if the first section is MALFORMED.
    let flagged = r#"(func (export "pc_request_body") (param i32 i32) (result i32)
        (i32.shr_u (i32.and (i32.load16_u offset=18 (local.get 0)) (i32.const 4)) (i32.const 1)))"#;
    for (malformed, sections, status, series) in [
        (
            FailureAction::Block,
            "bodyArguments",
            403,
            r#"portcullis_rule_errors_total{namespace="shop",rule="r",cause="malformed"}"#,
        ),
        (
            FailureAction::Allow,
            "bodyArguments",
            200,
            r#"portcullis_rule_evaluations_total{namespace="shop",rule="r",verdict="log"}"#,
        ),
        // Of a section that the rule does not read it need not know.
        (
            FailureAction::Block,
            "body",
            200,
            r#"portcullis_rule_evaluations_total{namespace="shop",rule="r",verdict="allow"}"#,
        ),
    ] {
        let mut rule = abi2("r", &format!(r#"{{"sections": ["{sections}"]}}"#), flagged);
        rule.on_failure = OnFailure { malformed, ..OnFailure::default() };
        rule.body_bytes = Some(1_000);
        let (world, _upstream) = world(vec![rule]);
        let answer = posted(&world, "application/json", "{\"a\":");
        assert_eq!(answer.status, status, "{malformed:?} {sections}");
        if status == 403 {
            assert_unjudged(&answer, "r", "malformed");
        }
        world.wait_for_metric(&format!("{series} 1"));
        assert_eq!(post(&world, "application/json", "{\"a\":1}"), 200);
    }
}

#[test]
fn a_lone_percent_sign_is_kept_and_the_rule_runs() {
    let mut rule = abi2(
        "r",
        r#"{"sections": ["query", "bodyArguments"]}"#,
        &(phase("pc_request") + &phase("pc_request_body")),
    );
    rule.body_bytes = Some(1_000);
    let (world, _upstream) = world(vec![rule]);
    let mut client = world.client();
    for (target, status) in [
        ("/search?q=100%", 200),
        ("/search?q=%zz&%=%4", 200),
        ("/search?q=%u0041", 200),
        ("/search?q=100%&a=%7E", 403),
        ("/search?q=%7E%", 403),
        ("/search?q=%u007E", 403),
    ] {
        assert_eq!(client.get(target).status, status, "{target}");
    }
    for (form, status) in [("discount=50%&x=1", 200), ("discount=50%&x=%7E", 403), ("discount=%7E%", 403)] {
        assert_eq!(post(&world, "application/x-www-form-urlencoded", form), status, "{form}");
    }
    assert_eq!(
        world.metric(r#"portcullis_rule_errors_total{namespace="shop",rule="r",cause="malformed"}"#),
        0
    );
}

#[test]
fn a_body_whose_type_does_not_say_what_it_is_is_read_by_its_look() {
    let mut rule = abi2("r", r#"{"sections": ["bodyArguments"]}"#, &phase("pc_request_body"));
    rule.body_bytes = Some(1_000);
    let (world, _upstream) = world(vec![rule]);
    let send = |fields: &str, body: &str| {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
        world.client().send(head + body).answer().status
    };
    for fields in [
        "",
        "Content-Type:\r\n",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/octet-stream\r\n",
        "Content-Type: application/xml\r\n",
    ] {
        for (body, status) in [
            (r#"{"user": ["\u007e"]}"#, 403),
            ("{\"a\":1}\n{\"a\":\"\\u007e\"}", 403),
            ("user=%7Eadmin", 403),
            (r#"{"user": ["a"]}"#, 200),
            ("user=admin", 200),
            ("a text", 200),
            ("{ a text }", 200),
        ] {
            assert_eq!(send(fields, body), status, "{fields:?} {body}");
        }
    }
    assert_eq!(post(&world, "application/x-www-form-urlencoded", r#"{"user": "\u007e"}"#), 403);
    assert_eq!(post(&world, "application/x-www-form-urlencoded", r#"{"user": "a"}"#), 200);
}

#[test]
fn what_a_rule_leaves_in_one_phase_it_finds_in_the_next() {
    let functions = phase("pc_request_body")
        + r#"(func (export "pc_request") (param i32 i32) (result i32)
               ;; The first byte of the method, P or G: after the header, a directory of two and a table of three.
               (i32.store8 (i32.const 1024) (i32.add (i32.const 46)
                 (i32.load8_u (i32.add (local.get 0) (i32.const 204)))))
               (i32.const 0))
           (func (export "pc_carry") (result i64) (i64.const 0x40000000001))"#;
    let mut rule = abi2("r", r#"{"sections": ["requestLine", "carry"]}"#, &functions);
    rule.body_bytes = Some(1_000);
    let (world, _upstream) = world(vec![rule]);
    // `P` and 46 is `~`, `G` and 46 is not.
    assert_eq!(post(&world, "text/plain", "a"), 403);
    assert_eq!(world.client().get("/").status, 200);
    world
        .wait_for_metric(r#"portcullis_rule_evaluations_total{namespace="shop",rule="r",verdict="block"} 1"#);
    world
        .wait_for_metric(r#"portcullis_rule_evaluations_total{namespace="shop",rule="r",verdict="allow"} 3"#);
}

#[test]
fn rules_of_both_versions_run_in_one_order() {
    for (first, second) in [("a", "b"), ("b", "a")] {
        let (mut old, mut new) =
            (blocks_tilde("old"), abi2("new", r#"{"sections": ["path", "query"]}"#, &phase("pc_request")));
        old.key.name = first.into();
        new.key.name = second.into();
        let (world, _upstream) = world(vec![old, new]);
        let answer = world.client().get("/~");
        assert!(answer.body.starts_with("Blocked by WASM rule: a\n"), "{}", answer.body);
        assert_eq!(world.client().get("/").status, 200);
    }
}

#[test]
fn many_rules_within_their_limits_are_too_much_together() {
    // About 3 million fuel each, where a request has 8.
    let dear = |name: &str| {
        let mut rule = abi2(
            name,
            r#"{"sections": ["path"]}"#,
            r#"(func (export "pc_request") (param i32 i32) (result i32)
                (local.set 0 (i32.const 600000))
                (loop $again (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
                (i32.const 0))"#,
        );
        rule.limits.fuel = 4_000_000;
        rule.limits.deadline = super::world::PATIENCE;
        rule
    };
    let (world, _upstream) = world(["a", "b", "c", "d"].map(dear).into());
    assert_unjudged(&world.client().get("/"), "d", "budget");
    world.wait_for_metric(r#"portcullis_rule_errors_total{namespace="shop",rule="d",cause="budget"} 1"#);

    let mut lenient = dear("d");
    lenient.on_failure.budget = FailureAction::Allow;
    world.enforce(vec![dear("a"), dear("b"), dear("c"), lenient]);
    assert_eq!(world.client().get("/").status, 200);
}
