//! The verdict RateLimit.

use portcullis_crds::wasm_rule::Mode;
use portcullis_proxy::rules::ActiveRule;
use serde_json::{Value, json};

use super::rules::world;
use super::world::always;

/// A rule that wants every request limited.
fn limiting(limit: &Value) -> ActiveRule {
    ActiveRule { rate_limit: Some(serde_json::from_value(limit.clone()).unwrap()), ..always("login", 3) }
}

#[test]
fn what_is_over_the_limit_is_answered_with_429_and_when_to_come_again() {
    let limit = json!({"requests": 2, "window": "1h"});
    let (world, upstream) = world(vec![limiting(&limit)]);
    for _ in 0..2 {
        assert_eq!(world.client().get("/").status, 200);
    }
    let answer = world.client().get("/");
    assert_eq!((answer.status, upstream.requests()), (429, 2));
    let wait: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1700..=1800).contains(&wait), "{wait}");
    assert!(
        answer.body.starts_with("Too many requests, by WASM rule: login. Try again in"),
        "{}",
        answer.body
    );
    assert!(answer.header("x-portcullis-event-id").is_some());

    // A swap of rules forgets nothing; another limit begins anew.
    world.enforce(vec![limiting(&limit)]);
    assert_eq!(world.client().get("/").status, 429);
    world.enforce(vec![limiting(&json!({"requests": 1, "window": "1h"}))]);
    assert_eq!([world.client().get("/").status, world.client().get("/").status], [200, 429]);
}

#[test]
fn in_monitor_and_without_a_limit_every_request_goes_on() {
    let limit = json!({"requests": 1, "window": "1h"});
    let (world, _upstream) = world(vec![ActiveRule { mode: Mode::Monitor, ..limiting(&limit) }]);
    assert_eq!([world.client().get("/").status, world.client().get("/").status], [200, 200]);
    world.enforce(vec![always("login", 3)]);
    assert_eq!(world.client().get("/").status, 200);
}
