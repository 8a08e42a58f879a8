//! Bodies with a content coding: what is not decoded is not passed unseen.

use portcullis_crds::wasm_rule::{FailureAction, Mode};
use portcullis_proxy::rules::ActiveRule;

use super::abi2::abi2;
use super::client::Answer;
use super::upstream::Echo;
use super::world::{World, always};

fn world(rules: Vec<ActiveRule>) -> (World, Echo) {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    world.enforce(rules);
    (world, upstream)
}

/// The answer to a body in this coding.
fn encoded(world: &World, coding: &str, body: &str) -> Answer {
    let framing = format!("Content-Encoding: {coding}\r\nContent-Length: {}", body.len());
    world.client().send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}")).answer()
}

#[test]
fn a_body_that_cannot_be_decoded_is_never_passed_unseen() {
    let of_abi_2 = |section: &str| {
        let mut rule = abi2(
            "r",
            &format!(r#"{{"sections": ["{section}"]}}"#),
            r#"(func (export "pc_request_body") (param i32 i32) (result i32) (i32.const 0))"#,
        );
        rule.body_bytes = Some(10);
        rule
    };
    let of_abi_1 = || {
        let mut rule = always("r", 0);
        rule.body_bytes = Some(10);
        rule
    };
    for make in [&of_abi_1 as &dyn Fn() -> ActiveRule, &|| of_abi_2("body"), &|| of_abi_2("bodyArguments")] {
        let (world, upstream) = world(vec![make()]);
        for coding in ["gzip", "deflate", "br", "zstd", "x-unknown", "gzip, gzip", "identity, gzip", "GZIP"] {
            let answer = encoded(&world, coding, "abc");
            assert_eq!(answer.status, 415, "{coding}: {}", answer.body);
            assert!(answer.body.contains(&format!("found Content-Encoding: {coding}, ")), "{}", answer.body);
            assert!(
                answer.body.contains("WASM rule r ") && answer.body.contains("identity"),
                "{}",
                answer.body
            );
            let id = answer.header("x-portcullis-event-id").unwrap();
            assert!(answer.body.ends_with(&format!("\nEvent id: {id}\n")), "{}", answer.body);
            assert_eq!(answer.header("accept-encoding"), Some("identity"));
        }
        assert_eq!(upstream.requests(), 0);
        world.wait_for_metric(
            r#"portcullis_rule_errors_total{namespace="shop",rule="r",cause="malformed"} 8"#,
        );
        for (coding, body) in
            [("identity", "a=b"), ("", "a=b"), ("identity, , identity", "a=b"), ("gzip", "")]
        {
            let answer = encoded(&world, coding, body);
            assert_eq!(answer.status, 200, "{coding} {body}: {}", answer.body);
        }

        let mut allowing = make();
        allowing.on_failure.malformed = FailureAction::Allow;
        world.enforce(vec![allowing]);
        assert_eq!(encoded(&world, "gzip", "abc").status, 200);

        let mut monitored = make();
        monitored.mode = Mode::Monitor;
        world.enforce(vec![monitored]);
        assert_eq!(encoded(&world, "gzip", "abc").status, 200);
        world.wait_for_metric(r#"portcullis_requests_total{verdict="would_block",mode="monitor"} 1"#);
    }
}

#[test]
fn a_coding_is_no_matter_to_rules_that_read_no_body() {
    let mut carrying = abi2(
        "r",
        r#"{"sections": ["requestLine"]}"#,
        r#"(func (export "pc_request_body") (param i32 i32) (result i32) (i32.const 0))"#,
    );
    carrying.body_bytes = Some(10);
    let (world, _upstream) = world(vec![always("head", 0), carrying]);
    let answer = encoded(&world, "gzip", "abc");
    assert_eq!(answer.status, 200);
    assert!(answer.body.ends_with("\n\nabc") && answer.body.contains("\ncontent-encoding: gzip\n"));
}
