//! TLS to upstreams: who is trusted, and that it carries what plain connections do.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use portcullis_crds::bus::DesiredRoute;
use portcullis_proxy::rules::RuleSet;
use portcullis_proxy::{Upstream, UpstreamTls};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ResolvesServerCertUsingSni};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use tempfile::TempDir;

use super::certificates::{Issued, issue, issue_between};
use super::world::World;

type Secured = StreamOwned<ServerConnection, TcpStream>;

/// Shows one certificate whatever it is asked for, and tells what that was.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>, std::sync::mpsc::Sender<Option<String>>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.1.send(hello.server_name().map(str::to_owned)).unwrap_or_default();
        Some(Arc::clone(&self.0))
    }
}

/// An upstream with this certificate, which hands each connection to a function.
struct TlsUpstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    asked_for: std::sync::mpsc::Receiver<Option<String>>,
    folder: TempDir,
}

impl TlsUpstream {
    fn start(issued: &Issued, serve: impl Fn(Secured) + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), &issued.chain).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let chain = vec![CertificateDer::from(issued.der.clone())];
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let key = ring::sign::any_supported_type(&key).unwrap();
        let (tell, asked_for) = std::sync::mpsc::channel();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        config.cert_resolver = Arc::new(Shows(Arc::new(CertifiedKey::new(chain, key)), tell));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let connections = Arc::<AtomicUsize>::default();
        let (counter, serve) = (Arc::clone(&connections), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counter.fetch_add(1, SeqCst);
                let (config, serve) = (Arc::clone(&config), Arc::clone(&serve));
                std::thread::spawn(move || {
                    let session = ServerConnection::new(config).unwrap();
                    serve(StreamOwned::new(session, stream.unwrap()));
                });
            }
        });
        Self { address, connections, asked_for, folder }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A proxy before it, that asks for this name and trusts this file.
    fn world(&self, server_name: Option<&str>, ca_file: Option<PathBuf>) -> World {
        let tls = UpstreamTls { server_name: server_name.map(str::to_owned), ca_file };
        World::configured(self.address, |config| {
            let upstream: Upstream = format!("https://{}", self.address).parse().unwrap();
            config.upstream = upstream.by_tls(tls);
        })
    }
}

fn head(stream: &mut Secured) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8(head).unwrap())
}

/// Answers each request with its body, or its head if it has none.
fn echo(mut stream: Secured) {
    while let Some(head) = head(&mut stream) {
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        let body = if length > 0 { String::from_utf8(body).unwrap() } else { head };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).unwrap();
    }
}

#[test]
fn an_upstream_whose_certificate_is_for_its_name_is_spoken_to() {
    let upstream = TlsUpstream::start(&issue(&["shop.example", "127.0.0.1"]), echo);
    let world = upstream.world(Some("shop.example"), Some(upstream.ca()));
    let mut client = world.client();
    for _ in 0..20 {
        assert!(client.get("/a").body.starts_with("GET /a HTTP/1.1\r\n"));
    }
    assert_eq!(upstream.connections.load(SeqCst), 1, "it is kept, whatever tickets come on it");
    assert_eq!(upstream.asked_for.recv().unwrap().as_deref(), Some("shop.example"));
    let body = "x".repeat(4 << 20);
    let answer = client
        .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
        .answer();
    assert!(answer.body == body);
    // Without a name of its own, by the host of its URL. An address is no server name.
    let world = upstream.world(None, Some(upstream.ca()));
    assert_eq!(world.client().get("/").status, 200);
    assert_eq!(upstream.asked_for.recv().unwrap(), None);
}

#[test]
fn an_upstream_that_is_not_who_it_should_be_gets_no_request() {
    let good = TlsUpstream::start(&issue(&["shop.example"]), echo);
    let expired = TlsUpstream::start(&issue_between(&["shop.example"], 2000, 2001), echo);
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    for (upstream, name, ca, reached) in [
        (&good, Some("blog.example"), Some(good.ca()), true),
        (&good, None, Some(good.ca()), true),
        (&good, Some("shop.example"), Some(expired.ca()), true),
        // Nobody whom the system trusts has issued it, or the system trusts nobody.
        (&good, Some("shop.example"), None, true),
        (&expired, Some("shop.example"), Some(expired.ca()), true),
        (&good, Some("shop.example"), Some(empty), false),
        (&good, Some("shop.example"), Some(folder.path().join("missing.pem")), false),
        (&good, Some("no name"), Some(good.ca()), false),
    ] {
        let world = upstream.world(name, ca.clone());
        let answer = world.client().get("/");
        assert_eq!(answer.status, 502, "{name:?} {ca:?} {reached}");
        assert!(answer.body.contains("by TLS"), "{}", answer.body);
        world.wait_for_metric(r#"portcullis_upstream_errors_total{reason="tls"} 1"#);
    }
    // Nor does one that speaks no TLS.
    let plain = super::upstream::raw(|_, mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap_or_default();
    });
    let world =
        World::configured(plain, |config| config.upstream = format!("https://{plain}").parse().unwrap());
    assert_eq!(world.client().get("/").status, 502);
}

#[test]
fn an_answer_that_is_cut_off_is_not_taken_for_a_whole_one() {
    let upstream = TlsUpstream::start(&issue(&["shop.example"]), |mut stream| {
        head(&mut stream).unwrap();
        // Its end is the end of the connection, and nobody says that it is meant.
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf of it").unwrap();
        stream.flush().unwrap();
    });
    let world = upstream.world(Some("shop.example"), Some(upstream.ca()));
    let bytes = world.client().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").rest();
    assert!(!bytes.ends_with(b"0\r\n\r\n"), "{}", bytes.escape_ascii());
}

#[test]
fn surplus_that_was_decrypted_already_is_never_the_next_answer() {
    let upstream = TlsUpstream::start(&issue(&["shop.example"]), |mut stream| {
        while head(&mut stream).is_some() {
            // In one record, of which more is decrypted than is read at a time.
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nthis";
            let surplus = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nthat".repeat(300);
            if stream.write_all(&[&answer[..], &surplus].concat()).is_err() {
                return;
            }
        }
    });
    let world = upstream.world(Some("shop.example"), Some(upstream.ca()));
    let mut client = world.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").body, "this");
    }
}

#[test]
fn websocket_passes_by_tls_to_the_upstream() {
    let upstream = TlsUpstream::start(&issue(&["shop.example"]), |mut stream| {
        head(&mut stream).unwrap();
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nearly ";
        stream.write_all(answer).unwrap();
        let mut byte = [0];
        while stream.read(&mut byte).is_ok_and(|read| read == 1) {
            stream.write_all(&byte).unwrap();
        }
        stream.conn.send_close_notify();
        stream.flush().unwrap();
    });
    let world = upstream.world(Some("shop.example"), Some(upstream.ca()));
    let mut client = world.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nand late",
    );
    assert_eq!(client.head().status, 101);
    client.finish_writing();
    assert_eq!(client.rest(), b"early and late");
}

#[test]
fn a_route_says_how_its_backend_is_verified() {
    let upstream = TlsUpstream::start(&issue(&["shop.example"]), echo);
    let world = World::before(super::upstream::answering(b""));
    let route: DesiredRoute = serde_json::from_value(json!({
        "key": {"namespace": "shop", "name": "tls"},
        "hostnames": ["shop.example"],
        "rules": [{
            "backend": {"host": upstream.address.ip(), "port": upstream.address.port()},
            "tls": {"serverName": "shop.example", "caFile": upstream.ca()},
        }],
    }))
    .unwrap();
    let routes = vec![Arc::new(route)];
    world.rules.store(RuleSet { stream: "test".into(), sequence: 1, rules: Vec::new(), routes });
    assert_eq!(world.client().get("/").status, 200);
}
