//! HTTP/2 as clients see it: what passes, what is refused, and how the connection ends.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Method};
use rustls::version::{TLS12, TLS13};

use super::certificates::{issue, tls, trusting};
use super::drain::take_over;
use super::frames::{
    self, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, PROTOCOL_ERROR, RST_STREAM, frame,
};
use super::h2_client::{H2Client, block_on, get, post, read};
use super::upstream::{self, Echo, read_head};
use super::world::{World, always, blocks_tilde, wait_until};

const SHORT: Duration = Duration::from_millis(150);

/// A proxy that takes HTTP/2 without TLS.
pub(crate) fn cleartext(upstream: SocketAddr) -> World {
    World::configured(upstream, |config| config.http2_cleartext = true)
}

#[test]
fn requests_and_answers_pass() {
    let upstream = Echo::start();
    let world = cleartext(upstream.address);
    block_on(async {
        let client = H2Client::connect(world.address).await;
        let answer = client.get("http://shop.example/a?b").await;
        assert_eq!(answer.status, 200);
        let body = "GET /a?b HTTP/1.1\nhost: shop.example\nx-forwarded-for: 127.0.0.1\nx-forwarded-proto: http\nx-forwarded-host: shop.example\n\n";
        assert_eq!(answer.body, body);
        assert_eq!(answer.headers["content-length"], body.len().to_string());
        assert!(answer.headers.contains_key("date") && !answer.headers.contains_key("connection"));
        let answer = client.send_with(post("http://shop.example/"), &["he", "", "llo"], None).await.unwrap();
        assert!(answer.body.contains("transfer-encoding: chunked\n"), "{}", answer.body);
        assert!(answer.body.ends_with("\n\nhello"), "{}", answer.body);
        let mut request = post("http://shop.example/");
        request.headers_mut().insert("content-length", HeaderValue::from(5));
        let answer = client.send_with(request, &["hello"], None).await.unwrap();
        assert!(
            answer.body.contains("content-length: 5\n") && answer.body.ends_with("\n\nhello"),
            "{}",
            answer.body
        );
        let mut request = get("http://shop.example/");
        *request.method_mut() = Method::HEAD;
        let answer = client.send(request).await.unwrap();
        assert_eq!((answer.status, &*answer.body), (200, ""));
        // Many at once, over one connection.
        let requests = (0..100).map(|number| {
            let client = client.clone();
            async move { client.get(&format!("http://shop.example/{number}")).await.body }
        });
        for (number, body) in futures::future::join_all(requests).await.into_iter().enumerate() {
            assert!(body.starts_with(&format!("GET /{number} ")), "{body}");
        }
    });
    world.wait_for_metric("portcullis_requests_in_flight 0");
    world.wait_for_metric("portcullis_connections 0");
}

#[test]
fn http_1_is_still_spoken_where_http_2_is_without_tls() {
    let upstream = Echo::start();
    let world = cleartext(upstream.address);
    let mut client = world.client();
    for part in ["P", "UT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"] {
        client.send(part);
    }
    assert!(client.answer().body.starts_with("PUT / "));
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn cookie_crumbs_are_one_field_for_rules_and_upstream() {
    let upstream = Echo::start();
    let world = cleartext(upstream.address);
    block_on(async {
        let mut request = get("http://a/");
        for crumb in ["a=1", "b=2", "c=3"] {
            request.headers_mut().append("cookie", HeaderValue::from_static(crumb));
        }
        let answer = H2Client::connect(world.address).await.send(request).await.unwrap();
        assert!(answer.body.contains("\ncookie: a=1; b=2; c=3\n"), "{}", answer.body);
    });
}

#[test]
fn what_http_1_refuses_is_refused_and_the_connection_goes_on() {
    let upstream = Echo::start();
    let world = cleartext(upstream.address);
    block_on(async {
        let client = H2Client::connect(world.address).await;
        let with = |name: &'static str, value: &str| {
            let mut request = get("http://a/");
            request.headers_mut().insert(name, value.parse().unwrap());
            request
        };
        let method = |method: &str| {
            let mut request = get("http://a/");
            *request.method_mut() = method.parse().unwrap();
            request
        };
        for (request, status, reason) in [
            (get("http://a/../b"), 400, "dot segment"),
            (get("http://a/b%5cc"), 400, "backslash"),
            (get("http://a//b"), 400, "two slashes"),
            (get("http://user@a/"), 400, "Host is no host name"),
            (get("https://a/"), 400, "`:scheme`"),
            (with("host", "b"), 400, "not the one of Host"),
            (with("content_length", "3"), 400, "`_`"),
            (with("expect", "200-ok"), 417, "100-continue"),
            (method("TRACE"), 405, "TRACE is not served"),
            (method("get"), 501, "upper-case"),
            (get(&format!("http://a/{}", "a".repeat(8 * 1024))), 414, "request line is too long"),
            (with("x", &"a".repeat(8 * 1024)), 431, "line is too long"),
        ] {
            let answer = client.send(request).await.unwrap();
            assert_eq!(answer.status, status, "{}", answer.body);
            assert!(answer.body.starts_with("Refused: ") && answer.body.contains(reason), "{}", answer.body);
            if status == 405 {
                assert!(answer.headers.contains_key("allow"));
            }
        }
        let mut request = get("http://a/");
        for _ in 0..100 {
            request.headers_mut().append("x", HeaderValue::from_static("y"));
        }
        assert_eq!(client.send(request).await.unwrap().status, 431);
        // More than 32 KiB of fields, each of which counts 32 bytes more (RFC 9113 section 10.5.1).
        let mut request = get("http://a/");
        for _ in 0..5 {
            request.headers_mut().append("x", "a".repeat(7_000).parse().unwrap());
        }
        assert_eq!(client.send(request).await.unwrap().status, 431);
        assert_eq!(client.get("http://a/").await.status, 200);
    });
    assert_eq!(upstream.requests(), 1);
    world.wait_for_metric(r#"portcullis_requests_refused_total{reason="other_authority"} 1"#);
}

#[test]
fn what_only_http_2_can_say_wrong_resets_the_stream() {
    let upstream = Echo::start();
    let world = cleartext(upstream.address);
    let request = |fields: &[(&str, &str)]| frames::block(fields);
    let plain = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    for (name, block) in [
        ("connection", frames::get(&[("connection", "close")])),
        ("keep-alive", frames::get(&[("keep-alive", "timeout=5")])),
        ("transfer-encoding", frames::get(&[("transfer-encoding", "chunked")])),
        ("upgrade", frames::get(&[("upgrade", "h2c")])),
        ("te", frames::get(&[("te", "gzip")])),
        ("upper case", frames::get(&[("X-Upper", "1")])),
        ("a pseudo-header behind", frames::get(&[("x", "1"), (":path", "/b")])),
        ("a pseudo-header twice", request(&[&plain[..], &[(":path", "/b")]].concat())),
        ("an unknown pseudo-header", request(&[&[(":unknown", "1")], &plain[..]].concat())),
        ("no path", request(&plain[..3])),
        (
            "an extended CONNECT",
            request(&[&[(":method", "CONNECT"), (":protocol", "websocket")], &plain[1..]].concat()),
        ),
        ("a length without a body", frames::get(&[("content-length", "3")])),
    ] {
        let mut client = Frames::connect(world.address);
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block));
        let ended = std::iter::from_fn(|| client.next())
            .find(|frame| matches!(frame.kind, RST_STREAM | GOAWAY | HEADERS))
            .unwrap_or_else(|| panic!("{name}: closed"));
        assert!(ended.kind != HEADERS && ended.code() == PROTOCOL_ERROR, "{name}: {ended:?}");
    }
    // White space around a value is answered, since the library lets it pass.
    let mut client = Frames::connect(world.address);
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &frames::get(&[("x", " 1")])));
    assert!(client.wait_for(DATA).unwrap().payload.starts_with(b"Refused: a header value begins"));
    // CONNECT is a request of another form.
    let mut client = Frames::connect(world.address);
    let connect = frames::block(&[(":method", "CONNECT"), (":authority", "a:443")]);
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &connect));
    assert!(client.wait_for(DATA).unwrap().payload.starts_with(b"Refused: CONNECT"));
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn a_body_is_held_to_its_content_length() {
    let upstream = Echo::start();
    let world = cleartext(upstream.address);
    for body in [&b"ab"[..], b"abcd"] {
        let mut client = Frames::connect(world.address);
        let head = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/"),
            ("content-length", "3"),
        ];
        client.send(frame(HEADERS, END_HEADERS, 1, &frames::block(&head)));
        client.send(frame(DATA, END_STREAM, 1, body));
        assert_eq!(client.wait_for(RST_STREAM).unwrap().code(), PROTOCOL_ERROR);
    }
    world.wait_for_metric("portcullis_requests_in_flight 0");
}

#[test]
fn an_authority_outside_the_certificate_is_told_to_connect_anew() {
    let folder = tempfile::tempdir().unwrap();
    let shop = issue(&["shop.example", "*.shop.example"]);
    shop.mount(folder.path(), "shop");
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| config.tls = Some(tls(folder.path(), None)));
    let config = trusting(&[&shop], &[&TLS13, &TLS12], &["h2", "http/1.1"]);
    block_on(async {
        let client = H2Client::connect_tls(world.tls_address.unwrap(), &config, "shop.example").await;
        for (uri, status) in [
            ("https://shop.example/", 200),
            ("https://a.shop.example:443/", 200),
            ("https://blog.example/", 421),
            ("https://a.b.shop.example/", 421),
            ("https://192.0.2.1/", 421),
            ("http://shop.example/", 400),
        ] {
            let answer = client.get(uri).await;
            assert_eq!(answer.status, status, "{uri}: {}", answer.body);
        }
        let answer = client.get("https://shop.example/").await;
        assert!(answer.body.contains("x-forwarded-proto: https\n"), "{}", answer.body);
    });
    world.wait_for_metric(r#"portcullis_requests_refused_total{reason="misdirected"} 3"#);
}

#[test]
fn a_blocked_request_is_answered_with_its_event_id() {
    let upstream = Echo::start();
    let world = cleartext(upstream.address);
    world.enforce(vec![always("bad-bot-blocker", 1)]);
    block_on(async {
        let answer = H2Client::connect(world.address).await.get("http://a/").await;
        let id = answer.headers["x-portcullis-event-id"].to_str().unwrap();
        assert_eq!(answer.status, 403);
        assert_eq!(answer.body, format!("Blocked by WASM rule: bad-bot-blocker\nEvent id: {id}\n"));
    });
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn a_rule_reads_the_body_and_the_upstream_gets_it_with_its_trailers() {
    let upstream = upstream::raw(|_, mut stream| {
        while let Some(head) = read_head(&mut stream) {
            assert!(head.contains("TE: trailers\r\n"), "{head}");
            let mut body = Vec::new();
            while !body.ends_with(b"x-sum: 1\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                body.push(byte[0]);
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nGrpc-Status: 0\r\n\r\n")
                .unwrap();
        }
    });
    let world = cleartext(upstream);
    let mut reader = blocks_tilde("reader");
    reader.body_bytes = Some(100);
    let trailers = |value: &'static str| {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static(value));
        Some(trailers)
    };
    block_on(async {
        let client = H2Client::connect(world.address).await;
        for rules in [vec![], vec![reader]] {
            world.enforce(rules);
            let mut request = post("http://a/");
            request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
            let answer = client.send_with(request, &["hel", "lo"], trailers("1")).await.unwrap();
            assert_eq!((answer.status, &*answer.body), (200, "ok"));
            assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
        }
        // Now a rule reads the body.
        let answer = client.send_with(post("http://a/"), &["he~", "lo"], None).await.unwrap();
        assert_eq!(answer.status, 403);
        let mut forbidden = HeaderMap::new();
        forbidden.insert("content-length", HeaderValue::from_static("1"));
        let answer = client.send_with(post("http://a/"), &["hello"], Some(forbidden)).await.unwrap();
        assert_eq!(answer.status, 400, "{}", answer.body);
    });
}

#[test]
fn a_client_that_resets_a_stream_frees_the_upstream() {
    let freed = Arc::<AtomicUsize>::default();
    let told = Arc::clone(&freed);
    let upstream = upstream::raw(move |_, mut stream| {
        let head = read_head(&mut stream).unwrap();
        if head.contains("/answers") {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        }
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        told.fetch_add(1, SeqCst);
    });
    let world = cleartext(upstream);
    block_on(async {
        let client = H2Client::connect(world.address).await;
        let mut requests = client.requests.clone().ready().await.unwrap();
        let (_response, mut stream) = requests.send_request(get("http://a/"), true).unwrap();
        let (response, _) = requests.send_request(get("http://a/answers"), true).unwrap();
        let response = response.await.unwrap();
        wait_until("both requests", || world.metric("portcullis_requests_in_flight") == 2);
        stream.send_reset(Reason::CANCEL);
        drop(response);
        tokio::task::spawn_blocking(move || wait_until("both to be freed", || freed.load(SeqCst) == 2))
            .await
            .unwrap();
    });
    world.wait_for_metric("portcullis_requests_in_flight 0");
}

#[test]
fn an_upload_waits_for_an_upstream_that_does_not_read() {
    let go = Arc::<AtomicBool>::default();
    let may_read = Arc::clone(&go);
    const SIZE: usize = 32 << 20;
    let upstream = upstream::raw(move |_, mut stream| {
        read_head(&mut stream).unwrap();
        wait_until("the test to let bytes in", || may_read.load(SeqCst));
        let mut body = vec![0; SIZE];
        stream.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    });
    let world = cleartext(upstream);
    block_on(async {
        let client = H2Client::connect(world.address).await;
        let mut requests = client.requests.clone().ready().await.unwrap();
        let mut request = post("http://a/");
        request.headers_mut().insert("content-length", HeaderValue::from(SIZE));
        let (response, mut stream) = requests.send_request(request, false).unwrap();
        let mut sent = 0;
        while sent < SIZE {
            stream.reserve_capacity(SIZE - sent);
            let room = futures::future::poll_fn(|cx| stream.poll_capacity(cx));
            match tokio::time::timeout(SHORT * 2, room).await {
                Ok(room) => {
                    let room = room.unwrap().unwrap();
                    stream.send_data(Bytes::from(vec![b'x'; room]), sent + room == SIZE).unwrap();
                    sent += room;
                }
                Err(_) => {
                    // What the kernel's buffers, ours and the window hold.
                    assert!(!go.load(SeqCst) && sent < 16 << 20, "{sent} bytes were taken");
                    go.store(true, SeqCst);
                }
            }
        }
        assert!(go.load(SeqCst), "nothing was waited for");
        assert_eq!(read(response.await.unwrap()).await.unwrap().body, "ok");
    });
}

#[test]
fn an_answer_waits_for_a_client_that_does_not_read() {
    const SIZE: usize = 64 << 20;
    let written = Arc::<AtomicUsize>::default();
    let so_far = Arc::clone(&written);
    let upstream = upstream::raw(move |_, mut stream| {
        read_head(&mut stream).unwrap();
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes()).unwrap();
        for _ in 0..SIZE >> 16 {
            stream.write_all(&[b'x'; 1 << 16]).unwrap();
            so_far.fetch_add(1 << 16, SeqCst);
        }
    });
    let world = cleartext(upstream);
    block_on(async {
        let client = H2Client::connect(world.address).await;
        let mut requests = client.requests.clone().ready().await.unwrap();
        let (response, _) = requests.send_request(get("http://a/"), true).unwrap();
        let response = response.await.unwrap();
        // Nothing more is written when it was the same for a while: time itself is the subject.
        let mut before = usize::MAX;
        while before != written.load(SeqCst) {
            before = written.load(SeqCst);
            tokio::time::sleep(SHORT).await;
        }
        assert!(before < 16 << 20, "{before} bytes were taken");
        assert_eq!(read(response).await.unwrap().body.len(), SIZE);
    });
}

#[test]
fn a_body_that_does_not_come_is_told_so_and_other_streams_go_on() {
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| {
        config.http2_cleartext = true;
        config.timeouts.body = SHORT;
    });
    block_on(async {
        let client = H2Client::connect(world.address).await;
        let mut requests = client.requests.clone().ready().await.unwrap();
        let (response, mut stream) = requests.send_request(post("http://a/"), false).unwrap();
        stream.send_data("begun".into(), false).unwrap();
        let answer = read(response.await.unwrap()).await.unwrap();
        assert_eq!(answer.status, 408, "{}", answer.body);
        assert_eq!(client.get("http://a/").await.status, 200);
    });
}

#[test]
fn a_client_whose_uploads_are_refused_keeps_its_connection() {
    let upstream = Echo::start();
    let world = cleartext(upstream.address);
    world.enforce(vec![always("r", 1)]);
    block_on(async {
        let client = H2Client::connect(world.address).await;
        for number in 0..400 {
            let mut requests = client.requests.clone().ready().await.unwrap();
            let (response, mut stream) = requests.send_request(post("http://a/"), false).unwrap();
            stream.send_data("a part of it".into(), false).unwrap();
            assert_eq!(response.await.unwrap().status(), 403, "request {number}");
        }
    });
    let metrics = world.metrics();
    assert!(!metrics.lines().any(|line| {
        line.starts_with("portcullis_http2_connections_ended_total") && !line.ends_with(" 0")
    }));
}

#[test]
fn a_client_that_waits_to_be_told_is_told_to_send_its_body() {
    let upstream = Echo::start();
    let world = cleartext(upstream.address);
    let mut client = Frames::connect(world.address);
    let head = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/"),
        ("expect", "100-continue"),
    ];
    client.send(frame(HEADERS, END_HEADERS, 1, &frames::block(&head)));
    let interim = client.wait_for(HEADERS).unwrap();
    assert_eq!(interim.flags & END_STREAM, 0);
    client.send(frame(DATA, END_STREAM, 1, b"hello"));
    client.wait_for(HEADERS).unwrap();
    assert!(client.wait_for(DATA).unwrap().payload.ends_with(b"\n\nhello"));
}

#[test]
fn an_idle_connection_and_a_head_that_does_not_end_are_closed() {
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| {
        config.http2_cleartext = true;
        config.timeouts.idle = SHORT;
        config.timeouts.head = SHORT;
    });
    let mut client = Frames::connect(world.address);
    assert_eq!(client.wait_for(GOAWAY).unwrap().code(), 0);
    assert!(client.wait_for(GOAWAY).is_none(), "the client has acknowledged nothing");
    let mut client = Frames::connect(world.address);
    client.send(frame(HEADERS, END_STREAM, 1, &frames::get(&[])));
    assert_eq!(client.wait_for(GOAWAY).unwrap().code(), frames::ENHANCE_YOUR_CALM);
    assert!(client.next().is_none());
    world.wait_for_metric(r#"portcullis_http2_connections_ended_total{reason="head_timeout"} 1"#);
    // The preface is a head too.
    let mut client = world.client();
    client.send("PRI * HTT").rest();
    world.wait_for_metric("portcullis_connections 0");
}

#[test]
fn a_drain_says_twice_that_it_goes_and_what_was_begun_comes_to_its_end() {
    let go = Arc::<AtomicBool>::default();
    let may_answer = Arc::clone(&go);
    let upstream = upstream::raw(move |_, mut stream| {
        while read_head(&mut stream).is_some() {
            wait_until("the test to let answers out", || may_answer.load(SeqCst));
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
    });
    let mut world = cleartext(upstream);
    let mut client = Frames::connect(world.address);
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &frames::get(&[])));
    world.wait_for_metric("portcullis_requests_in_flight 1");
    world.drain.start();
    let first = client.wait_for(GOAWAY).unwrap();
    assert_eq!((first.last_stream(), first.code()), (0x7fff_ffff, 0));
    // A request that was on its way is taken, as long as the client has not heard.
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, &frames::get(&[])));
    world.wait_for_metric("portcullis_requests_in_flight 2");
    let ping = client.wait_for(PING).unwrap();
    client.send(frame(PING, frames::ACK, 0, &ping.payload));
    let second = client.wait_for(GOAWAY).unwrap();
    assert_eq!((second.last_stream(), second.code()), (3, 0));
    go.store(true, SeqCst);
    let ends: Vec<_> = std::iter::from_fn(|| client.next())
        .filter(|frame| frame.kind == DATA && frame.flags & END_STREAM != 0)
        .map(|frame| (frame.stream, frame.payload))
        .collect();
    assert_eq!(ends.len(), 2);
    assert!(ends.iter().all(|(_, payload)| payload == b"ok"), "{ends:?}");
    assert_eq!(world.running.take().unwrap().join(), 0);
}

#[test]
fn no_request_is_lost_when_one_proxy_takes_over_from_another() {
    let upstream = Echo::start();
    let configure = |config: &mut portcullis_proxy::ProxyConfig| {
        config.workers = 2;
        config.http2_cleartext = true;
        config.drain.delay = Duration::from_millis(300);
    };
    let mut old = World::configured(upstream.address, configure);
    let new = World::configured(upstream.address, configure);
    let target = Arc::new(std::sync::Mutex::new(old.address));
    let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (target, stop, answered) = (Arc::clone(&target), Arc::clone(&stop), Arc::clone(&answered));
            std::thread::spawn(move || {
                block_on(async {
                    while !stop.load(SeqCst) {
                        let address = *target.lock().unwrap();
                        let client = H2Client::connect(address).await;
                        // Until the connection takes no more requests; what it took it answers.
                        while let Ok(mut requests) = client.requests.clone().ready().await {
                            let Ok((response, _)) = requests.send_request(get("http://a/"), true) else {
                                break;
                            };
                            assert_eq!(read(response.await.unwrap()).await.unwrap().status, 200);
                            answered.fetch_add(1, SeqCst);
                            if stop.load(SeqCst) {
                                break;
                            }
                        }
                    }
                });
            })
        })
        .collect();
    take_over(&mut old, &new, &target, &answered);
    stop.store(true, SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
}
