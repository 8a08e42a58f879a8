//! What rules do to requests.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use portcullis_crds::bus::{Shadow, Share};
use portcullis_crds::wasm_rule::{Block, FailureAction, Mode, OnFailure, Responses};
use portcullis_crds::{Revision, RuleKey};
use portcullis_proxy::rules::{ActiveRule, Loaded, Role};

use super::client::Answer;
use super::upstream::Echo;
use super::world::{World, always, blocks_tilde, inspecting, rule};

fn world(rules: Vec<ActiveRule>) -> (World, Echo) {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    world.enforce(rules);
    (world, upstream)
}

/// The answer says that this rule came to no verdict, and why.
#[track_caller]
pub(crate) fn assert_unjudged(answer: &Answer, rule: &str, cause: &str) {
    let id = answer.header("x-portcullis-event-id").unwrap();
    let expected = format!("Could not judge the request by WASM rule: {rule} ({cause})\nEvent id: {id}\n");
    assert_eq!((answer.status, &*answer.body), (403, &*expected));
}

#[test]
fn a_blocked_request_says_by_which_rule_and_never_arrives() {
    let (world, upstream) = world(vec![always("bad-bot-blocker", 1)]);
    let mut client = world.client();
    let answer = client.get("/");
    let id = answer.header("x-portcullis-event-id").unwrap();
    assert_eq!(id.len(), 26);
    assert_eq!(answer.status, 403);
    assert_eq!(answer.body, format!("Blocked by WASM rule: bad-bot-blocker\nEvent id: {id}\n"));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let other = client.get("/");
    assert_ne!(other.header("x-portcullis-event-id"), Some(id));
    assert_eq!(upstream.requests(), 0);
    world.wait_for_metric(r#"portcullis_requests_total{verdict="block",mode="enforce"} 2"#);
    world.wait_for_metric(
        r#"portcullis_rule_evaluations_total{namespace="shop",rule="bad-bot-blocker",verdict="block"} 2"#,
    );
    world.wait_for_metric("portcullis_rule_fuel_count 2");
}

#[test]
fn allow_log_and_rate_limit_let_a_request_through() {
    for (result, verdict) in [(0, "allow"), (2, "log"), (3, "rate_limit")] {
        let (world, _upstream) = world(vec![always("r", result)]);
        assert_eq!(world.client().get("/").status, 200);
        world.wait_for_metric(&format!(r#"portcullis_requests_total{{verdict="{verdict}",mode="any"}} 1"#));
    }
}

#[test]
fn no_verdict_but_an_enforced_block_ends_the_chain() {
    let mut monitored = always("b-monitor", 1);
    monitored.mode = Mode::Monitor;
    let (world, upstream) =
        world(vec![always("a-log", 2), monitored, always("c-allow", 0), always("d-block", 1)]);
    let answer = world.client().get("/");
    assert!(answer.body.starts_with("Blocked by WASM rule: d-block\n"), "{}", answer.body);
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn the_first_rule_in_precedence_gives_the_answer() {
    let named = |name: &str, namespace: Option<&str>, priority| {
        let mut rule = always(name, 1);
        rule.key = RuleKey { namespace: namespace.map(str::to_owned), name: name.into() };
        rule.priority = priority;
        rule
    };
    let rules = || {
        vec![
            named("b", Some("shop"), 100),
            named("a", Some("shop"), 100),
            named("z", Some("blog"), 100),
            named("early", Some("shop"), 5),
            named("cluster", None, 1000),
        ]
    };
    for (dropped, first) in ["cluster", "early", "z", "a", "b"].into_iter().enumerate() {
        let (world, _upstream) = world(rules());
        let gone = &["cluster", "early", "z", "a", "b"][..dropped];
        world.enforce(rules().into_iter().filter(|rule| !gone.contains(&rule.key.name.as_str())).collect());
        let answer = world.client().get("/");
        assert!(answer.body.starts_with(&format!("Blocked by WASM rule: {first}\n")), "{}", answer.body);
    }
}

#[test]
fn monitor_tells_and_does_not_act() {
    let mut monitored = always("m", 1);
    monitored.mode = Mode::Monitor;
    let (world, _upstream) = world(vec![monitored]);
    assert_eq!(world.client().get("/").status, 200);
    world.wait_for_metric(r#"portcullis_requests_total{verdict="would_block",mode="monitor"} 1"#);
}

/// The id that the upstream got, if it got one, and only one.
fn forwarded_id(answer: &Answer) -> Option<String> {
    let mut ids = answer.body.lines().filter_map(|line| line.strip_prefix("x-portcullis-event-id: "));
    let id = ids.next().map(str::to_owned);
    assert_eq!(ids.next(), None, "{}", answer.body);
    id
}

#[test]
fn a_request_in_which_something_was_found_goes_on_with_the_id_of_that() {
    for (mode, result, has_id) in [
        (Mode::Monitor, 1, true),
        (Mode::Monitor, 2, true),
        (Mode::Enforce, 2, true),
        (Mode::Enforce, 3, true),
        (Mode::Monitor, 0, false),
        (Mode::Enforce, 0, false),
    ] {
        let mut first = always("a", result);
        first.mode = mode;
        // What a second one finds has the same id.
        let mut second = always("b", result);
        second.mode = mode;
        let (world, _upstream) = world(vec![first, second]);
        let mut client = world.client();
        let ids = [client.get("/"), client.get("/")].map(|answer| forwarded_id(&answer));
        assert_eq!(ids.each_ref().map(|id| id.as_ref().map(String::len)), [has_id.then_some(26); 2]);
        assert!(!has_id || ids[0] != ids[1]);
    }
}

#[test]
fn no_client_can_say_that_something_was_found() {
    let claimed = "01KB1X0V5Q3M1ZJ8T5Y0P7C9QA";
    let mut monitored = always("m", 1);
    monitored.mode = Mode::Monitor;
    for rules in [vec![], vec![monitored]] {
        let finds = !rules.is_empty();
        let (world, _upstream) = world(rules);
        for claim in ["x-portcullis-event-id", "X-Portcullis-Event-ID"] {
            let request =
                format!("GET / HTTP/1.1\r\nHost: a\r\n{claim}: {claimed}\r\n{claim}: {claimed}\r\n\r\n");
            let answer = world.client().send(request).answer();
            assert_eq!((answer.status, forwarded_id(&answer).is_some()), (200, finds));
            assert!(!answer.body.contains(claimed), "{}", answer.body);
        }
        // Nor in a spelling that some servers take for it, or behind the body.
        for request in [
            format!("GET / HTTP/1.1\r\nHost: a\r\nX_Portcullis-Event-Id: {claimed}\r\n\r\n"),
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Portcullis-Event-Id: {claimed}\r\n\r\n"
            ),
        ] {
            assert_eq!(world.client().send(request).answer().status, 400);
        }
    }
}

#[test]
fn a_disabled_rule_does_not_run() {
    let mut disabled = always("d", 1);
    disabled.mode = Mode::Disabled;
    let (world, _upstream) = world(vec![disabled]);
    assert_eq!(world.client().get("/").status, 200);
    assert!(!world.metrics().contains(r#"rule="d""#));
}

#[test]
fn a_rule_that_fails_follows_its_on_failure_setting() {
    let unavailable = || {
        let mut rule = always("r", 0);
        rule.module = Loaded::Unavailable;
        rule
    };
    let failing: [(&str, &dyn Fn() -> ActiveRule); 4] = [
        ("error", &|| rule("r", &inspecting("unreachable"))),
        ("error", &|| always("r", 7)),
        ("budget", &|| rule("r", &inspecting("(loop $l (br $l)) (unreachable)"))),
        ("unavailable", &unavailable),
    ];
    for (cause, make) in failing {
        for (action, status) in [(FailureAction::Block, 403), (FailureAction::Allow, 200)] {
            let mut rule = make();
            rule.on_failure =
                OnFailure { error: action, budget: action, unavailable: action, ..OnFailure::default() };
            let (world, _upstream) = world(vec![rule]);
            let answer = world.client().get("/");
            assert_eq!(answer.status, status, "{cause}: {}", answer.body);
            if status == 403 {
                assert_unjudged(&answer, "r", cause);
            }
            world.wait_for_metric(&format!(
                r#"portcullis_rule_errors_total{{namespace="shop",rule="r",cause="{cause}"}} 1"#
            ));
        }
    }
}

#[test]
fn a_rule_that_fails_in_monitor_does_not_act() {
    let mut failing = always("r", 7);
    failing.mode = Mode::Monitor;
    let (world, _upstream) = world(vec![failing]);
    assert_eq!(world.client().get("/").status, 200);
}

#[test]
fn a_rule_sees_what_is_forwarded() {
    let (world, upstream) = world(vec![blocks_tilde("tilde")]);
    let mut client = world.client();
    for blocked in
        ["GET /~ HTTP/1.1\r\nHost: a", "GET /?~ HTTP/1.1\r\nHost: a", "GET / HTTP/1.1\r\nHost: a\r\nX: ~"]
    {
        assert_eq!(client.send(format!("{blocked}\r\n\r\n")).answer().status, 403, "{blocked}");
    }
    // These are not forwarded, so no rule is bothered with them.
    let answer = client
        .send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: ~\r\nConnection: x-private\r\nX-Private: ~\r\nForwarded: ~\r\n\r\n")
        .answer();
    assert_eq!(answer.status, 200);
    assert!(!answer.body.contains('~'), "{}", answer.body);
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn a_rule_that_reads_no_bodies_is_shown_none() {
    let (world, _upstream) = world(vec![blocks_tilde("tilde")]);
    let answer = world.client().send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n~").answer();
    assert_eq!(answer.status, 200);
    assert!(answer.body.ends_with("\n\n~"));
}

fn reading_bodies(most: u64) -> ActiveRule {
    let mut rule = blocks_tilde("tilde");
    rule.body_bytes = Some(most);
    rule
}

#[test]
fn a_rule_that_reads_bodies_sees_them_whole_and_the_upstream_too() {
    let (world, upstream) = world(vec![reading_bodies(10)]);
    let mut client = world.client();
    for (framing, body, status) in [
        ("Content-Length: 3", "abc", 200),
        ("Content-Length: 10", "0123456789", 200),
        ("Content-Length: 3", "ab~", 403),
        ("Transfer-Encoding: chunked", "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", 200),
        ("Transfer-Encoding: chunked", "1\r\na\r\n2\r\nb~\r\n0\r\n\r\n", 403),
    ] {
        let answer = client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}")).answer();
        assert_eq!(answer.status, status, "{framing} {body}");
        if status == 200 {
            let text = body.replace("1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "abc");
            assert!(answer.body.ends_with(&format!("\n\n{text}")), "{}", answer.body);
        }
    }
    assert_eq!(client.get("/").status, 200);
    assert_eq!(upstream.requests(), 4);
}

#[test]
fn a_body_that_is_too_large_follows_its_setting() {
    for (action, status) in [(FailureAction::Block, 403), (FailureAction::Allow, 200)] {
        let mut rule = reading_bodies(10);
        rule.on_failure.body_too_large = action;
        let (world, _upstream) = world(vec![rule]);
        for (framing, body) in [
            ("Content-Length: 12", "~12345678901"),
            ("Transfer-Encoding: chunked", "6\r\n~12345\r\n6\r\n678901\r\n0\r\n\r\n"),
        ] {
            let answer = world
                .client()
                .send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}"))
                .answer();
            assert_eq!(answer.status, status, "{framing}: {}", answer.body);
            if status == 403 {
                assert_unjudged(&answer, "tilde", "bodyTooLarge");
            } else {
                assert!(answer.body.ends_with("\n\n~12345678901"), "{}", answer.body);
            }
        }
        world.wait_for_metric(
            r#"portcullis_rule_errors_total{namespace="shop",rule="tilde",cause="body_too_large"} 2"#,
        );
    }
}

#[test]
fn each_rule_has_its_own_bound_on_bodies() {
    let mut small = reading_bodies(2);
    small.key.name = "small".into();
    small.on_failure.body_too_large = FailureAction::Allow;
    let (world, _upstream) = world(vec![small, reading_bodies(10)]);
    let mut client = world.client();
    assert_eq!(
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").answer().status,
        200
    );
    let answer = client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n~bc").answer();
    assert!(answer.body.starts_with("Blocked by WASM rule: tilde\n"), "{}", answer.body);
}

#[test]
fn a_body_is_not_asked_for_before_the_head_is_allowed() {
    let (world, upstream) = world(vec![always("head", 1), reading_bodies(10)]);
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.answer().status, 403);
    client.assert_closed();
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn rules_of_the_head_come_before_rules_of_the_body() {
    let mut body = reading_bodies(10);
    body.priority = 1;
    let (world, _upstream) = world(vec![body, always("head", 1)]);
    let answer = world.client().send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n~").answer();
    assert!(answer.body.starts_with("Blocked by WASM rule: head\n"), "{}", answer.body);
}

#[test]
fn a_body_that_does_not_keep_to_the_protocol_is_refused_before_the_rules_see_it() {
    let (world, upstream) = world(vec![reading_bodies(10)]);
    let mut client = world.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n02\r\nbc\r\n0\r\n\r\n",
    );
    let answer = client.answer();
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("chunk size"), "{}", answer.body);
    client.assert_closed();
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn the_block_answer_is_what_the_rule_says_in_what_the_client_reads() {
    let mut rule = always("r", 1);
    rule.block = Block {
        status: 451,
        responses: Some(Responses {
            text: Some("no, {eventId}".into()),
            json: Some("{\"event\":\"{eventId}\"}".into()),
            html: Some("<p>{eventId}</p>".into()),
        }),
    };
    let (world, _upstream) = world(vec![rule]);
    let mut client = world.client();
    for (accept, kind, before, after) in [
        ("*/*", "text/plain; charset=utf-8", "no, ", ""),
        ("application/json", "application/json", "{\"event\":\"", "\"}"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8", "<p>", "</p>"),
    ] {
        let answer = client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n")).answer();
        let id = answer.header("x-portcullis-event-id").unwrap();
        assert_eq!((answer.status, answer.header("content-type")), (451, Some(kind)));
        assert_eq!(answer.body, format!("{before}{id}{after}"));
    }
}

#[test]
fn a_status_without_a_registered_reason_has_none() {
    let mut rule = always("r", 1);
    rule.block.status = 499;
    let (world, _upstream) = world(vec![rule]);
    let answer = world.client().get("/");
    assert_eq!((answer.status, answer.reason.as_str()), (499, ""));
}

#[test]
fn a_swap_takes_effect_at_the_next_request_and_drops_the_old_set_on_the_control_side() {
    let (world, _upstream) = world(vec![always("r", 0)]);
    let mut client = world.client();
    for round in 0..50 {
        let result = round % 2;
        world.enforce(vec![always("r", result)]);
        let expected = if result == 1 { 403 } else { 200 };
        assert_eq!(client.get("/").status, expected, "round {round}");
    }
    super::world::wait_until("the old sets to be dropped", || world.rules.collect() == 0);
}

#[test]
fn a_hundred_swaps_under_load_lose_nothing_and_never_go_back() {
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| config.workers = 2);
    world.enforce(vec![always("v0", 1)]);
    // The version that is active for sure: it was stored before.
    let (active, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let answers: usize = std::thread::scope(|scope| {
        let load = || {
            let (mut client, mut answers) = (world.client(), 0);
            while !done.load(SeqCst) {
                let at_least = active.load(SeqCst);
                let body = client.get("/").body;
                let version = body.strip_prefix("Blocked by WASM rule: v").unwrap().lines().next().unwrap();
                assert!(
                    version.parse::<usize>().unwrap() >= at_least,
                    "v{version} after v{at_least} was stored"
                );
                answers += 1;
            }
            answers
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(load)).collect();
        for version in 1..=100 {
            world.enforce(vec![always(&format!("v{version}"), 1)]);
            active.store(version, SeqCst);
        }
        done.store(true, SeqCst);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(answers > 100, "there was no load: {answers}");
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn series_of_a_rule_that_is_gone_are_gone() {
    let (world, _upstream) = world(vec![always("r", 0)]);
    assert_eq!(world.client().get("/").status, 200);
    assert!(world.metrics().contains(r#"rule="r""#));
    world.enforce(vec![]);
    assert!(!world.metrics().contains(r#"rule="r""#));
}

#[test]
fn ten_thousand_rules_export_no_series_until_one_of_them_acts() {
    let blocking = always("first", 1);
    let module = || match &blocking.module {
        Loaded::Module(module) => Loaded::Module(module.clone()),
        Loaded::Unavailable => unreachable!("it was compiled"),
    };
    let rules = (0..10_000).map(|index| ActiveRule {
        key: RuleKey::namespaced("shop", format!("r-{index:04}")),
        uid: index.to_string(),
        revision: blocking.revision.clone(),
        on_failure: OnFailure::default(),
        block: Block::default(),
        module: module(),
        ..blocking
    });
    let (world, _upstream) = world(rules.collect());
    let series = || -> Vec<String> {
        world.metrics().lines().filter(|line| line.contains(r#"rule=""#)).map(str::to_owned).collect()
    };
    assert_eq!(series(), [""; 0]);
    // The first in precedence blocks, so no other is asked.
    assert_eq!(world.client().get("/").status, 403);
    assert_eq!(
        series(),
        [r#"portcullis_rule_evaluations_total{namespace="shop",rule="r-0000",verdict="block"} 1"#]
    );
}

#[test]
fn the_answer_to_a_blocked_upload_arrives_although_nobody_reads_the_upload() {
    let (world, upstream) = world(vec![always("head", 1)]);
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n").send("x".repeat(3_000_000));
    assert_eq!(client.answer().status, 403);
    client.assert_closed();
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn a_candidate_runs_on_no_request_whatever_its_weight_and_changes_nothing_for_the_stable_version() {
    let candidate = |name: &str| ActiveRule {
        revision: Revision::from("candidate".to_owned()),
        role: Role::Candidate { weight: Share::ALL, shadow: Some(Shadow { sample: Share::ALL }) },
        // It would come first, and have bodies held back.
        priority: 1,
        body_bytes: Some(1),
        ..always(name, 1)
    };
    let (world, echo) = world(vec![always("allows", 0), candidate("allows"), candidate("alone")]);
    let mut client = world.client();
    assert_eq!(
        client.send("POST /~ HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").answer().status,
        200
    );
    assert_eq!(echo.requests(), 1);
    world.enforce(vec![blocks_tilde("allows"), candidate("allows")]);
    assert_eq!(client.send("GET /~ HTTP/1.1\r\nHost: a\r\n\r\n").answer().status, 403);
}
