//! Timeouts, and what happens when there is too much to do.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use super::upstream::{self, Echo, read_head};
use super::world::{World, blocks_tilde, wait_until};

const SHORT: Duration = Duration::from_millis(150);

#[test]
fn a_head_that_does_not_come_to_its_end_is_told_so() {
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| config.timeouts.head = SHORT);
    for start in ["G", "GET / HTTP/1.1\r\nHost: a\r\nX: "] {
        let mut client = world.client();
        client.send(start);
        let answer = client.answer();
        assert_eq!(answer.status, 408);
        assert!(answer.body.contains("head did not come in time"), "{}", answer.body);
        client.assert_closed();
    }
}

#[test]
fn a_body_that_does_not_come_to_its_end_is_told_so() {
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| config.timeouts.body = SHORT);
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    let answer = client.answer();
    assert_eq!(answer.status, 408, "{}", answer.body);
    assert!(answer.body.contains("body did not come in time"), "{}", answer.body);
    client.assert_closed();
    world.wait_for_metric(r#"portcullis_requests_refused_total{reason="body_timeout"} 1"#);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| config.timeouts.idle = SHORT);
    world.client().assert_closed();
    let mut client = world.client();
    assert_eq!(client.get("/").status, 200);
    client.assert_closed();
}

#[test]
fn waiting_for_the_upstream_is_not_idling() {
    let upstream = upstream::raw(|_, mut stream| {
        while read_head(&mut stream).is_some() {
            // Twice the client's idle time: the one place where time itself is the subject.
            std::thread::park_timeout(SHORT * 2);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
    });
    let world = World::configured(upstream, |config| {
        config.timeouts.idle = SHORT;
        config.timeouts.head = SHORT;
        config.timeouts.body = SHORT;
    });
    assert_eq!(world.client().get("/").body, "ok");
}

#[test]
fn an_exchange_that_takes_too_long_ends() {
    let upstream = upstream::raw(|_, mut stream| while read_head(&mut stream).is_some() {});
    let world = World::configured(upstream, |config| config.timeouts.total = SHORT);
    let answer = world.client().get("/");
    assert_eq!(answer.status, 504);
    assert!(answer.body.contains("as a whole"), "{}", answer.body);
}

#[test]
fn an_answer_that_takes_too_long_breaks_off() {
    let upstream = upstream::raw(|_, mut stream| {
        read_head(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n").unwrap();
        read_head(&mut stream);
    });
    let world = World::configured(upstream, |config| config.timeouts.total = SHORT);
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().status, 200);
    assert!(!String::from_utf8(client.rest()).unwrap().ends_with("0\r\n\r\n"));
}

#[test]
fn an_answer_that_is_read_too_slowly_breaks_off() {
    let upstream = upstream::raw(|_, mut stream| {
        read_head(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        while stream.write_all(&[b'x'; 64 * 1024]).is_ok() {}
    });
    let world = World::configured(upstream, |config| config.timeouts.total = SHORT);
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().status, 200);
    // It takes some, so that the wait for a single write begins anew, and then less than there is.
    client.chunk();
    world.wait_for_metric("portcullis_connections 0");
}

#[test]
fn too_many_requests_are_told_to_come_again() {
    let go = Arc::<AtomicBool>::default();
    let may_answer = Arc::clone(&go);
    let upstream = upstream::raw(move |_, mut stream| {
        while read_head(&mut stream).is_some() {
            wait_until("the test to let answers out", || may_answer.load(SeqCst));
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    });
    let world = World::configured(upstream, |config| config.limits.requests = 1);
    let mut first = world.client();
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    world.wait_for_metric("portcullis_requests_in_flight 1");
    let mut second = world.client();
    let answer = second.get("/");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.body);
    assert!(answer.body.starts_with("Overloaded: "), "{}", answer.body);
    go.store(true, SeqCst);
    assert_eq!(first.answer().status, 200);
    assert_eq!(second.get("/").status, 200);
    world.wait_for_metric(r#"portcullis_shed_total{reason="requests"} 1"#);
}

#[test]
fn too_many_connections_are_told_to_come_again() {
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| config.limits.connections = 1);
    let mut first = world.client();
    assert_eq!(first.get("/").status, 200);
    let mut second = world.client();
    let answer = second.answer();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    second.assert_closed();
    assert_eq!(first.get("/").status, 200);
    drop((first, second));
    world.wait_for_metric("portcullis_connections 0");
    assert_eq!(world.client().get("/").status, 200);
    world.wait_for_metric(r#"portcullis_shed_total{reason="connections"} 1"#);
}

#[test]
fn more_bodies_than_may_be_buffered_are_told_to_come_again() {
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| config.limits.buffered_bytes = 10);
    let mut reader = blocks_tilde("reader");
    reader.body_bytes = Some(100);
    world.enforce(vec![reader]);
    let post =
        |body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut client = world.client();
    for _ in 0..3 {
        assert_eq!(client.send(post("0123456789")).answer().status, 200);
    }
    assert_eq!(client.send(post("0123456789a")).answer().status, 503);
    world.wait_for_metric(r#"portcullis_shed_total{reason="body_buffers"} 1"#);
    assert_eq!(world.client().send(post("0123456789")).answer().status, 200);
}

#[test]
fn a_client_that_takes_no_bytes_frees_the_upstream() {
    let freed = Arc::<AtomicBool>::default();
    let told = Arc::clone(&freed);
    let upstream = upstream::raw(move |_, mut stream| {
        read_head(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        while stream.write_all(&[b'x'; 64 * 1024]).is_ok() {}
        told.store(true, SeqCst);
    });
    let world = World::configured(upstream, |config| config.timeouts.write = SHORT);
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the upstream to be freed", || freed.load(SeqCst));
    world.wait_for_metric("portcullis_connections 0");
}
