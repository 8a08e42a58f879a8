//! WebSocket through the proxy: with a client and a server that are not ours, and byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use super::certificates::{issue, tls, trusting};
use super::h2_client::block_on;
use super::upstream::{self, read_head};
use super::world::{PATIENCE, World, blocks_tilde, wait_until};

/// Key and answer of RFC 6455 section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// A close frame of a server with status 1012.
const SERVICE_RESTART: &[u8] = &[0x88, 2, 0x03, 0xf4];

/// A handshake with these further lines.
fn handshake(lines: &str) -> String {
    format!(
        "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{lines}\r\n"
    )
}

/// An upstream that sends every message back, and tells what it was closed with.
struct EchoServer {
    address: SocketAddr,
    closed: std::sync::mpsc::Receiver<Option<CloseFrame>>,
}

impl EchoServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, closed) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let tell = tell.clone();
                    tokio::spawn(async move {
                        let mut socket = accept_async(stream).await.unwrap();
                        while let Some(Ok(message)) = socket.next().await {
                            match message {
                                Message::Text(_) | Message::Binary(_) => socket.send(message).await.unwrap(),
                                Message::Close(frame) => tell.send(frame).unwrap_or_default(),
                                _ => (),
                            }
                        }
                    });
                }
            });
        });
        Self { address, closed }
    }
}

async fn connect(address: SocketAddr) -> WebSocketStream<tokio::net::TcpStream> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (socket, response) = client_async("ws://shop.example/chat", stream).await.unwrap();
    assert_eq!(response.status(), 101);
    socket
}

fn fragment(opcode: Data, text: &'static str, is_final: bool) -> Message {
    Message::Frame(Frame::message(text, OpCode::Data(opcode), is_final))
}

#[test]
fn messages_of_all_kinds_pass_both_ways() {
    let server = EchoServer::start();
    let world = World::before(server.address);
    block_on(async {
        let mut socket = connect(world.address).await;
        for message in
            [Message::text("gr\u{fc}\u{df}e"), Message::binary(vec![0, 0xff, 7]), Message::text("")]
        {
            socket.send(message.clone()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), message);
        }
        socket.send(fragment(Data::Text, "in ", false)).await.unwrap();
        socket.send(Message::Ping("between".into())).await.unwrap();
        socket.send(fragment(Data::Continue, "two ", false)).await.unwrap();
        socket.send(fragment(Data::Continue, "pieces", true)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong("between".into()));
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("in two pieces"));
        let goodbye = CloseFrame { code: CloseCode::Library(4001), reason: "enough".into() };
        socket.close(Some(goodbye.clone())).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Close(Some(goodbye.clone())));
        assert!(socket.next().await.is_none());
        assert_eq!(server.closed.recv_timeout(PATIENCE).unwrap(), Some(goodbye));
    });
    world.wait_for_metric("portcullis_tunnels 0");
    world.wait_for_metric("portcullis_connections 0");
}

#[test]
fn a_message_of_16_mib_passes_both_ways_by_tls_too() {
    let server = EchoServer::start();
    let folder = tempfile::tempdir().unwrap();
    let shop = issue(&["shop.example"]);
    shop.mount(folder.path(), "shop");
    let world = World::configured(server.address, |config| config.tls = Some(tls(folder.path(), None)));
    let large =
        Message::binary((0..16 << 20).map(|i: u32| i.to_le_bytes()[i as usize % 3]).collect::<Vec<_>>());
    block_on(async {
        let mut plain = connect(world.address).await;
        let stream = tokio::net::TcpStream::connect(world.tls_address.unwrap()).await.unwrap();
        let connector = TlsConnector::from(trusting(&[&shop], &[&TLS13], &["http/1.1"]));
        let name = ServerName::try_from("shop.example").unwrap();
        let stream = connector.connect(name, stream).await.unwrap();
        let (mut secured, _) = client_async("ws://shop.example/chat", stream).await.unwrap();
        plain.send(large.clone()).await.unwrap();
        assert!(plain.next().await.unwrap().unwrap() == large);
        secured.send(large.clone()).await.unwrap();
        assert!(secured.next().await.unwrap().unwrap() == large);
    });
}

#[test]
fn tunnels_count_as_connections_and_not_as_requests() {
    let server = EchoServer::start();
    let world = World::configured(server.address, |config| {
        config.limits.connections = 20;
        config.limits.requests = 2;
    });
    block_on(async {
        let mut sockets = Vec::new();
        for number in 0..20 {
            let mut socket = connect(world.address).await;
            socket.send(Message::text(number.to_string())).await.unwrap();
            sockets.push(socket);
        }
        for (number, socket) in sockets.iter_mut().enumerate() {
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(number.to_string()));
        }
        world.wait_for_metric("portcullis_tunnels 20");
        world.wait_for_metric("portcullis_requests_in_flight 0");
        let one_too_many = tokio::net::TcpStream::connect(world.address).await.unwrap();
        assert!(client_async("ws://shop.example/chat", one_too_many).await.is_err());
    });
}

#[test]
fn a_handshake_is_forwarded_with_its_upgrade_and_nothing_else_of_the_connection() {
    let (tell, heads) = std::sync::mpsc::channel();
    let world = World::before(upstream::raw(move |_, mut stream| {
        tell.send(read_head(&mut stream).unwrap()).unwrap();
        stream.write_all(SWITCHING.as_bytes()).unwrap();
    }));
    let mut client = world.client();
    client.send(handshake(
        "TE: trailers\r\nKeep-Alive: 5\r\nOrigin: http://a\r\nSec-WebSocket-Protocol: chat\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\n",
    ));
    let answer = client.head();
    assert_eq!(answer.status, 101);
    for (name, value) in [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ] {
        assert_eq!(answer.header(name), Some(value));
    }
    client.assert_closed();
    let head = heads.recv_timeout(PATIENCE).unwrap();
    let lines: Vec<&str> = head.trim_end().split("\r\n").collect();
    assert_eq!(
        lines,
        [
            "GET /chat HTTP/1.1",
            "Host: a",
            "Sec-WebSocket-Version: 13",
            &format!("Sec-WebSocket-Key: {KEY}"),
            "Origin: http://a",
            "Sec-WebSocket-Protocol: chat",
            "Sec-WebSocket-Extensions: permessage-deflate",
            "X-Forwarded-For: 127.0.0.1",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: a",
            "Connection: Upgrade",
            "Upgrade: websocket",
        ]
    );
}

#[test]
fn a_handshake_is_judged_like_any_request() {
    let server = EchoServer::start();
    let world = World::before(server.address);
    world.enforce(vec![blocks_tilde("tilde")]);
    let mut client = world.client();
    assert_eq!(client.send(handshake("X: ~\r\n")).answer().status, 403);
    assert_eq!(client.send(handshake("")).head().status, 101);
}

#[test]
fn what_either_side_sends_behind_its_head_is_not_lost() {
    let (tell, early) = std::sync::mpsc::channel();
    let world = World::before(upstream::raw(move |_, mut stream| {
        read_head(&mut stream).unwrap();
        stream.write_all(format!("{SWITCHING}early answer").as_bytes()).unwrap();
        let mut read = [0; 20_000];
        stream.read_exact(&mut read).unwrap();
        tell.send(read).unwrap();
    }));
    // More than is read while the upstream is waited for.
    let bytes: Vec<u8> = (0..20_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    let mut client = world.client();
    client.send([handshake("").as_bytes(), &bytes].concat());
    assert_eq!(client.head().status, 101);
    assert_eq!(client.rest(), b"early answer");
    assert!(early.recv_timeout(PATIENCE).unwrap()[..] == bytes);
}

#[test]
fn what_is_sent_behind_a_refused_handshake_is_never_a_request() {
    let requests = Arc::<AtomicUsize>::default();
    let seen = Arc::clone(&requests);
    let world = World::before(upstream::raw(move |_, mut stream| {
        while read_head(&mut stream).is_some() {
            seen.fetch_add(1, SeqCst);
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").unwrap();
        }
    }));
    let mut client = world.client();
    client.send(handshake("") + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("connection")), (403, Some("close")));
    client.assert_closed();
    assert_eq!(requests.load(SeqCst), 1);
}

#[test]
fn after_a_refused_handshake_the_clients_connection_goes_on_and_the_upstreams_does_not() {
    let world = World::before(upstream::raw(|number, mut stream| {
        while read_head(&mut stream).is_some() {
            let body = format!("on {number}");
            let answer =
                format!("HTTP/1.1 426 Upgrade Required\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).unwrap();
        }
    }));
    let mut client = world.client();
    assert_eq!(client.get("/").body, "on 0");
    // Not on the connection that waits for a request, and not back to the others.
    let answer = client.send(handshake("")).answer();
    assert_eq!((answer.status, &*answer.body, answer.header("connection")), (426, "on 1", None));
    assert_eq!(client.get("/").body, "on 0");
    assert_eq!(client.send(handshake("")).answer().body, "on 2");
}

#[test]
fn a_101_that_is_not_the_answer_to_the_handshake_is_a_bad_gateway() {
    let answers: Vec<String> = [
        ("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("Sec-WebSocket-Accept", "X"),
        ("Upgrade: websocket", "Upgrade: h2c"),
        ("Connection: Upgrade", "Connection: keep-alive"),
        ("Upgrade: websocket", "Upgrade: websocket\r\nContent-Length: 2"),
        ("Upgrade: websocket", "Upgrade: websocket\r\nTransfer-Encoding: chunked"),
        ("HTTP/1.1", "HTTP/1.0"),
    ]
    .map(|(from, to)| SWITCHING.replacen(from, to, 1))
    .into();
    for bad in answers {
        let answer = bad.clone();
        let world = World::before(upstream::raw(move |_, mut stream| {
            read_head(&mut stream).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }));
        let answer = world.client().send(handshake("")).answer();
        assert_eq!(answer.status, 502, "{bad}");
        world.wait_for_metric(r#"portcullis_upstream_errors_total{reason="bad_response"} 1"#);
    }
}

#[test]
fn a_version_of_websocket_that_is_not_served_is_told_which_is() {
    let world = World::before(upstream::answering(b""));
    let mut client = world.client();
    let answer = client.send(handshake("").replace("Version: 13", "Version: 8")).answer();
    assert_eq!((answer.status, answer.header("sec-websocket-version")), (426, Some("13")));
    assert_eq!(
        (answer.header("upgrade"), answer.header("connection")),
        (Some("websocket"), Some("close, Upgrade"))
    );
    client.assert_closed();
}

#[test]
fn a_side_that_has_ended_can_still_be_told_the_rest() {
    let world = World::before(upstream::raw(|_, mut stream| {
        read_head(&mut stream).unwrap();
        stream.write_all(SWITCHING.as_bytes()).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(b"you said: ").unwrap();
        stream.write_all(&all).unwrap();
    }));
    let mut client = world.client();
    client.send(handshake("")).head();
    client.send("that was all");
    client.finish_writing();
    assert_eq!(client.rest(), b"you said: that was all");
    world.wait_for_metric("portcullis_connections 0");
}

#[test]
fn a_side_that_goes_away_takes_the_other_with_it() {
    let (tell, gone) = std::sync::mpsc::channel();
    let world = World::before(upstream::raw(move |_, mut stream| {
        read_head(&mut stream).unwrap();
        stream.write_all(SWITCHING.as_bytes()).unwrap();
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1);
        if byte == [b'x'] {
            // The upstream breaks off.
            return;
        }
        tell.send(stream.read(&mut byte).unwrap_or(0)).unwrap();
    }));
    let mut client = world.client();
    client.send(handshake("")).head();
    client.send("x").assert_closed();
    drop(client);
    let mut client = world.client();
    client.send(handshake("")).head();
    client.send("y");
    drop(client);
    assert_eq!(gone.recv_timeout(PATIENCE).unwrap(), 0);
    world.wait_for_metric("portcullis_tunnels 0");
}

#[test]
fn an_upstream_waits_for_a_client_that_does_not_read() {
    static PIECE: [u8; 64 * 1024] = [0x5a; 64 * 1024];
    let (tell, written) = std::sync::mpsc::channel();
    let world = World::before(upstream::raw(move |_, mut stream| {
        read_head(&mut stream).unwrap();
        stream.write_all(SWITCHING.as_bytes()).unwrap();
        // Until nothing can be written for a while.
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut total = 0;
        let error = loop {
            match stream.write(&PIECE) {
                Ok(count) => total += count,
                Err(error) => break error,
            }
            assert!(total < 256 << 20, "nobody holds the upstream back");
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        tell.send(total).unwrap();
        drop(stream);
    }));
    let mut client = world.client();
    client.send(handshake("")).head();
    let total = written.recv_timeout(PATIENCE).unwrap();
    assert!(client.rest().len() == total, "all that was written arrives");
}

#[test]
fn a_tunnel_without_a_byte_either_way_is_closed() {
    let server = EchoServer::start();
    let world = World::configured(server.address, |config| {
        config.timeouts.tunnel_idle = Duration::from_millis(150);
    });
    let mut client = world.client();
    assert_eq!(client.send(handshake("")).head().status, 101);
    client.assert_closed();
    world.wait_for_metric("portcullis_tunnels 0");
}

#[test]
fn at_the_end_of_the_proxy_both_sides_hear_of_the_restart() {
    let server = EchoServer::start();
    let mut world = World::before(server.address);
    block_on(async {
        let mut socket = connect(world.address).await;
        socket.send(Message::text("a")).await.unwrap();
        socket.next().await.unwrap().unwrap();
        world.drain.start();
        let Message::Close(Some(frame)) = socket.next().await.unwrap().unwrap() else {
            panic!("no close frame")
        };
        assert_eq!(frame.code, CloseCode::Restart);
        // The client's answer to it is sent, and passed on.
        assert!(socket.next().await.is_none());
    });
    assert_eq!(server.closed.recv_timeout(PATIENCE).unwrap().unwrap().code, CloseCode::Restart);
    assert_eq!(world.running.take().unwrap().join(), 0);
}

/// What a client gets of an upstream that has sent `before` when the proxy begins to end, and then sends `after`.
fn received_at_the_end(before: &'static [u8], after: &'static [u8]) -> Vec<u8> {
    let (go, may_go_on) = std::sync::mpsc::channel::<()>();
    let may_go_on = std::sync::Mutex::new(may_go_on);
    let mut world = World::before(upstream::raw(move |_, mut stream| {
        if !read_head(&mut stream).unwrap().starts_with("GET /chat") {
            return;
        }
        stream.write_all(SWITCHING.as_bytes()).unwrap();
        stream.write_all(before).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        stream.write_all(after).unwrap();
        // Until the proxy has closed.
        stream.read_to_end(&mut Vec::new()).unwrap_or_default();
    }));
    let mut client = world.client();
    client.send(handshake("")).head();
    client.send("x");
    let mut idle = world.client();
    assert_eq!(idle.get("/").status, 502);
    world.drain.start();
    // Then the tunnel has heard of the end too.
    idle.assert_closed();
    go.send(()).unwrap();
    let received = client.rest();
    assert_eq!(world.running.take().unwrap().join(), 0);
    received
}

#[test]
fn the_end_is_told_between_two_frames_of_the_upstream() {
    // Behind the rest of a frame that had begun, and before the next one.
    let received = received_at_the_end(b"\x01\x05he", b"llo\x80\x01!\x81\x01x");
    assert_eq!(received, [b"\x01\x05hello", SERVICE_RESTART].concat());
    // An upstream that has said goodbye is not interrupted.
    assert_eq!(received_at_the_end(b"\x88\x02\x03", b"\xe8"), b"\x88\x02\x03\xe8");
}

#[test]
fn a_frame_that_never_ends_does_not_keep_the_proxy() {
    let mut world = World::configured(
        upstream::raw(|_, mut stream| {
            read_head(&mut stream).unwrap();
            stream.write_all(format!("{SWITCHING}\u{1}\u{7}he").as_bytes()).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap_or_default();
        }),
        |config| config.drain.timeout = Duration::from_millis(400),
    );
    let socket = TcpStream::connect(world.address).unwrap();
    let mut client = super::client::Client::from(socket.try_clone().unwrap());
    client.send(handshake("")).head();
    wait_until("the tunnel", || world.metric("portcullis_tunnels") == 1);
    world.drain.start();
    assert_eq!(client.rest(), b"\x01\x07he");
    socket.shutdown(Shutdown::Both).unwrap_or_default();
    assert_eq!(world.running.take().unwrap().join(), 0);
}
