//! What the upstream gets of a request, and the client of an answer.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use super::upstream::{self, Echo, answering, read_head};
use super::world::{World, blocks_tilde, wait_until};

#[test]
fn a_request_arrives_as_it_was_sent_but_for_what_belongs_to_the_connection() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let answer = world
        .client()
        .send(
            "GET /a/b%20c?q=1&q=2%zz HTTP/1.1\r\nHost: Shop.Example:8080\r\nAccept: a\r\nAccept: b\r\n\
             Connection: keep-alive, X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n\
             Upgrade: websocket\r\nProxy-Authorization: Basic x\r\nX-Forwarded-For: 127.0.0.1\r\n\
             Forwarded: for=127.0.0.1\r\nX-Forwarded-Port: 1\r\nCookie: a=b\r\nX-Caf\u{e9}-Value: no\r\n\r\n"
                .replace("X-Caf\u{e9}-Value: no", "X-Value: caf\u{e9}"),
        )
        .answer();
    let mut lines: Vec<&str> = answer.body.lines().collect();
    assert_eq!(lines.remove(0), "GET /a/b%20c?q=1&q=2%zz HTTP/1.1");
    lines.sort_unstable();
    let expected = [
        "",
        "accept: a",
        "accept: b",
        // That the client takes trailers is said again, as ours.
        "connection: TE",
        "cookie: a=b",
        "host: Shop.Example:8080",
        "te: trailers",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: Shop.Example:8080",
        "x-forwarded-proto: http",
        "x-value: caf\u{e9}",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn an_absolute_target_of_the_same_host_is_forwarded_as_its_path() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let answer = world.client().send("GET http://A:80/x?y HTTP/1.1\r\nHost: a:80\r\n\r\n").answer();
    assert!(
        answer.body.starts_with("GET /x?y HTTP/1.1\n") && answer.body.contains("\nhost: a:80\n"),
        "{}",
        answer.body
    );
}

#[test]
fn authorities_are_compared_by_what_they_name_and_forwarded_as_they_came() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let mut client = world.client();
    for (target, host) in [
        ("http://a:80/x", "a"),
        ("http://a/x", "A:80"),
        ("http://a:/x", "a"),
        ("http://A/x", "a:"),
        ("/x", "a:"),
        ("/x", "[::1]:"),
        ("http://[::1]:80/x", "[0::1]"),
    ] {
        let answer = client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).answer();
        assert_eq!(answer.status, 200, "{target} {host}: {}", answer.body);
        assert!(answer.body.starts_with("GET /x HTTP/1.1\n"), "{}", answer.body);
        assert!(answer.body.contains(&format!("\nhost: {host}\n")), "{}", answer.body);
    }
}

#[test]
fn bodies_of_both_framings_arrive_and_trailers_of_chunks() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let mut client = world.client();
    let answer = client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").answer();
    assert!(
        answer.body.contains("\ncontent-length: 3\n") && answer.body.ends_with("\n\nabc"),
        "{}",
        answer.body
    );
    let answer = client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\nX: y\r\n\r\n")
        .answer();
    assert!(answer.body.contains("\ntransfer-encoding: chunked\n"), "{}", answer.body);
    assert!(
        answer.body.ends_with("\n\nabc\nx: y") && answer.body.contains("\ntrailer: X\n"),
        "{}",
        answer.body
    );
    let answer = client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").answer();
    assert!(answer.body.contains("\ncontent-length: 0\n"), "{}", answer.body);
    let large = "x".repeat(300_000);
    let answer =
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n{large}")).answer();
    assert!(answer.body.ends_with(&large));
}

#[test]
fn connections_are_used_again_on_both_sides() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let mut client = world.client();
    for _ in 0..5 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!((upstream.requests(), upstream.connections()), (5, 1));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let mut client = world.client();
    let requests: String = (0..10).map(|i| format!("GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(requests);
    for i in 0..10 {
        assert!(client.answer().body.starts_with(&format!("GET /{i} ")));
    }
}

#[test]
fn http_10_is_served_and_closed_or_kept_as_it_asks() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let mut client = world.client();
    let answer = client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").answer();
    assert_eq!(answer.header("connection"), Some("keep-alive"));
    let answer = client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").answer();
    assert!(answer.body.starts_with("GET / HTTP/1.1\n"), "{}", answer.body);
    client.assert_closed();
}

#[test]
fn a_chunked_answer_reaches_an_http_10_client_without_chunks() {
    let world = World::before(answering(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ));
    let answer = world.client().send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").answer();
    assert_eq!((answer.header("transfer-encoding"), answer.body.as_str()), (None, "abc"));
}

#[test]
fn an_expectation_is_met_before_the_body_and_not_passed_on() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.head().status, 100);
    let answer = client.send("abc").answer();
    assert!(answer.body.ends_with("\n\nabc") && !answer.body.contains("expect"), "{}", answer.body);
}

/// Of clients behind a load balancer that share a connection, one could have the other get what it never asked for.
#[test]
fn an_interim_answer_is_only_for_the_request_that_waits_for_it() {
    let heads = Arc::<AtomicUsize>::default();
    let seen = Arc::clone(&heads);
    let world = World::before(upstream::raw(move |_, mut stream| {
        while let Some(head) = read_head(&mut stream) {
            seen.fetch_add(1, SeqCst);
            let length = if head.contains("Content-Length: 1\r\n") { 1 } else { 9 };
            stream.read_exact(&mut vec![0; length]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    }));
    let mut client = world.client();
    // Sends its body without waiting.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(client.answer().status, 200);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n");
    wait_until("the second head to arrive", || heads.load(SeqCst) == 2);
    assert_eq!(client.send("123456789").answer().status, 200);
}

#[test]
fn an_empty_list_of_expectations_expects_nothing() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let mut client = world.client();
    for expect in ["", " ", ",", " , ,"] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect:{expect}\r\n\r\n");
        let answer = client.send(head + "abc").answer();
        assert_eq!(answer.status, 200, "{expect:?}: {}", answer.body);
        assert!(answer.body.ends_with("\n\nabc") && !answer.body.contains("expect"), "{}", answer.body);
    }
}

#[test]
fn a_request_without_content_says_so_where_content_is_expected() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let mut reader = blocks_tilde("reader");
    reader.body_bytes = Some(100);
    world.enforce(vec![reader]);
    let mut client = world.client();
    for (method, is_announced) in
        [("POST", true), ("PUT", true), ("PATCH", true), ("GET", false), ("DELETE", false)]
    {
        let chunked = "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let answer = client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n{chunked}")).answer();
        assert_eq!(answer.body.contains("\ncontent-length: 0\n"), is_announced, "{method}: {}", answer.body);
        assert!(!answer.body.contains("transfer-encoding"), "{}", answer.body);
    }
    for framing in ["", "Content-Length: 0\r\n"] {
        let answer = client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n")).answer();
        assert_eq!(answer.body.matches("\ncontent-length: 0\n").count(), 1, "{}", answer.body);
    }
}

#[test]
fn a_reason_phrase_is_passed_on_and_none_is_made_up() {
    for (status_line, status, reason) in [
        ("419 Page Expired", 419, "Page Expired"),
        ("520 x", 520, "x"),
        ("200 Fine", 200, "Fine"),
        ("200 OK", 200, "OK"),
        ("404 Nothing  here\t!", 404, "Nothing  here\t!"),
        ("404 ", 404, ""),
        ("404", 404, ""),
        ("599", 599, ""),
    ] {
        let answer = format!("HTTP/1.1 {status_line}\r\nContent-Length: 0\r\n\r\n");
        let world = World::before(answering(answer.leak().as_bytes()));
        let answer = world.client().get("/");
        assert_eq!((answer.status, answer.reason.as_str()), (status, reason), "{status_line}");
    }
}

#[test]
fn answers_lose_what_belongs_to_the_upstreams_connection() {
    let world = World::before(answering(
        b"HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nConnection: X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\n\
          Proxy-Authenticate: Basic\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nServer: s\r\n\r\nhi",
    ));
    let answer = world.client().get("/");
    let mut names: Vec<_> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "date", "server", "set-cookie", "set-cookie"]);
}

#[test]
fn answers_without_a_body_keep_the_connection_in_step() {
    let world = World::before(upstream::raw(|_, mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let answer: &[u8] = match &head {
                head if head.starts_with("HEAD") => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                head if head.contains("/304") => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
                head if head.contains("/204") => b"HTTP/1.1 204 No Content\r\n\r\n",
                _ => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            };
            stream.write_all(answer).unwrap();
        }
    }));
    let mut client = world.client();
    let head = client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").head();
    assert_eq!((head.status, head.header("content-length")), (200, Some("5")));
    assert_eq!(client.get("/304").status, 304);
    assert_eq!(client.get("/204").status, 204);
    assert_eq!(client.get("/").body, "hello");
}

#[test]
fn interim_answers_are_not_the_answer() {
    let world = World::before(answering(
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    ));
    let mut client = world.client();
    for _ in 0..2 {
        assert_eq!(client.get("/").body, "hi");
    }
}

#[test]
fn a_body_until_the_end_of_the_connection_is_chunked_for_the_client() {
    let world = World::before(upstream::raw(|_, mut stream| {
        read_head(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").unwrap();
    }));
    let mut client = world.client();
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!(
            (answer.header("transfer-encoding"), answer.body.as_str()),
            (Some("chunked"), "until the end")
        );
    }
}

#[test]
fn a_stream_of_events_is_not_held_back() {
    let (first, seen) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let waiting = Arc::clone(&seen);
    let sent = Arc::clone(&first);
    let world = World::before(upstream::raw(move |_, mut stream| {
        read_head(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").unwrap();
        sent.store(true, SeqCst);
        wait_until("the client to see the first event", || waiting.load(SeqCst));
        stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").unwrap();
    }));
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().status, 200);
    seen.store(client.chunk() == "one", SeqCst);
    assert_eq!(client.chunk(), "two");
    assert!(first.load(SeqCst));
}

#[test]
fn a_client_that_goes_away_frees_the_upstream() {
    let freed = Arc::<AtomicBool>::default();
    let told = Arc::clone(&freed);
    let started = Arc::<AtomicBool>::default();
    let begun = Arc::clone(&started);
    let world = World::before(upstream::raw(move |_, mut stream| {
        read_head(&mut stream).unwrap();
        begun.store(true, SeqCst);
        // Never answers; reads on until the proxy closes.
        told.store(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), SeqCst);
    }));
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the request to arrive", || started.load(SeqCst));
    world.wait_for_metric("portcullis_requests_in_flight 1");
    drop(client);
    wait_until("the upstream to be freed", || freed.load(SeqCst));
    world.wait_for_metric("portcullis_requests_in_flight 0");
    world.wait_for_metric("portcullis_connections 0");
}

#[test]
fn an_answer_before_the_end_of_the_request_reaches_the_client() {
    let world = World::before(upstream::raw(|_, mut stream| {
        read_head(&mut stream).unwrap();
        stream
            .write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge")
            .unwrap();
        // The rest is never read.
    }));
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").send("x".repeat(50_000));
    let answer = client.answer();
    assert_eq!((answer.status, answer.body.as_str()), (413, "large"));
}

#[test]
fn an_answer_without_content_before_the_end_of_the_request_ends_the_exchange() {
    let world = World::before(upstream::raw(|_, mut stream| {
        read_head(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").unwrap();
        // Open until the proxy closes it.
        while stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {}
    }));
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    world.wait_for_metric("portcullis_requests_in_flight 0");
}

/// Most clients read an answer only when they have sent their request. This upstream reads on only as long as somebody
/// takes what it writes; the client's side of the proxy is full by then.
#[test]
fn the_rest_of_a_request_is_sent_while_the_answer_waits_for_the_client() {
    const SIZE: usize = 24 << 20;
    let done = Arc::<AtomicBool>::default();
    let told = Arc::clone(&done);
    let world = World::before(upstream::raw(move |_, mut stream| {
        read_head(&mut stream).unwrap();
        let mut writing = stream.try_clone().unwrap();
        std::thread::spawn(move || {
            writing.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes())?;
            writing.write_all(&vec![b'y'; SIZE])
        });
        let mut left = SIZE;
        let mut piece = vec![0; 64 * 1024];
        while left > 0 {
            left -= stream.read(&mut piece).unwrap();
        }
        told.store(true, SeqCst);
    }));
    let mut client = world.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"));
    client.send(vec![b'x'; SIZE]);
    wait_until("the upstream to have all of the request", || done.load(SeqCst));
    assert_eq!(client.answer().body.len(), SIZE);
}

#[test]
fn an_upstream_is_found_by_its_name() {
    let upstream = Echo::start();
    let port = upstream.address.port();
    let world = World::configured(upstream.address, |config| {
        config.upstream = format!("http://localhost:{port}").parse().unwrap();
    });
    assert_eq!(world.client().get("/").status, 200);
}

#[test]
fn offers_of_another_protocol_that_clients_can_do_without_are_passed_over() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let mut client = world.client();
    for (version, connection, protocol) in [
        ("1.1", "Upgrade, HTTP2-Settings", "h2c"),
        ("1.1", "upgrade", "TLS/1.2"),
        ("1.1", "Upgrade", "HTTP/2.0, h2c"),
        ("1.1", "Upgrade", ""),
        // Not for this connection, or of a version that has none.
        ("1.1", "keep-alive", "websocket"),
        ("1.0", "keep-alive, Upgrade", "websocket"),
    ] {
        let answer = client
            .send(format!(
                "GET / HTTP/{version}\r\nHost: a\r\nConnection: {connection}\r\nUpgrade: {protocol}\r\n\r\n"
            ))
            .answer();
        assert_eq!(answer.status, 200, "{protocol}: {}", answer.body);
        assert!(!answer.body.contains("upgrade"), "{}", answer.body);
    }
}

#[test]
fn a_client_that_says_close_is_closed_and_one_that_asks_for_an_upgrade_is_not() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let mut client = world.client();
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    for _ in 0..2 {
        let answer = client.send(upgrade).answer();
        assert_eq!((answer.status, answer.header("upgrade")), (200, None));
        assert!(
            !answer.body.contains("upgrade") && !answer.body.contains("http2-settings"),
            "{}",
            answer.body
        );
    }
    assert_eq!(client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").answer().status, 200);
    client.assert_closed();
}
