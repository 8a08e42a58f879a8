//! What holds for every request, tried with many.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::upstream::Echo;
use super::world::{World, blocks_tilde};

/// A head that may be in order, with `~` in places that are forwarded and in places that are not.
fn head() -> impl Strategy<Value = String> {
    let target =
        prop_oneof!["/[a-z~]{0,4}", "/[a-z]{0,3}\\?[a-z~=&]{0,6}", "http://a/[a-z~]{0,4}", "[/.~a-z%2]{1,6}"];
    let name = prop_oneof![
        Just("Accept".to_owned()),
        Just("X-Forwarded-For".to_owned()),
        Just("Forwarded".to_owned()),
        Just("X-Private".to_owned()),
        Just("Keep-Alive".to_owned()),
        Just("Upgrade".to_owned()),
        Just("Cookie".to_owned()),
        "[a-zA-Z~_-]{1,6}",
    ];
    let field =
        (name, "[ a-z~,;\"\\\\\t\u{e4}]{0,8}").prop_map(|(name, value)| format!("{name}: {value}\r\n"));
    let connection =
        prop_oneof![Just(""), Just("Connection: x-private\r\n"), Just("Connection: keep-alive, cookie\r\n")];
    (target, proptest::collection::vec(field, 0..6), connection).prop_map(|(target, fields, connection)| {
        format!("GET {target} HTTP/1.1\r\nHost: a\r\n{}{connection}\r\n", fields.concat())
    })
}

/// The same bytes through two proxies: one without rules, which shows what is forwarded, and one
/// whose rule blocks what has a `~`. The rule blocks exactly what is forwarded with a `~`.
#[test]
fn what_is_inspected_is_what_is_forwarded() {
    let upstream = Echo::start();
    let (open, guarded) = (World::before(upstream.address), World::before(upstream.address));
    guarded.enforce(vec![blocks_tilde("tilde")]);
    let mut outcomes = std::collections::BTreeMap::<u16, usize>::new();
    let outcomes_of = std::cell::RefCell::new(&mut outcomes);
    TestRunner::new(ProptestConfig::with_cases(400))
        .run(&head(), |head| {
            let forwarded = open.client().send(&head).answer();
            let judged = guarded.client().send(&head).answer();
            let expected = match forwarded.status {
                200 if forwarded.body.contains('~') => 403,
                status => status,
            };
            prop_assert_eq!(judged.status, expected, "{} is forwarded as {}", head, forwarded.body);
            *outcomes_of.borrow_mut().entry(judged.status).or_default() += 1;
            Ok(())
        })
        .unwrap();
    // The heads were of all kinds.
    assert!([200, 400, 403].iter().all(|status| outcomes[status] > 10), "{outcomes:?}");
}

#[test]
fn no_bytes_make_the_proxy_panic_or_stop() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let part = prop_oneof![
        Just(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        Just(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
        Just(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n".to_vec()),
        Just(b"5\r\nhello\r\n".to_vec()),
        Just(b"0\r\n\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..20),
    ];
    TestRunner::new(ProptestConfig::with_cases(200))
        .run(&proptest::collection::vec(part, 0..6), |parts| {
            let mut client = world.client();
            for part in parts {
                client.send(part);
            }
            client.finish_writing();
            client.rest();
            Ok(())
        })
        .unwrap();
    assert_eq!(world.client().get("/").status, 200);
    assert!(world.metrics().contains("portcullis_panics_total 0\n"));
    world.wait_for_metric("portcullis_requests_in_flight 0");
    world.wait_for_metric("portcullis_connections 0");
}
