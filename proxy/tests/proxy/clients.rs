//! Who the client is, with proxies before us: the PROXY protocol, and what they say in headers.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use rustls::version::TLS13;

use super::certificates::{issue, tls, trusting};
use super::client::Client;
use super::h2_client::{H2Client, block_on, get};
use super::upstream::Echo;
use super::world::{World, wait_until};

const V1: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 50000 443\r\n";
const V1_UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
/// The same client in version 2, and one more element that is skipped.
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x13\xcb\x00\x71\x07\xc6\x33\x64\x01\xc3\x50\x01\xbb\x04\x00\x04abcd";
/// `2001:db8::7`.
const V2_IPV6: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\xc3\x50\x01\xbb";
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";

/// A proxy whose peers on this machine begin with a header.
fn behind_a_proxy() -> (World, Echo) {
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| {
        config.proxy_protocol_from = "127.0.0.0/8".parse().unwrap();
    });
    (world, upstream)
}

/// A proxy that believes what peers on this machine say in headers.
fn believing() -> (World, Echo) {
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| {
        config.trust_forwarded_from = "127.0.0.0/8,10.0.0.0/8".parse().unwrap();
    });
    (world, upstream)
}

fn missing(world: &World, reason: &str) -> u64 {
    world.metric(&format!("portcullis_proxy_headers_missing_total{{reason=\"{reason}\"}}"))
}

#[test]
fn a_listed_peer_says_whose_the_connection_is() {
    let (world, _upstream) = behind_a_proxy();
    for (header, client) in [
        (V1, "203.0.113.7"),
        (V1_UNKNOWN, "127.0.0.1"),
        (V2, "203.0.113.7"),
        (V2_IPV6, "2001:db8::7"),
        (V2_LOCAL, "127.0.0.1"),
    ] {
        let expected = format!("\nx-forwarded-for: {client}\n");
        let mut connection = world.client();
        // With the first request, and of all requests of the connection.
        for bytes in [[header, REQUEST.as_bytes()].concat(), REQUEST.into()] {
            let answer = connection.send(bytes).answer();
            assert_eq!(answer.status, 200);
            assert!(answer.body.contains(&expected), "{}: {}", header.escape_ascii(), answer.body);
        }
        let mut slow = world.client();
        for byte in [header, REQUEST.as_bytes()].concat() {
            slow.send([byte]);
        }
        assert!(slow.answer().body.contains(&expected), "{}", header.escape_ascii());
    }
}

#[test]
fn the_header_comes_before_tls_and_before_http_2() {
    let folder = tempfile::tempdir().unwrap();
    let shop = issue(&["shop.example"]);
    shop.mount(folder.path(), "shop");
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| {
        config.tls = Some(tls(folder.path(), None));
        config.http2_cleartext = true;
        config.proxy_protocol_from = "127.0.0.1".parse().unwrap();
    });
    let (address, config) = (world.tls_address.unwrap(), trusting(&[&shop], &[&TLS13], &["http/1.1"]));
    for header in [V1, V2] {
        let (mut client, _) = Client::connect_tls_behind(header, address, &config, "shop.example").unwrap();
        let answer = client.get("/");
        assert!(answer.body.contains("\nx-forwarded-for: 203.0.113.7\n"), "{}", answer.body);
        assert!(answer.body.contains("\nx-forwarded-proto: https\n"), "{}", answer.body);
    }
    assert!(Client::connect_tls(address, &config, "shop.example").is_err());
    assert_eq!(missing(&world, "malformed"), 1);
    block_on(async {
        let client = H2Client::connect_behind(V2, world.address).await;
        let answer = client.get("http://shop.example/").await;
        assert!(answer.body.contains("\nx-forwarded-for: 203.0.113.7\n"), "{}", answer.body);
    });
}

#[test]
fn a_listed_peer_without_a_header_is_closed_without_an_answer() {
    let (world, upstream) = behind_a_proxy();
    let long = [b"PROXY UNKNOWN ", &[b'a'; 107][..]].concat();
    for bytes in
        [REQUEST.as_bytes(), b"PROXY TCP4 a b 1 2\r\n", &long, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"]
    {
        world.client().send(bytes).assert_closed();
    }
    assert_eq!(missing(&world, "malformed"), 4);
    for bytes in [&b""[..], b"PROXY ", &V2[..13]] {
        let mut gone = TcpStream::connect(world.address).unwrap();
        gone.write_all(bytes).unwrap();
    }
    wait_until("all that went to be counted", || missing(&world, "closed") == 3);
    assert_eq!(upstream.requests(), 0);
    assert_eq!(world.client().send([V1, REQUEST.as_bytes()].concat()).answer().status, 200);
}

#[test]
fn a_header_that_does_not_come_to_its_end_is_given_up() {
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| {
        config.proxy_protocol_from = "127.0.0.0/8".parse().unwrap();
        config.timeouts.proxy_header = Duration::from_millis(200);
    });
    for bytes in [&b""[..], b"PROXY TCP4 203.0.113.7", &V2[..20]] {
        world.client().send(bytes).assert_closed();
    }
    assert_eq!(missing(&world, "timeout"), 3);
}

#[test]
fn a_header_of_a_peer_that_is_not_listed_is_a_malformed_request() {
    let upstream = Echo::start();
    for listed in ["", "10.0.0.0/8,::1"] {
        let world = World::configured(upstream.address, |config| {
            config.proxy_protocol_from = listed.parse().unwrap();
        });
        for header in [V1, V2] {
            let answer = world.client().send([header, REQUEST.as_bytes()].concat()).answer();
            assert_eq!(answer.status, 400, "{}", header.escape_ascii());
        }
    }
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn a_trusted_proxy_says_who_its_client_is_and_is_named_behind_it() {
    let (world, _upstream) = believing();
    for (said, forwarded) in [
        ("X-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7, 127.0.0.1"),
        (
            "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 203.0.113.7, 10.0.0.2\r\n",
            "192.0.2.1, 203.0.113.7, 10.0.0.2, 127.0.0.1",
        ),
        // What is not in order says nothing.
        ("X-Forwarded-For: 203.0.113.7, unknown\r\n", "127.0.0.1"),
        ("X-Forwarded-For:\r\n", "127.0.0.1"),
        ("Forwarded: for=203.0.113.7\r\nX-Real-IP: 203.0.113.7\r\n", "127.0.0.1"),
        ("", "127.0.0.1"),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: shop.example\r\n{said}\r\n");
        let answer = world.client().send(request).answer();
        assert!(answer.body.contains(&format!("\nx-forwarded-for: {forwarded}\n")), "{}", answer.body);
        assert!(
            !answer.body.contains("\nforwarded: ") && !answer.body.contains("x-real-ip"),
            "{}",
            answer.body
        );
    }
}

#[test]
fn a_trusted_proxy_says_how_its_client_came_and_anybody_else_does_not() {
    let said =
        "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n";
    let request = format!("GET / HTTP/1.1\r\nHost: shop.internal\r\n{said}\r\n");
    let lines = |world: &World| {
        let body = world.client().send(&request).answer().body;
        ["for", "proto", "host"].map(|name| {
            let start = format!("x-forwarded-{name}: ");
            body.lines().find_map(|line| line.strip_prefix(&start)).unwrap().to_owned()
        })
    };
    let (world, upstream) = believing();
    assert_eq!(lines(&world), ["203.0.113.7, 127.0.0.1", "https", "shop.example"]);
    let strict = World::before(upstream.address);
    assert_eq!(lines(&strict), ["127.0.0.1", "http", "shop.internal"]);
}

#[test]
fn whose_word_counts_is_decided_by_the_address_of_the_proxy_protocol() {
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| {
        config.proxy_protocol_from = "127.0.0.0/8".parse().unwrap();
        config.trust_forwarded_from = "203.0.113.0/24".parse().unwrap();
    });
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.9\r\n\r\n";
    for (header, forwarded) in
        [(V1, "198.51.100.9, 203.0.113.7"), (V1_UNKNOWN, "127.0.0.1"), (V2_IPV6, "2001:db8::7")]
    {
        let answer = world.client().send([header, request.as_bytes()].concat()).answer();
        assert!(answer.body.contains(&format!("\nx-forwarded-for: {forwarded}\n")), "{}", answer.body);
    }
}

#[test]
fn a_trusted_proxy_is_believed_in_http_2_too() {
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| {
        config.http2_cleartext = true;
        config.trust_forwarded_from = "127.0.0.0/8".parse().unwrap();
    });
    block_on(async {
        let client = H2Client::connect(world.address).await;
        let mut request = get("http://shop.example/");
        request.headers_mut().insert("x-forwarded-for", "203.0.113.7".parse().unwrap());
        let answer = client.send(request).await.unwrap();
        assert!(answer.body.contains("\nx-forwarded-for: 203.0.113.7, 127.0.0.1\n"), "{}", answer.body);
    });
}
