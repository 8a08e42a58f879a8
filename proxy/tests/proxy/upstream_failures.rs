//! What clients get when the upstream fails or misbehaves.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use super::upstream::{self, read_head};
use super::world::{World, wait_until};

/// The answer of an upstream that sends these bytes is 502 with the reason, and its connection is closed.
fn bad_gateway(bytes: &'static [u8], reason: &str) {
    let connections = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&connections);
    let world = World::before(upstream::raw(move |_, mut stream| {
        counter.fetch_add(1, SeqCst);
        while read_head(&mut stream).is_some() {
            if stream.write_all(bytes).is_err() {
                return;
            }
        }
    }));
    let mut client = world.client();
    for request in 1..3 {
        let answer = client.get("/");
        assert_eq!(answer.status, 502, "{}", answer.body);
        assert!(answer.body.starts_with("Bad Gateway: ") && answer.body.contains(reason), "{}", answer.body);
        assert_eq!(connections.load(SeqCst), request, "a connection with a bad answer was used again");
    }
    world.wait_for_metric(r#"portcullis_upstream_errors_total{reason="bad_response"} 2"#);
}

macro_rules! bad_gateway {
    ($($name:ident: $bytes:literal, $reason:literal;)+) => {
        $(#[test] fn $name() { bad_gateway($bytes, $reason); })+
    };
}

bad_gateway! {
    answer_with_length_and_coding:
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "both given";
    answer_with_repeated_length: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", "given twice";
    answer_with_another_coding: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "else than chunked";
    answer_101_unasked: b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "switches protocols";
    answer_with_bare_lf: b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", "LF without CR";
    answer_with_a_folded_header: b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 0\r\n\r\n", "obs-fold";
    answer_of_another_protocol: b"220 mail.example ESMTP\r\n\r\n", "status line";
    answer_with_a_bad_chunk_size: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 2\r\nhi\r\n0\r\n\r\n", "chunk size";
}

/// An answer with more bytes than it announces, split everywhere: once what it announces has gone out, the rest is sent
/// when the client has its answer. The client gets what was announced, and no connection is used twice.
fn surplus_is_dropped(method: &'static str, announced: &'static str, surplus: &'static str, body: &str) {
    let bytes = [announced, surplus].concat();
    let length = bytes.len();
    let (connections, answered, sent) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let (counter, seen, all) = (Arc::clone(&connections), Arc::clone(&answered), Arc::clone(&sent));
    let world = World::before(upstream::raw(move |number, mut stream| {
        counter.fetch_add(1, SeqCst);
        let at = number + 1;
        stream.set_nodelay(true).unwrap();
        read_head(&mut stream).unwrap();
        stream.write_all(&bytes.as_bytes()[..at]).unwrap();
        if at >= announced.len() {
            wait_until("the client to have its answer", || seen.load(SeqCst) > number);
        }
        stream.write_all(&bytes.as_bytes()[at..]).unwrap();
        all.fetch_add(1, SeqCst);
        assert_eq!(read_head(&mut stream), None, "a second request after a surplus");
    }));
    let mut client = world.client();
    for request in 1..length {
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = if method == "HEAD" { client.head() } else { client.answer() };
        assert_eq!(answer.status.to_string(), &announced[9..12], "split at {request}: {}", answer.body);
        assert_eq!(answer.body, body, "split at {request}");
        assert_eq!(connections.load(SeqCst), request, "a connection was used again");
        answered.store(request, SeqCst);
        wait_until("the surplus to be sent", || sent.load(SeqCst) >= request);
    }
    let surpluses = length - 1;
    world.wait_for_metric(&format!(r#"portcullis_upstream_errors_total{{reason="surplus"}} {surpluses}"#));
    assert_eq!(world.metric(r#"portcullis_upstream_errors_total{reason="bad_response"}"#), 0);
}

macro_rules! surplus_is_dropped {
    ($($name:ident: $method:literal, $announced:literal, $surplus:literal, $body:literal;)+) => {
        $(#[test] fn $name() { surplus_is_dropped($method, $announced, $surplus, $body); })+
    };
}

surplus_is_dropped! {
    surplus_after_a_length: "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "\r\n", "ok";
    surplus_after_no_length: "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "x", "";
    surplus_after_chunks: "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "\r\n", "ok";
    surplus_that_looks_like_an_answer: "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", "ok";
    a_body_of_204: "GET", "HTTP/1.1 204 No Content\r\n\r\n", "0\r\n\r\n", "";
    a_chunked_body_of_204: "GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "2\r\nhi\r\n0\r\n\r\n", "";
    a_body_of_304: "GET", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", "hi", "";
    a_body_of_head: "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "hi", "";
}

#[test]
fn bytes_that_come_after_the_next_request_do_not_spoil_it_if_it_can_be_sent_again() {
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 502),
    ] {
        let world = World::before(upstream::raw(|_, mut stream| {
            for belated in ["", "\r\n0\r\n\r\n"] {
                if read_head(&mut stream).is_some() {
                    let answer = format!("{belated}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            }
        }));
        let mut client = world.client();
        assert_eq!(client.get("/").body, "ok");
        assert_eq!(client.send(request).answer().status, status, "{request}");
    }
}

#[test]
fn an_answer_that_breaks_off_is_not_passed_off_as_whole() {
    for broken in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhi"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
    ] {
        let world = World::before(upstream::raw(move |_, mut stream| {
            read_head(&mut stream).unwrap();
            stream.write_all(broken).unwrap();
        }));
        let mut client = world.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        // Small answers may not even begin: also then nobody takes them for whole.
        let text = String::from_utf8(client.rest()).unwrap();
        assert!(!text.ends_with("0\r\n\r\n") && !text.contains("content-length: 2\r\n"), "{text}");
        world.wait_for_metric(r#"portcullis_upstream_errors_total{reason="body_broken"} 1"#);
    }
}

#[test]
fn an_upstream_that_is_not_there_is_a_bad_gateway() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::before(free);
    let mut client = world.client();
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (502, "Bad Gateway: the upstream accepted no connection\n")
        );
    }
    world.wait_for_metric(r#"portcullis_upstream_errors_total{reason="connect"} 2"#);
}

#[test]
fn an_upstream_that_does_not_answer_is_a_gateway_timeout() {
    let world = World::configured(
        upstream::raw(|_, mut stream| while read_head(&mut stream).is_some() {}),
        |config| config.timeouts.upstream = Duration::from_millis(100),
    );
    let answer = world.client().get("/");
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (504, "Gateway Timeout: the upstream did not answer in time\n")
    );
}

/// An upstream that answers the first request of each connection and closes at the second, when it
/// has read it, without a word: what a client sees of a connection that was closed for being idle.
fn closes_at_the_second_request(seen: &Arc<AtomicUsize>) -> std::net::SocketAddr {
    let seen = Arc::clone(seen);
    upstream::raw(move |_, mut stream| {
        if read_head(&mut stream).is_some() {
            seen.fetch_add(1, SeqCst);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
        if read_head(&mut stream).is_some() {
            seen.fetch_add(1, SeqCst);
        }
    })
}

#[test]
fn an_idempotent_request_is_sent_once_more_when_a_used_connection_breaks() {
    let seen = Arc::default();
    let world = World::before(closes_at_the_second_request(&seen));
    let mut client = world.client();
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.get("/").status, 200);
    assert_eq!(seen.load(SeqCst), 3);
}

#[test]
fn a_post_is_never_sent_twice() {
    for post in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        // Idempotent, but its body cannot be had again.
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let seen = Arc::default();
        let world = World::before(closes_at_the_second_request(&seen));
        let mut client = world.client();
        assert_eq!(client.get("/").status, 200);
        let answer = client.send(post).answer();
        assert_eq!(answer.status, 502, "{post}: {}", answer.body);
        assert_eq!(seen.load(SeqCst), 2, "{post}");
    }
}

#[test]
fn a_request_that_got_part_of_an_answer_is_not_sent_twice() {
    let seen = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&seen);
    let world = World::before(upstream::raw(move |_, mut stream| {
        for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 O"] {
            if read_head(&mut stream).is_some() {
                counter.fetch_add(1, SeqCst);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
    }));
    let mut client = world.client();
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.get("/").status, 502);
    assert_eq!(seen.load(SeqCst), 2);
}

#[test]
fn a_connection_that_was_idle_for_too_long_is_not_used_again() {
    let connections = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&connections);
    let world = World::configured(
        upstream::raw(move |_, mut stream| {
            counter.fetch_add(1, SeqCst);
            while read_head(&mut stream).is_some() {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
        }),
        |config| config.timeouts.upstream_idle = Duration::ZERO,
    );
    let mut client = world.client();
    for request in 1..4 {
        assert_eq!(client.get("/").status, 200);
        assert_eq!(connections.load(SeqCst), request);
    }
}
