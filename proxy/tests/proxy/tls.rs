//! TLS to clients: which certificate they are shown, and what becomes of it when it changes.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, Error, ProtocolVersion, SignatureScheme};
use tempfile::TempDir;

use super::certificates::{Issued, issue, issue_between, mount, tls, trusting};
use super::client::{Client, TlsSession};
use super::h2_client::{H2Client, block_on};
use super::upstream::{self, Echo, read_head};
use super::world::{World, wait_until};

fn h1(issued: &[&Issued]) -> Arc<ClientConfig> {
    trusting(issued, &[&TLS13, &TLS12], &["http/1.1"])
}

fn world(folder: &TempDir, default: Option<&str>) -> (World, Echo) {
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| {
        config.tls = Some(tls(folder.path(), default));
    });
    (world, upstream)
}

impl World {
    fn tls_client(&self, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<(Client, TlsSession)> {
        Client::connect_tls(self.tls_address.unwrap(), config, name)
    }
}

#[test]
fn a_client_is_shown_the_certificate_for_the_name_that_it_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let (shop, wild, default) =
        (issue(&["shop.example"]), issue(&["*.example", "*.blog.example"]), issue(&["default.example"]));
    shop.mount(folder.path(), "shop");
    wild.mount(folder.path(), "a-wildcard");
    default.mount(folder.path(), "default");
    let (world, _upstream) = world(&folder, Some("default"));
    let config = h1(&[&shop, &wild, &default]);
    for (name, expected) in [
        ("shop.example", &shop),
        ("SHOP.example", &shop),
        ("a.blog.example", &wild),
        ("default.example", &default),
    ] {
        let (mut client, session) = world.tls_client(&config, name).unwrap();
        assert!(session.certificate == expected.der, "{name}");
        assert_eq!(session.version, ProtocolVersion::TLSv1_3);
        assert_eq!(session.protocol.as_deref(), Some(&b"http/1.1"[..]));
        let answer = client.get("/");
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains("x-forwarded-proto: https\n"), "{}", answer.body);
    }
    // A wildcard stands for one label; who asks for anything else is shown the default, and does not believe it.
    for name in ["blog.example", "a.b.blog.example", "192.0.2.1"] {
        let error = world.tls_client(&config, name).err().unwrap().to_string();
        assert!(error.contains("not valid for name"), "{error}");
    }
    world.wait_for_metric(r#"portcullis_tls_handshakes_total{result="full"} 3"#);
    // Names have no case, so the second client had a ticket.
    world.wait_for_metric(r#"portcullis_tls_handshakes_total{result="resumed"} 1"#);
    world.wait_for_metric(r#"portcullis_tls_handshakes_total{result="failed"} 3"#);
}

#[test]
fn without_a_default_a_client_that_names_nobody_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let shop = issue(&["shop.example", "192.0.2.1"]);
    shop.mount(folder.path(), "shop");
    let (world, _upstream) = world(&folder, None);
    let config = h1(&[&shop]);
    // Addresses are not sent as server names (RFC 6066 section 3).
    for name in ["other.example", "192.0.2.1"] {
        let error = world.tls_client(&config, name).err().unwrap().to_string();
        assert!(error.contains("AccessDenied"), "{error}");
    }
    assert!(world.tls_client(&config, "shop.example").is_ok());
    world.wait_for_metric(r#"portcullis_tls_handshakes_total{result="no_certificate"} 2"#);
}

/// Remembers the staple, and believes everything.
#[derive(Debug, Default)]
struct SeesStaple(Mutex<Vec<u8>>);

impl ServerCertVerifier for SeesStaple {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        staple: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.0.lock().unwrap() = staple.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[test]
fn an_ocsp_answer_beside_the_certificate_is_stapled() {
    let folder = tempfile::tempdir().unwrap();
    issue(&["shop.example"]).mount(folder.path(), "shop");
    let (world, _upstream) = world(&folder, None);
    let seen = Arc::<SeesStaple>::default();
    let mut config = (*h1(&[])).clone();
    config.dangerous().set_certificate_verifier(seen.clone());
    config.resumption = Resumption::disabled();
    let config = Arc::new(config);
    let shown = || {
        world.tls_client(&config, "shop.example").unwrap();
        seen.0.lock().unwrap().clone()
    };
    assert_eq!(shown(), b"");
    fs::write(folder.path().join("shop/ocsp.der"), "an answer").unwrap();
    wait_until("the staple", || shown() == b"an answer");
}

#[test]
fn tls_1_2_is_spoken_and_sessions_are_resumed_whichever_worker_they_were_begun_with() {
    let folder = tempfile::tempdir().unwrap();
    let shop = issue(&["shop.example"]);
    shop.mount(folder.path(), "shop");
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| {
        config.workers = 2;
        config.tls = Some(tls(folder.path(), None));
    });
    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let config = trusting(&[&shop], &[version], &[]);
        for number in 0..8 {
            let (mut client, session) = world.tls_client(&config, "shop.example").unwrap();
            assert_eq!(client.get("/").status, 200);
            assert_eq!((session.version, session.is_resumed), (expected, number > 0));
        }
    }
    world.wait_for_metric(r#"portcullis_tls_handshakes_total{result="resumed"} 14"#);
}

#[test]
fn a_certificate_that_cannot_be_served_is_counted_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (shop, other) = (issue(&["shop.example"]), issue(&["other.example"]));
    shop.mount(folder.path(), "shop");
    issue_between(&["old.example"], 2000, 2001).mount(folder.path(), "expired");
    issue_between(&["new.example"], 2090, 2091).mount(folder.path(), "not-yet");
    issue(&[]).mount(folder.path(), "nameless");
    mount(&folder.path().join("mismatched"), &other.chain, &shop.key);
    mount(&folder.path().join("keyless"), &other.chain, "");
    mount(&folder.path().join("broken"), "what is no PEM", &other.key);
    fs::create_dir(folder.path().join("empty")).unwrap();
    let (world, _upstream) = world(&folder, None);
    world.wait_for_metric("portcullis_tls_certificates_rejected 7");
    assert!(world.metrics().contains("not_after_timestamp_seconds{certificate=\"shop\"} 4102444801"));
    let config = h1(&[&shop, &other]);
    assert_eq!(world.tls_client(&config, "shop.example").unwrap().0.get("/").status, 200);
    assert!(world.tls_client(&config, "other.example").is_err());
    // Mended while the proxy runs.
    other.mount(folder.path(), "keyless");
    wait_until("the mended certificate", || world.tls_client(&config, "other.example").is_ok());
    world.wait_for_metric("portcullis_tls_certificates_rejected 6");
    // Broken while the proxy runs: the version before goes on.
    mount(&folder.path().join("keyless"), "", "");
    world.wait_for_metric("portcullis_tls_certificates_rejected 7");
    assert!(world.tls_client(&config, "other.example").is_ok());
    // Taken away.
    fs::remove_dir_all(folder.path().join("keyless")).unwrap();
    wait_until("the end of a certificate", || world.tls_client(&config, "other.example").is_err());
    assert!(world.tls_client(&config, "shop.example").is_ok());
}

#[test]
fn a_reload_under_load_loses_no_request_and_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let versions: Vec<Issued> = (0..3).map(|_| issue(&["shop.example"])).collect();
    versions[0].mount(folder.path(), "shop");
    let (world, _upstream) = world(&folder, None);
    let config = h1(&versions.iter().collect::<Vec<_>>());
    let stop = Arc::<AtomicBool>::default();
    let answered = Arc::<AtomicUsize>::default();
    let address = world.tls_address.unwrap();
    let clients = [true, false].map(|keeps| {
        let (config, stop, answered) = (Arc::clone(&config), Arc::clone(&stop), Arc::clone(&answered));
        std::thread::spawn(move || {
            let connect = || Client::connect_tls(address, &config, "shop.example").unwrap().0;
            let mut client = connect();
            while !stop.load(SeqCst) {
                assert_eq!(client.get("/").status, 200);
                answered.fetch_add(1, SeqCst);
                if !keeps {
                    client = connect();
                }
            }
        })
    });
    let h2 = trusting(&versions.iter().collect::<Vec<_>>(), &[&TLS13], &["h2"]);
    let streams = {
        let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
        std::thread::spawn(move || {
            block_on(async {
                let client = H2Client::connect_tls(address, &h2, "shop.example").await;
                while !stop.load(SeqCst) {
                    assert_eq!(client.get("https://shop.example/").await.status, 200);
                    answered.fetch_add(1, SeqCst);
                }
            });
        })
    };
    // Without a ticket of before: resumed sessions are shown no certificate.
    let shown = || {
        let fresh = h1(&versions.iter().collect::<Vec<_>>());
        world.tls_client(&fresh, "shop.example").unwrap().1.certificate
    };
    for version in [&versions[1], &versions[2], &versions[0]] {
        version.mount(folder.path(), "shop");
        wait_until("the new version", || shown() == version.der);
        let before = answered.load(SeqCst);
        wait_until("answers", || answered.load(SeqCst) > before + 20);
    }
    stop.store(true, SeqCst);
    clients.into_iter().chain([streams]).for_each(|client| client.join().unwrap());
}

#[test]
fn a_handshake_that_does_not_come_to_its_end_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let shop = issue(&["shop.example"]);
    shop.mount(folder.path(), "shop");
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| {
        config.tls = Some(tls(folder.path(), None));
        config.timeouts.handshake = Duration::from_millis(200);
        config.limits.handshakes = 1;
    });
    let address = world.tls_address.unwrap();
    // Silence, and a record that does not end. A third is one too many at once.
    for bytes in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut slow = TcpStream::connect(address).unwrap();
        slow.write_all(bytes).unwrap();
        Client::from(slow).assert_closed();
    }
    world.wait_for_metric(r#"portcullis_tls_handshakes_total{result="timeout"} 2"#);
    // What is no TLS at all.
    let mut plain = Client::connect(address);
    plain.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").rest();
    world.wait_for_metric(r#"portcullis_tls_handshakes_total{result="failed"} 1"#);
    let waiting = TcpStream::connect(address).unwrap();
    wait_until("a handshake to be shed", || {
        let _ = Client::connect(address).rest();
        world.metric(r#"portcullis_shed_total{reason="handshakes"}"#) > 0
    });
    drop(waiting);
    wait_until("room", || world.tls_client(&h1(&[&shop]), "shop.example").is_ok());
}

#[test]
fn a_large_answer_comes_whole_to_a_client_that_reads_late() {
    const SIZE: usize = 8 << 20;
    let folder = tempfile::tempdir().unwrap();
    let shop = issue(&["shop.example"]);
    shop.mount(folder.path(), "shop");
    let upstream = upstream::raw(|_, mut stream| {
        while read_head(&mut stream).is_some() {
            stream
                .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes())
                .unwrap();
            stream.write_all(&vec![b'x'; SIZE]).unwrap();
        }
    });
    let world = World::configured(upstream, |config| config.tls = Some(tls(folder.path(), None)));
    let (mut client, _) = world.tls_client(&h1(&[&shop]), "shop.example").unwrap();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        world.wait_for_metric("portcullis_requests_in_flight 1");
        assert_eq!(client.answer().body.len(), SIZE);
    }
}

#[test]
fn an_absolute_target_is_of_https() {
    let folder = tempfile::tempdir().unwrap();
    let shop = issue(&["shop.example"]);
    shop.mount(folder.path(), "shop");
    let (world, _upstream) = world(&folder, None);
    for (target, status) in [
        ("https://shop.example/", 200),
        ("https://shop.example:443/", 200),
        ("https://shop.example:80/", 400),
        ("http://shop.example/", 400),
    ] {
        let (mut client, _) = world.tls_client(&h1(&[&shop]), "shop.example").unwrap();
        assert_eq!(client.get(target).status, status, "{target}");
    }
}
