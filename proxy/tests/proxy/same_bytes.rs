//! "The same bytes" of the data plane's design: one row, one test, with raw bytes.

use super::upstream::Echo;
use super::world::World;

/// Sends `bytes` on a connection of its own: refused with `status` and a reason, closed, and
/// nothing of it reached the upstream. Once more as the second of two requests in one write, since
/// a guard that looks at the first head only is none.
fn refused(bytes: &[u8], status: u16, reason: &str) {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let mut client = world.client();
    let answer = client.send(bytes).answer();
    assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{}", answer.body);
    assert!(answer.body.starts_with("Refused: ") && answer.body.contains(reason), "{}", answer.body);
    client.assert_closed();
    assert_eq!(upstream.requests(), 0);

    let mut client = world.client();
    client.send([b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n", bytes].concat());
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.answer().status, status);
    client.assert_closed();
    assert_eq!(upstream.requests(), 1);
}

/// A head with this header line after Host.
fn with(line: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n").into_bytes()
}

const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket";
const WEBSOCKET_KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// A handshake of WebSocket with these header lines beside its version.
fn websocket(method: &str, lines: &str) -> Vec<u8> {
    format!("{method} / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n\r\n").into_bytes()
}

/// A GET of this target.
fn target(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

/// A chunked POST with this body. Its head is in order, so it is the body that is refused.
fn refused_body(body: &str, reason: &str) {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    for pieces in [1, 2] {
        let mut client = world.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in body.as_bytes().chunks(body.len().div_ceil(pieces)) {
            client.send(piece);
        }
        let answer = client.answer();
        assert_eq!((answer.status, answer.header("connection")), (400, Some("close")), "{}", answer.body);
        assert!(answer.body.contains(reason), "{}", answer.body);
        client.assert_closed();
    }
}

macro_rules! refused {
    ($($name:ident: $bytes:expr, $status:literal, $reason:literal;)+) => {
        $(#[test] fn $name() { refused($bytes.as_ref(), $status, $reason); })+
    };
}

macro_rules! refused_body {
    ($($name:ident: $body:literal, $reason:literal;)+) => {
        $(#[test] fn $name() { refused_body($body, $reason); })+
    };
}

refused! {
    bare_lf_after_the_request_line: b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "LF without CR";
    bare_lf_after_a_header: b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400, "LF without CR";
    bare_lf_at_the_end: b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400, "LF without CR";
    bare_cr_in_a_value: b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rZ: z\r\n\r\n", 400, "control characters";
    length_then_coding: with("Content-Length: 3\r\nTransfer-Encoding: chunked"), 400, "both given";
    coding_then_length: with("Transfer-Encoding: chunked\r\nContent-Length: 3"), 400, "both given";
    repeated_length_that_differs: with("Content-Length: 3\r\nContent-Length: 4"), 400, "Content-Length is given twice";
    repeated_length_that_agrees: with("Content-Length: 3\r\nContent-Length: 3"), 400, "Content-Length is given twice";
    length_as_a_list: with("Content-Length: 3, 3"), 400, "no plain number";
    length_with_a_sign: with("Content-Length: +3"), 400, "no plain number";
    length_with_a_leading_zero: with("Content-Length: 03"), 400, "no plain number";
    empty_length: with("Content-Length:"), 400, "no plain number";
    coding_gzip: with("Transfer-Encoding: gzip, chunked"), 400, "something else than chunked";
    coding_identity: with("Transfer-Encoding: identity"), 400, "something else than chunked";
    coding_chunked_twice_in_one_line: with("Transfer-Encoding: chunked, chunked"), 400, "something else than chunked";
    coding_in_two_lines: with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 400, "given twice";
    coding_with_a_vertical_tab: with("Transfer-Encoding: \x0bchunked"), 400, "control characters";
    coding_in_http_10: b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "in HTTP/1.0";
    missing_host: b"GET / HTTP/1.1\r\nAccept: */*\r\n\r\n", 400, "Host is missing";
    missing_host_in_http_10: b"GET / HTTP/1.0\r\n\r\n", 400, "Host is missing";
    repeated_host: with("Host: b"), 400, "Host is given twice";
    repeated_host_that_agrees: with("host: a"), 400, "Host is given twice";
    empty_host: b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "Host is no host name";
    malformed_host: b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "Host is no host name";
    host_with_a_user: b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", 400, "Host is no host name";
    host_with_a_bad_port: b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400, "Host is no host name";
    absolute_target_of_another_host: target("http://b/"), 400, "not the one of Host";
    absolute_target_of_another_port: target("http://a:81/"), 400, "not the one of Host";
    absolute_target_of_the_port_of_another_scheme: target("http://a:443/"), 400, "not the one of Host";
    absolute_target_with_a_user: target("http://user@a/"), 400, "not the one of Host";
    absolute_target_of_https: target("https://a/"), 400, "neither a path nor an http URL";
    target_without_a_slash: target("foo"), 400, "neither a path nor an http URL";
    asterisk_target: b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "`*`";
    connect: b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405, "CONNECT is not served";
    trace: b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "TRACE is not served";
    lower_case_method: b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "upper-case";
    fragment: target("/a#b"), 400, "fragment";
    target_that_begins_with_two_slashes: target("//b/x"), 400, "two slashes";
    target_that_begins_with_a_slash_and_an_encoded_one: target("/%2fb/x"), 400, "two slashes";
    dot_segment: target("/a/../b"), 400, "dot segment";
    encoded_dot_segment: target("/a/%2e%2e/b"), 400, "dot segment";
    dot_segment_between_encoded_slashes: target("/a%2f..%2fb"), 400, "dot segment";
    encoded_backslash: target("/a%5Cb"), 400, "backslash";
    backslash: target("/a\\b"), 400, "backslash";
    encoded_nul: target("/a%00"), 400, "control character";
    invalid_escape: target("/a%zz"), 400, "hexadecimal digits";
    control_byte_in_the_target: target("/a\x01"), 400, "characters that a URL may not have";
    non_ascii_byte_in_the_target: target("/\u{e4}"), 400, "characters that a URL may not have";
    space_in_the_target: target("/a b"), 400, "request line";
    tab_in_the_request_line: b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "request line";
    two_spaces_in_the_request_line: b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "request line";
    control_byte_in_a_header_name: with("X\x01Y: z"), 400, "header name";
    non_ascii_byte_in_a_header_name: with("X\u{e4}: z"), 400, "header name";
    space_in_a_header_name: with("X Y: z"), 400, "header name";
    empty_header_name: with(": z"), 400, "header name";
    header_without_a_colon: with("X"), 400, "no colon";
    nul_in_a_value: with("X: a\0b"), 400, "control characters";
    del_in_a_value: with("X: a\x7fb"), 400, "control characters";
    twin_of_content_length: with("Content_Length: 3"), 400, "`_`";
    twin_of_x_forwarded_for: with("X-Forwarded_For: 127.0.0.1"), 400, "`_`";
    folded_header: with("X: y\r\n z"), 400, "obs-fold";
    first_header_begins_with_space: b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, "obs-fold";
    space_before_the_colon: with("Transfer-Encoding : chunked"), 400, "space before its colon";
    connection_lists_host: with("Connection: keep-alive, Host"), 400, "Connection lists";
    connection_lists_content_length: with("Connection: content-length"), 400, "Connection lists";
    connection_lists_authorization: with("Connection: Authorization"), 400, "Connection lists";
    connection_lists_cookie: with("Connection: close, cookie"), 400, "Connection lists";
    connection_lists_x_forwarded_for: with("Connection: X-Forwarded-For"), 400, "Connection lists";
    unknown_expectation: with("Expect: 200-ok"), 417, "100-continue";
    list_of_expectations: with("Expect: 100-continue, 200-ok"), 417, "100-continue";
    upgrade_to_an_unknown_protocol: with("Connection: Upgrade\r\nUpgrade: h2c, SPDY/3.1"), 501, "upgraded to WebSocket only";
    websocket_without_a_key: websocket("GET", "Upgrade: WebSocket\r\nConnection: upgrade"), 400, "Sec-WebSocket-Key";
    websocket_with_two_keys: websocket("GET", &[WEBSOCKET, WEBSOCKET_KEY, WEBSOCKET_KEY].join("\r\n")), 400, "Sec-WebSocket-Key";
    websocket_by_post: websocket("POST", &[WEBSOCKET, WEBSOCKET_KEY].join("\r\n")), 400, "begins with a GET";
    websocket_with_a_body: websocket("GET", &[WEBSOCKET, WEBSOCKET_KEY, "Content-Length: 1"].join("\r\n")), 400, "no body";
    websocket_with_chunks: websocket("GET", &[WEBSOCKET, WEBSOCKET_KEY, "Transfer-Encoding: chunked"].join("\r\n")), 400, "no body";
    connection_lists_the_key_of_websocket: with("Connection: Upgrade, Sec-WebSocket-Key"), 400, "Connection lists";
    two_empty_lines_before_a_request: b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "empty line";
    oversized_request_line: target(&format!("/{}", "a".repeat(8 * 1024))), 414, "request line is too long";
    oversized_header_line: with(&format!("X: {}", "a".repeat(8 * 1024))), 431, "line is too long";
    oversized_head: with(&format!("X: {}\r\n", "a".repeat(8000)).repeat(5)), 431, "head is too large";
    too_many_headers: with(&"X: y\r\n".repeat(100)), 431, "too many header lines";
    http_12: b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505, "protocol version";
    http_09: b"GET /\r\n", 400, "request line";
    http_2_preface: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/2 without TLS";
    tls_handshake: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "request line";
}

refused_body! {
    space_before_a_chunk_size: " 3\r\nabc\r\n0\r\n\r\n", "chunk size";
    space_after_a_chunk_size: "3 \r\nabc\r\n0\r\n\r\n", "chunk size";
    leading_zero_in_a_chunk_size: "03\r\nabc\r\n0\r\n\r\n", "chunk size";
    prefix_in_a_chunk_size: "0x3\r\nabc\r\n0\r\n\r\n", "chunk size";
    sign_in_a_chunk_size: "+3\r\nabc\r\n0\r\n\r\n", "chunk size";
    overflowing_chunk_size: "10000000000000003\r\nabc\r\n0\r\n\r\n", "chunk size";
    bare_lf_after_a_chunk_size: "3\nabc\r\n0\r\n\r\n", "LF without CR";
    bare_lf_in_a_chunk_extension: "3;a\nb\r\nabc\r\n0\r\n\r\n", "LF without CR";
    bare_cr_in_a_chunk_extension: "3;a\rb\r\nabc\r\n0\r\n\r\n", "chunk extension";
    chunk_longer_than_its_size: "3\r\nabcd\r\n0\r\n\r\n", "not followed by CR LF";
    bare_lf_after_a_chunk: "3\r\nabc\n0\r\n\r\n", "not followed by CR LF";
    forbidden_trailer: "3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n", "no trailer may have";
    trailer_that_twins_a_header: "3\r\nabc\r\n0\r\nX_Forwarded_For: 3\r\n\r\n", "no trailer may have";
    folded_trailer: "3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n", "obs-fold";
}

#[test]
fn heads_at_the_limits_are_served() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let mut client = world.client();
    let line = 8 * 1024;
    let path = format!("/{}", "a".repeat(line - "GET / HTTP/1.1".len()));
    assert_eq!(client.get(&path).status, 200);
    let header = format!("X: {}", "a".repeat(line - "X: ".len()));
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n"));
    assert_eq!(client.answer().status, 200);
    // Host is one of the hundred.
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(99)));
    assert_eq!(client.answer().status, 200);
}

#[test]
fn one_empty_line_before_a_request_is_forgiven() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let mut client = world.client();
    for _ in 0..2 {
        client.send("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer().status, 200);
    }
}

#[test]
fn a_request_in_single_bytes_is_judged_as_one_in_a_piece() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let mut client = world.client();
    for byte in b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n"
    {
        client.send([*byte]);
    }
    let answer = client.answer();
    assert!(answer.body.starts_with("POST /a ") && answer.body.ends_with("\n\nabc"), "{}", answer.body);
    for byte in b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n" {
        client.send([*byte]);
    }
    assert_eq!(client.answer().status, 400);
}

#[test]
fn what_is_behind_a_refused_request_is_not_served() {
    let upstream = Echo::start();
    let world = World::before(upstream.address);
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    client.assert_closed();
    assert_eq!(upstream.requests(), 0);
    world.wait_for_metric(
        r#"portcullis_requests_refused_total{reason="content_length_and_transfer_encoding"} 1"#,
    );
}
