//! The access log, as whoever reads it sees it.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_crds::wasm_rule::Mode;
use portcullis_proxy::{AccessLogConfig, AccessLogOutput, ProxyConfig};
use rustls::version::TLS13;
use serde_json::{Value, json};

use super::certificates::{issue, tls, trusting};
use super::h2_client::{H2Client, block_on, post};
use super::routes::{route, serve};
use super::upstream::{self, Echo, answering, read_head};
use super::world::{PATIENCE, World, always, wait_until};

/// What was written so far.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn config(&self) -> AccessLogConfig {
        AccessLogConfig { with_query: false, output: AccessLogOutput::new(self.clone()) }
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The lines, once there are so many.
    fn lines(&self, count: usize) -> Vec<Value> {
        wait_until(&format!("{count} lines"), || self.text().lines().count() >= count);
        let lines: Vec<_> = self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), count, "{lines:?}");
        lines
    }
}

fn logging(upstream: std::net::SocketAddr, change: impl FnOnce(&mut ProxyConfig)) -> (World, Written) {
    let written = Written::default();
    let world = World::configured(upstream, |config| {
        config.access_log = Some(written.config());
        change(config);
    });
    (world, written)
}

/// The example of the documentation, but for what differs from one time to the next.
#[test]
fn the_example_of_the_documentation_is_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let shop = issue(&["shop.example"]);
    shop.mount(folder.path(), "shop");
    let backend = Echo::start();
    let (world, written) = logging(backend.address, |config| {
        config.tls = Some(tls(folder.path(), None));
        config.trust_forwarded_from = "127.0.0.0/8".parse().unwrap();
    });
    let mut monitored = always("bad-bot-blocker", 1);
    monitored.mode = Mode::Monitor;
    let routes = vec![route("shop", &["shop.example"], &[("/", &backend)], &json!([]))];
    serve(&world, vec![monitored], routes);
    let body = block_on(async {
        let config = trusting(&[&shop], &[&TLS13], &["h2"]);
        let client = H2Client::connect_tls(world.tls_address.unwrap(), &config, "shop.example").await;
        let mut request = post("https://shop.example/search?q=secret");
        request.headers_mut().insert("user-agent", "sqlmap/1.8".parse().unwrap());
        request.headers_mut().insert("x-forwarded-for", "203.0.113.7".parse().unwrap());
        request.headers_mut().insert("content-length", "5".parse().unwrap());
        let answer = client.send_with(request, &["q=bag"], None).await.unwrap();
        assert_eq!(answer.status, 200);
        answer.body
    });
    written.lines(1);
    let line = written.text();
    let page = include_str!("../../../docs/reference/access-log.md");
    let example = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let mut example: Value = serde_json::from_str(example).unwrap();
    let mut found: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(found["http.response.body.size"], body.len());
    assert_eq!(found["portcullis.upstream"], format!("http://{}", backend.address));
    assert_eq!(found["portcullis.event.id"].as_str().unwrap().len(), 26);
    assert!(found["http.server.request.duration"].as_f64().unwrap() > 0.0);
    for member in [
        "timestamp",
        "http.response.body.size",
        "http.server.request.duration",
        "portcullis.upstream",
        "portcullis.event.id",
    ] {
        assert!(found.as_object_mut().unwrap().remove(member).is_some(), "{member}");
        assert!(example.as_object_mut().unwrap().remove(member).is_some(), "{member}");
    }
    assert_eq!(found, example);
}

#[test]
fn every_request_has_a_line_of_its_own_whatever_became_of_it() {
    let backend = Echo::start();
    let (world, written) = logging(backend.address, |_| ());
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = json!({"host": dead.ip(), "port": dead.port()});
    let gone = json!({
        "key": {"namespace": "shop", "name": "gone"},
        "hostnames": ["gone.example"],
        "rules": [{"matches": [{"path": {"value": "/a"}}], "backend": nobody}],
    });
    let routes = vec![
        route("shop", &["shop.example"], &[("/", &backend)], &json!([])),
        route("blog", &["blog.example"], &[("/", &backend)], &json!([])),
        Arc::new(serde_json::from_value(gone).unwrap()),
    ];
    serve(&world, vec![always("bots", 1)], routes);
    for (request, status) in [
        ("GET /a HTTP/1.1\r\nHost: blog.example:8080\r\n\r\n", 200),
        ("GET /b HTTP/1.1\r\nHost: shop.example\r\n\r\n", 403),
        ("GET /c HTTP/1.1\r\nHost: gone.example\r\n\r\n", 404),
        ("GET /%zz HTTP/1.1\r\nHost: blog.example\r\n\r\n", 400),
        ("POST /d HTTP/1.0\r\nHost: blog.example\r\nContent-Length: 3\r\n\r\nabc", 200),
        ("POST /e HTTP/1.1\r\nHost: blog.example\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
    ] {
        assert_eq!(world.client().send(request).answer().status, status, "{request}");
    }
    let mut rule_free = world.client();
    world.enforce(Vec::new());
    assert_eq!(rule_free.send("HEAD /f HTTP/1.1\r\nHost: a\r\n\r\n").head().status, 200);
    let lines = written.lines(7);
    let seen: Vec<_> = lines
        .iter()
        .map(|line| {
            [
                &line["url.path"],
                &line["http.response.status_code"],
                &line["portcullis.route"],
                &line["portcullis.decision"],
                &line["error.type"],
                &line["http.request.body.size"],
                &line["network.protocol.version"],
            ]
            .map(Value::clone)
        })
        .collect();
    let expected = [
        json!(["/a", 200, "blog/blog.example", "allow", null, 0, "1.1"]),
        json!(["/b", 403, "shop/shop.example", "block", "blocked", 0, "1.1"]),
        json!(["/c", 404, null, null, "no_route", 0, "1.1"]),
        json!([null, 400, null, null, "escape", null, "1.1"]),
        json!(["/d", 200, "blog/blog.example", "allow", null, 3, "1.0"]),
        json!(["/e", 400, "blog/blog.example", "allow", "chunk_size", null, "1.1"]),
        json!(["/f", 200, null, "allow", null, 0, "1.1"]),
    ];
    assert_eq!(seen.into_iter().map(|line| json!(line)).collect::<Vec<_>>(), expected);
    assert_eq!(lines[0]["server.address"], "blog.example");
    assert_eq!(lines[1]["portcullis.event.id"].as_str().unwrap().len(), 26);
    assert_eq!(lines[1].get("portcullis.upstream"), None);
    assert_eq!(lines[6]["http.response.body.size"], 0);
}

#[test]
fn an_answer_that_nobody_gets_is_told_as_such() {
    // No answer; an answer that breaks off.
    for (answer, error, status) in [
        (&b""[..], "client_gone", Value::Null),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "broke_off", json!(200)),
    ] {
        let (told, begun) = channel();
        let told = Mutex::new(told);
        let upstream = upstream::raw(move |_, mut stream| {
            read_head(&mut stream).unwrap();
            stream.write_all(answer).unwrap();
            told.lock().unwrap().send(()).unwrap();
            if answer.is_empty() {
                // Until the proxy closes.
                assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
            }
        });
        let (world, written) = logging(upstream, |_| ());
        let mut client = world.client();
        client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
        begun.recv_timeout(PATIENCE).unwrap();
        if !answer.is_empty() {
            // As much of it as there was before it was known to break off: perhaps nothing.
            client.rest();
        }
        drop(client);
        let line = &written.lines(1)[0];
        assert_eq!((&line["error.type"], &line["http.response.status_code"]), (&json!(error), &status));
    }
}

#[test]
fn a_query_is_written_only_if_it_was_asked_for() {
    let upstream = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    for with_query in [false, true] {
        let written = Written::default();
        let world = World::configured(upstream, |config| {
            config.access_log = Some(AccessLogConfig { with_query, ..written.config() });
        });
        world.client().get("/a?token=secret");
        let line = &written.lines(1)[0];
        assert_eq!(line.get("url.query").is_some(), with_query);
        assert_eq!(written.text().contains("secret"), with_query);
    }
}

#[test]
fn the_size_of_a_body_that_comes_in_chunks_is_known_once_a_rule_has_read_it() {
    let upstream = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    for (reads, size) in [(None, Value::Null), (Some(100), json!(5))] {
        let (world, written) = logging(upstream, |_| ());
        let mut rule = always("r", 0);
        rule.body_bytes = reads;
        world.enforce(vec![rule]);
        let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n";
        assert_eq!(world.client().send(request).answer().status, 200);
        assert_eq!(written.lines(1)[0]["http.request.body.size"], size);
    }
}

/// Writes nothing until it is let go.
struct Stuck(Option<Receiver<()>>, Written);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(go) = self.0.take() {
            go.recv_timeout(3 * PATIENCE).unwrap();
        }
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_is_too_slow_keeps_no_client_waiting_and_what_it_misses_is_counted() {
    let (let_go, go) = channel();
    let written = Written::default();
    let output = AccessLogOutput::new(Stuck(Some(go), written.clone()));
    let upstream = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let world = World::configured(upstream, |config| {
        config.access_log = Some(AccessLogConfig { with_query: false, output });
    });
    let dropped = || world.metric("portcullis_access_log_dropped_total");
    let mut client = world.client();
    let mut requests = 0;
    while dropped() == 0 {
        // The metrics are rendered as a whole each time they are asked for.
        for _ in 0..500 {
            assert_eq!(client.get("/").status, 200);
            requests += 1;
        }
        assert!(requests < 20_000, "the log has room for {requests} lines");
    }
    let_go.send(()).unwrap();
    wait_until("what there was room for", || written.text().lines().count() as u64 + dropped() == requests);
    assert_eq!(client.get("/").status, 200);
    wait_until("the next line", || written.text().lines().count() as u64 + dropped() == requests + 1);
}

#[test]
fn what_is_left_is_written_before_the_proxy_has_ended() {
    let upstream = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let (mut world, written) = logging(upstream, |config| config.drain.timeout = Duration::from_secs(20));
    for _ in 0..100 {
        world.client().get("/");
    }
    world.drain.start();
    assert_eq!(world.running.take().unwrap().join(), 0);
    assert_eq!(written.text().lines().count(), 100);
}

/// A reader that has gone.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_is_gone_is_counted_and_requests_go_on() {
    let upstream = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let world = World::configured(upstream, |config| {
        config.access_log = Some(AccessLogConfig { with_query: false, output: AccessLogOutput::new(Gone) });
    });
    for _ in 0..3 {
        assert_eq!(world.client().get("/").status, 200);
    }
    world.wait_for_metric("portcullis_access_log_dropped_total 3");
}
