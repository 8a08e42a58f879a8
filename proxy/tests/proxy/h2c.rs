//! Upstreams that speak HTTP/2 without TLS: gRPC, and what else passes through.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::{join_all, poll_fn};
use h2::{Reason, RecvStream, SendStream, server};
use http::{HeaderMap, HeaderValue, Request, Response};
use portcullis_crds::bus::DesiredRoute;
use portcullis_crds::waf_route::BackendProtocol;
use portcullis_proxy::ProxyConfig;
use portcullis_proxy::rules::RuleSet;
use serde_json::json;

use super::frames::{self, END_HEADERS, END_STREAM, Frames, HEADERS, frame};
use super::h2_client::{H2Client, block_on, get, post};
use super::h2_upstream::{Exchange, H2Upstream, message, send, status, take_message};
use super::upstream::{self, Echo, answering, read_head};
use super::world::{World, blocks_tilde, wait_until};

/// A proxy that takes HTTP/2 without TLS, and speaks it.
fn world(upstream: &H2Upstream) -> World {
    configured(upstream.address, |_| ())
}

fn configured(upstream: std::net::SocketAddr, change: impl FnOnce(&mut ProxyConfig)) -> World {
    World::configured(upstream, |config| {
        config.http2_cleartext = true;
        config.upstream = config.upstream.clone().speaking(BackendProtocol::H2c);
        change(config);
    })
}

/// Answers with what it received: request line, headers, body, trailers.
async fn echo(mut exchange: Exchange) {
    let (body, trailers) = exchange.body().await;
    let (method, uri) = (exchange.request.method(), exchange.request.uri());
    let mut text = format!("{method} {uri} on {}\n", exchange.connection);
    for (name, value) in exchange.request.headers().iter().chain(trailers.iter().flat_map(HeaderMap::iter)) {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    text.push_str(std::str::from_utf8(&body).unwrap());
    exchange.answer(text);
}

/// A server with a method of each kind that gRPC knows.
async fn grpc(mut exchange: Exchange) {
    assert_eq!(exchange.request.headers()["te"], "trailers");
    assert_eq!(exchange.request.headers()["content-type"], "application/grpc");
    let method = exchange.request.uri().path().to_owned();
    if method == "/echo.Echo/Missing" {
        let mut response = Response::new(());
        response.headers_mut().extend(status("12"));
        exchange.respond.send_response(response, true).unwrap();
        return;
    }
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut answer = exchange.respond.send_response(response, false).unwrap();
    let (mut bytes, mut heard) = (BytesMut::new(), Vec::new());
    while let Some(data) = exchange.data().await {
        bytes.extend_from_slice(&data.unwrap());
        while let Some(message) = take_message(&mut bytes) {
            if method == "/echo.Echo/Both" {
                assert!(send(&mut answer, reply(&message)).await);
            }
            heard.push(message);
        }
    }
    match &*method {
        "/echo.Echo/Unary" => assert!(send(&mut answer, message(&heard.concat())).await),
        "/echo.Echo/Client" => assert!(send(&mut answer, message(&heard.len().to_string())).await),
        "/echo.Echo/Server" => {
            for number in 0..heard[0].parse::<usize>().unwrap() {
                assert!(send(&mut answer, message(&long(number))).await);
            }
        }
        _ => (),
    }
    answer.send_trailers(status("0")).unwrap();
}

/// A message whose frame is not small: of those, a client of the `h2` crate lets only some wait.
fn long(number: usize) -> String {
    format!("{number:0300}")
}

fn reply(text: &str) -> Bytes {
    message(&format!("re: {text}"))
}

/// A call of gRPC under way.
struct Call {
    requests: SendStream<Bytes>,
    answer: h2::client::ResponseFuture,
}

async fn call(client: &H2Client, method: &str) -> Call {
    let mut request = post(&format!("http://shop.example/echo.Echo/{method}"));
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let (answer, requests) =
        client.requests.clone().ready().await.unwrap().send_request(request, false).unwrap();
    Call { requests, answer }
}

/// All messages of an answer and the status at its end.
async fn messages(body: &mut RecvStream) -> (Vec<String>, String) {
    let (mut bytes, mut messages) = (BytesMut::new(), Vec::new());
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
        messages.extend(std::iter::from_fn(|| take_message(&mut bytes)));
    }
    let trailers = body.trailers().await.unwrap().unwrap();
    (messages, trailers["grpc-status"].to_str().unwrap().to_owned())
}

#[test]
fn calls_of_grpc_of_all_kinds_pass() {
    let upstream = H2Upstream::start(grpc);
    let world = world(&upstream);
    block_on(async {
        let client = H2Client::connect(world.address).await;
        for (method, sent, expected) in [
            ("Unary", &["hello"][..], vec!["hello".to_owned()]),
            ("Client", &["a", "b", "c"], vec!["3".to_owned()]),
            ("Server", &["500"], (0..500).map(long).collect()),
        ] {
            let mut call = call(&client, method).await;
            for (index, text) in sent.iter().enumerate() {
                call.requests.send_data(message(text), index + 1 == sent.len()).unwrap();
            }
            let mut answer = call.answer.await.unwrap();
            assert_eq!(answer.headers()["content-type"], "application/grpc");
            assert_eq!(messages(answer.body_mut()).await, (expected, "0".to_owned()), "{method}");
        }
        // In lock-step: each message arrives before the next one is sent.
        let mut both = call(&client, "Both").await;
        both.requests.send_data(message("0"), false).unwrap();
        let mut answer = both.answer.await.unwrap();
        let mut bytes = BytesMut::new();
        for number in 1..50 {
            let heard = loop {
                if let Some(heard) = take_message(&mut bytes) {
                    break heard;
                }
                bytes.extend_from_slice(&answer.body_mut().data().await.unwrap().unwrap());
            };
            assert_eq!(heard, format!("re: {}", number - 1));
            both.requests.send_data(message(&number.to_string()), false).unwrap();
        }
        both.requests.send_data(Bytes::new(), true).unwrap();
        assert_eq!(messages(answer.body_mut()).await, (vec!["re: 49".to_owned()], "0".to_owned()));
        // A status without a message.
        let mut missing = call(&client, "Missing").await;
        missing.requests.send_data(message("x"), true).unwrap();
        let answer = missing.answer.await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "12");
        assert!(answer.body().is_end_stream());
    });
    assert_eq!(upstream.opened(), 1);
    world.wait_for_metric("portcullis_requests_in_flight 0");
}

#[test]
fn a_request_in_http_1_is_one_in_http_2_for_the_upstream() {
    let upstream = H2Upstream::start(echo);
    let world = world(&upstream);
    world.enforce(vec![blocks_tilde("tilde")]);
    let mut client = world.client();
    let answer = client
        .send(
            "POST /a%2Fb//c?d=[] HTTP/1.1\r\nHost: Shop.example\r\nX-B: 1\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\
             X-A: 2\r\nx-b: 3\r\nConnection: X-Private\r\nX-Private: 4\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 5\r\n\r\n",
        )
        .answer();
    assert_eq!(
        answer.body,
        "POST http://Shop.example/a%2Fb//c?d=[] on 0\nx-b: 1\nx-b: 3\nx-a: 2\nx-forwarded-for: 127.0.0.1\n\
         x-forwarded-proto: http\nx-forwarded-host: Shop.example\nte: trailers\nx-sum: 5\nhello"
    );
    assert_eq!((answer.status, &*answer.reason), (200, "OK"));
    assert!(client.get("/~").status == 403 && client.get("/").status == 200, "rules are asked as always");
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().status, 200);
    assert!(client.get("/").body.starts_with("GET http://shop.example/ on 0\n"));
}

#[test]
fn trailers_of_an_answer_reach_clients_of_both_protocols() {
    let upstream = H2Upstream::start(|mut exchange| async move {
        let mut answer = exchange.ok(false);
        answer.send_data("hello".into(), false).unwrap();
        answer.send_trailers(status("0")).unwrap();
    });
    let world = world(&upstream);
    let bytes = world.client().send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").rest();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.ends_with("\r\n\r\n5\r\nhello\r\n0\r\ngrpc-status: 0\r\n\r\n"), "{text}");
    block_on(async {
        let answer = H2Client::connect(world.address).await.get("http://a/").await;
        assert_eq!((&*answer.body, answer.trailers), ("hello", Some(status("0"))));
    });
}

#[test]
fn a_route_says_what_its_backend_speaks() {
    let (default, grpc) = (Echo::start(), H2Upstream::start(echo));
    let world = World::before(default.address);
    let backend = json!({"host": grpc.address.ip(), "port": grpc.address.port()});
    let route: DesiredRoute = serde_json::from_value(json!({
        "key": {"namespace": "shop", "name": "grpc"},
        "hostnames": ["grpc.example"],
        "rules": [{"backend": backend, "protocol": "H2C"}],
    }))
    .unwrap();
    let routes = vec![Arc::new(route)];
    world.rules.store(RuleSet { stream: "test".into(), sequence: 1, rules: Vec::new(), routes });
    let get = |host: &str| world.client().send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).answer();
    assert!(get("grpc.example").body.starts_with("GET http://grpc.example/ on 0\n"));
    assert!(get("a").body.starts_with("GET / HTTP/1.1\n"));
    let websocket = "GET / HTTP/1.1\r\nHost: grpc.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let answer = world.client().send(websocket).answer();
    assert_eq!(answer.status, 501);
    assert!(answer.body.contains("protocol: HTTP"), "{}", answer.body);
}

/// Answers when `go` says so.
fn waiting(builder: server::Builder) -> (H2Upstream, tokio::sync::watch::Sender<bool>) {
    let go = tokio::sync::watch::Sender::new(false);
    let told = go.clone();
    let upstream = H2Upstream::configured(builder, move |exchange| {
        let mut told = told.subscribe();
        async move {
            told.wait_for(|go| *go).await.unwrap();
            echo(exchange).await;
        }
    });
    (upstream, go)
}

/// So many requests at once, each on a connection of its own.
fn at_once(world: &World, count: usize) -> Vec<super::client::Client> {
    (0..count)
        .map(|_| {
            let mut client = world.client();
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            client
        })
        .collect()
}

#[test]
fn requests_share_a_connection_up_to_a_hundred_streams_or_what_the_upstream_takes() {
    for (takes, requests, connections) in [(None, 100, 1), (None, 150, 2), (Some(4), 10, 3)] {
        let mut builder = server::Builder::new();
        if let Some(takes) = takes {
            builder.max_concurrent_streams(takes);
        }
        let (upstream, go) = waiting(builder);
        let world = world(&upstream);
        let mut clients = at_once(&world, requests);
        wait_until("all requests at the upstream", || upstream.requests() == requests);
        assert_eq!(upstream.opened(), connections);
        go.send_replace(true);
        for client in &mut clients {
            assert_eq!(client.answer().status, 200);
        }
    }
}

#[test]
fn a_connection_that_nobody_uses_is_closed() {
    let upstream = H2Upstream::start(echo);
    let world =
        configured(upstream.address, |config| config.timeouts.upstream_idle = Duration::from_millis(100));
    assert_eq!(world.client().get("/").status, 200);
    wait_until("the end of the connection", || upstream.closed() == 1);
    assert_eq!(world.client().get("/").status, 200);
    assert_eq!(upstream.opened(), 2);
}

/// An upstream that does this with its first request, and echoes all others.
fn first(act: impl Fn(&mut Exchange) + Send + Clone + 'static) -> (H2Upstream, Arc<AtomicUsize>) {
    let acted = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&acted);
    let upstream = H2Upstream::start(move |mut exchange| {
        let is_first = counter.fetch_add(1, SeqCst) == 0;
        let act = act.clone();
        async move {
            if is_first {
                act(&mut exchange);
            } else {
                echo(exchange).await;
            }
        }
    });
    (upstream, acted)
}

#[test]
fn a_refused_stream_is_sent_once_more_on_another_connection() {
    let refuse = |exchange: &mut Exchange| exchange.respond.send_reset(Reason::REFUSED_STREAM);
    let (upstream, _) = first(refuse);
    let world = world(&upstream);
    // Not idempotent: the upstream has said that it did nothing.
    let answer = world.client().send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").answer();
    assert!(answer.body.starts_with("POST http://a/ on 1\n"), "{}", answer.body);
    assert_eq!(upstream.requests(), 2);
}

#[test]
fn a_request_is_not_sent_twice_when_the_upstream_may_have_seen_it() {
    for (reason, request, status) in [
        (Reason::INTERNAL_ERROR, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 502),
        (Reason::CANCEL, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 502),
        (Reason::REFUSED_STREAM, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", 502),
    ] {
        let (upstream, _) = first(move |exchange| exchange.respond.send_reset(reason));
        let world = world(&upstream);
        assert_eq!(world.client().send(request).answer().status, status, "{reason:?}");
        assert_eq!(upstream.requests(), 1);
    }
    // An upstream that refuses everything is asked twice.
    let upstream = H2Upstream::start(|mut exchange| async move {
        exchange.respond.send_reset(Reason::REFUSED_STREAM);
    });
    let world = world(&upstream);
    assert_eq!(world.client().get("/").status, 502);
    assert_eq!(upstream.requests(), 2);
}

#[test]
fn a_request_beyond_the_last_of_a_goaway_is_sent_on_another_connection() {
    // By hand: the `h2` crate's server answers what it was sent before it goes.
    let address = upstream::raw(|number, mut stream| {
        use std::io::{Read, Write};
        stream.write_all(&frame(4, 0, 0, &[])).unwrap();
        let mut bytes = Vec::new();
        // HEADERS of stream 1, with END_STREAM and END_HEADERS.
        while !bytes.windows(6).any(|window| window == [1, 5, 0, 0, 0, 1]) {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).unwrap();
            bytes.extend_from_slice(&buffer[..read]);
        }
        if number == 0 {
            stream.write_all(&frame(7, 0, 0, &[0; 8])).unwrap();
        } else {
            // `:status: 204`, of the static table.
            stream.write_all(&frame(1, 5, 1, &[0x89])).unwrap();
        }
        while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
    });
    let world = configured(address, |_| ());
    assert_eq!(world.client().get("/").status, 204);
}

#[test]
fn a_connection_that_the_upstream_has_left_is_not_used_again() {
    let upstream = H2Upstream::start(|mut exchange| async move {
        let connection = exchange.connection;
        exchange.answer(format!("on {connection}"));
    });
    let world = world(&upstream);
    let mut client = world.client();
    assert_eq!(client.get("/").body, "on 0");
    assert_eq!(client.get("/").body, "on 0");
    // One that ends right behind an answer.
    let address = upstream::raw(|number, mut stream| {
        use std::io::{Read, Write};
        stream.write_all(&frame(4, 0, 0, &[])).unwrap();
        let mut bytes = Vec::new();
        while !bytes.windows(6).any(|window| window == [1, 5, 0, 0, 0, 1]) {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).unwrap();
            bytes.extend_from_slice(&buffer[..read]);
        }
        let answer = frame(1, 5, 1, &[if number == 0 { 0x89 } else { 0x8b }]);
        stream.write_all(&answer).unwrap();
    });
    let world = configured(address, |_| ());
    let mut client = world.client();
    assert_eq!(client.get("/").status, 204);
    assert_eq!(client.get("/").status, 304);
}

#[test]
fn an_upstream_that_speaks_something_else_is_a_bad_gateway() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, reason) in [
        (Echo::start().address, "does not speak HTTP/2"),
        (answering(b"220 mail.example ESMTP\r\n"), "does not speak HTTP/2"),
        (upstream::raw(|_, _| ()), "does not speak HTTP/2"),
        (closed, "accepted no connection"),
    ] {
        let world = configured(address, |_| ());
        let mut clients = at_once(&world, 5);
        for client in &mut clients {
            let answer = client.answer();
            assert_eq!(answer.status, 502);
            assert!(answer.body.contains(reason), "{}", answer.body);
        }
    }
}

#[test]
fn an_upstream_that_says_nothing_is_given_up() {
    let silent = upstream::raw(|_, mut stream| while read_head(&mut stream).is_some() {});
    let world = configured(silent, |config| config.timeouts.connect = Duration::from_millis(150));
    assert_eq!(world.client().get("/").status, 504);
    let (upstream, _go) = waiting(server::Builder::new());
    let world = configured(upstream.address, |config| config.timeouts.upstream = Duration::from_millis(150));
    assert_eq!(world.client().get("/").status, 504);
    world.wait_for_metric(r#"portcullis_upstream_errors_total{reason="timeout"} 1"#);
}

#[test]
fn what_one_side_gives_up_is_given_up_on_the_other() {
    let (tell, mut resets) = tokio::sync::mpsc::unbounded_channel();
    let go = tokio::sync::watch::Sender::new(false);
    let told = go.clone();
    let upstream = H2Upstream::start(move |mut exchange| {
        let (tell, mut told) = (tell.clone(), told.subscribe());
        async move {
            let mut answer = exchange.ok(false);
            answer.send_data("begun".into(), false).unwrap();
            if exchange.request.uri().path() == "/reset" {
                told.wait_for(|go| *go).await.unwrap();
                answer.send_reset(Reason::INTERNAL_ERROR);
                return;
            }
            tell.send(poll_fn(|cx| answer.poll_reset(cx)).await.unwrap()).unwrap();
        }
    });
    let world = world(&upstream);
    block_on(async {
        let client = H2Client::connect(world.address).await;
        let (answer, _) =
            client.requests.clone().ready().await.unwrap().send_request(get("http://a/reset"), true).unwrap();
        let mut answer = answer.await.unwrap();
        assert_eq!(answer.body_mut().data().await.unwrap().unwrap(), "begun");
        go.send_replace(true);
        let error = answer.body_mut().data().await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
        let (answer, mut stream) =
            client.requests.clone().ready().await.unwrap().send_request(get("http://a/"), true).unwrap();
        let mut answer = answer.await.unwrap();
        assert_eq!(answer.body_mut().data().await.unwrap().unwrap(), "begun");
        stream.send_reset(Reason::CANCEL);
        assert_eq!(resets.recv().await, Some(Reason::CANCEL));
    });
    world.wait_for_metric(r#"portcullis_upstream_errors_total{reason="body_broken"} 1"#);
    world.wait_for_metric("portcullis_requests_in_flight 0");
}

#[test]
fn a_client_that_does_not_read_holds_its_upstream_back_and_nobody_else() {
    let sent = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&sent);
    let upstream = H2Upstream::start(move |mut exchange| {
        let counter = Arc::clone(&counter);
        async move {
            if exchange.request.uri().path() != "/endless" {
                return echo(exchange).await;
            }
            let mut answer = exchange.ok(false);
            while send(&mut answer, vec![b'x'; 16 * 1024].into()).await {
                counter.fetch_add(16 * 1024, SeqCst);
            }
        }
    });
    let world = world(&upstream);
    block_on(async {
        let client = H2Client::connect(world.address).await;
        let endless = (0..20).map(|_| async {
            let requests = client.requests.clone().ready().await;
            let (answer, _) = requests.unwrap().send_request(get("http://a/endless"), true).unwrap();
            answer.await.unwrap()
        });
        let _unread = join_all(endless).await;
        // What the windows and buffers on the way hold of one stream, and not more.
        let mut before = 0;
        loop {
            let other = H2Client::connect(world.address).await.get("http://a/").await;
            assert!(other.body.starts_with("GET http://a/ on 0\n"), "{}", other.body);
            let now = sent.load(SeqCst);
            if now == before && now > 0 {
                break;
            }
            before = now;
        }
        assert!(before <= 20 * 512 * 1024, "{before}");
    });
    assert_eq!(upstream.opened(), 1);
}

#[test]
fn small_messages_that_a_client_does_not_read_end_nobody_elses_stream() {
    let upstream = H2Upstream::start(move |mut exchange| async move {
        if exchange.request.uri().path() != "/endless" {
            return echo(exchange).await;
        }
        let mut answer = exchange.ok(false);
        while send(&mut answer, message("x")).await {
            tokio::task::yield_now().await;
        }
    });
    let world = world(&upstream);
    // One that gives its streams no window beyond what all have at first.
    let mut unread = Frames::connect(world.address);
    for number in 0..20 {
        let head = frames::block(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/endless"),
        ]);
        unread.send(frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &head));
    }
    wait_until("all streams at the upstream", || upstream.requests() == 20);
    let mut other = world.client();
    for _ in 0..100 {
        let answer = other.get("/");
        assert!(answer.body.starts_with("GET http://shop.example/ on 0\n"), "{answer:?}");
    }
    drop(unread);
    assert_eq!(upstream.opened(), 1);
}

#[test]
fn an_upstream_that_does_not_read_holds_its_client_back() {
    let (upstream, go) = waiting(server::Builder::new());
    let world = world(&upstream);
    block_on(async {
        let client = H2Client::connect(world.address).await;
        let (answer, mut stream) =
            client.requests.clone().ready().await.unwrap().send_request(post("http://a/"), false).unwrap();
        let piece = || Bytes::from(vec![b'x'; 16 * 1024]);
        let mut sent = 0;
        // Until there is no room for a while.
        while tokio::time::timeout(Duration::from_millis(300), send(&mut stream, piece())).await.is_ok() {
            sent += piece().len();
            assert!(sent < 4 << 20, "nobody holds the client back");
        }
        go.send_replace(true);
        stream.send_data(Bytes::new(), true).unwrap();
        let mut answer = answer.await.unwrap();
        let mut length = 0;
        while let Some(data) = answer.body_mut().data().await {
            let data = data.unwrap();
            answer.body_mut().flow_control().release_capacity(data.len()).unwrap();
            length += data.len();
        }
        assert!(length > sent);
    });
}

#[test]
fn an_answer_that_http_1_could_be_misled_by_is_refused() {
    for lines in [&[("content-length", "5"), ("content-length", "5")][..], &[("content-length", "05")]] {
        let upstream = H2Upstream::start(move |mut exchange| async move {
            let mut response = Response::new(());
            for (name, value) in lines {
                response.headers_mut().append(*name, HeaderValue::from_static(value));
            }
            let mut answer = exchange.respond.send_response(response, false).unwrap();
            answer.send_data("hello".into(), true).unwrap_or_default();
        });
        let world = world(&upstream);
        assert_eq!(world.client().get("/").status, 502, "{lines:?}");
    }
    let upstream = H2Upstream::start(|mut exchange| async move {
        let mut answer = exchange.ok(false);
        answer.send_data("hello".into(), false).unwrap();
        let trailers = HeaderMap::from_iter([(http::header::CONTENT_LENGTH, HeaderValue::from_static("9"))]);
        answer.send_trailers(trailers).unwrap();
    });
    let world = world(&upstream);
    block_on(async {
        assert!(H2Client::connect(world.address).await.send(get("http://a/")).await.is_err());
    });
}

#[test]
fn an_answer_before_the_end_of_the_request_reaches_the_client() {
    let upstream = H2Upstream::start(|mut exchange| async move {
        // And then, as the `h2` crate does, RST_STREAM with NO_ERROR.
        exchange.answer("enough".to_owned());
    });
    let world = world(&upstream);
    block_on(async {
        let client = H2Client::connect(world.address).await;
        let request: Request<()> = post("http://a/");
        let (answer, _stream) =
            client.requests.clone().ready().await.unwrap().send_request(request, false).unwrap();
        let mut answer = answer.await.unwrap();
        assert_eq!(answer.body_mut().data().await.unwrap().unwrap(), "enough");
    });
}
