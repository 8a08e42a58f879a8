//! The request as version 1 sees it.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// A request as a rule sees it. Borrowed: it is written out once and gone.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// As on the request line.
    pub method: &'a str,
    /// As on the request line: path and query, neither decoded nor normalised.
    pub uri: &'a str,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: &'a str,
    /// The client. An IPv4 address mapped into IPv6 is written as IPv4.
    pub source_ip: IpAddr,
    /// Names and values in the order of the request, repeats included. Names may have any case.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The body, if the rule inspects bodies. An empty body is `Some`.
    pub body: Option<&'a [u8]>,
}

/// Appends the request as one JSON object to `out`:
/// `{"method","uri","version","source_ip","headers":{},"body" or "body_base64"}`.
///
/// Header names are lower case; a repeated header is one entry, its values joined by `, ` (`cookie`: `; `). A header
/// value that is not UTF-8 is taken as Latin-1, one code point a byte, so that none is lost and none can be hidden
/// behind a replacement character. A body that is not UTF-8 is `body_base64` (RFC 4648 section 4, padded).
pub fn encode(request: &RequestView<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"method\":\"");
    escape(request.method, out);
    out.extend_from_slice(b"\",\"uri\":\"");
    escape(request.uri, out);
    out.extend_from_slice(b"\",\"version\":\"");
    escape(request.version, out);
    out.extend_from_slice(b"\",\"source_ip\":\"");
    out.extend_from_slice(request.source_ip.to_canonical().to_string().as_bytes());
    out.extend_from_slice(b"\",\"headers\":{");
    headers(request.headers, out);
    out.push(b'}');
    if let Some(body) = request.body {
        encode_body(body, out);
    }
    out.push(b'}');
}

fn encode_body(body: &[u8], out: &mut Vec<u8>) {
    if let Ok(text) = std::str::from_utf8(body) {
        out.extend_from_slice(b",\"body\":\"");
        escape(text, out);
    } else {
        out.extend_from_slice(b",\"body_base64\":\"");
        out.extend_from_slice(BASE64.encode(body).as_bytes());
    }
    out.push(b'"');
}

/// Sorts rather than searches: the number of headers is the client's choice.
fn headers(headers: &[(&str, &[u8])], out: &mut Vec<u8>) {
    let name = |index: usize| headers[index].0.as_bytes();
    let mut sorted: Vec<usize> = (0..headers.len()).collect();
    sorted.sort_by(|&a, &b| compare_names(name(a), name(b)).then(a.cmp(&b)));

    // For each header, the next one of the same name; a name is written where it first occurs.
    let mut next = vec![None; headers.len()];
    let mut repeats = vec![false; headers.len()];
    for pair in sorted.windows(2) {
        if name(pair[0]).eq_ignore_ascii_case(name(pair[1])) {
            next[pair[0]] = Some(pair[1]);
            repeats[pair[1]] = true;
        }
    }

    let mut separator: &[u8] = b"\"";
    for first in (0..headers.len()).filter(|&index| !repeats[index]) {
        out.extend_from_slice(separator);
        separator = b",\"";
        escape_lower_case(headers[first].0, out);
        out.extend_from_slice(b"\":\"");
        let joint = if headers[first].0.eq_ignore_ascii_case("cookie") { "; " } else { ", " };
        let mut current = first;
        escape_value(headers[current].1, out);
        while let Some(repeat) = next[current] {
            out.extend_from_slice(joint.as_bytes());
            escape_value(headers[repeat].1, out);
            current = repeat;
        }
        out.push(b'"');
    }
}

fn compare_names(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    let lower = u8::to_ascii_lowercase;
    a.len().cmp(&b.len()).then_with(|| a.iter().map(lower).cmp(b.iter().map(lower)))
}

fn escape_value(value: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(value) {
        Ok(text) => escape(text, out),
        Err(_) => {
            for &byte in value {
                escape(char::from(byte).encode_utf8(&mut [0; 2]), out);
            }
        }
    }
}

fn escape_lower_case(name: &str, out: &mut Vec<u8>) {
    let start = out.len();
    escape(name, out);
    // An escape holds no upper case letter: \u001f, \n, \", \\.
    out[start..].make_ascii_lowercase();
}

/// Writes the inside of a JSON string (RFC 8259 section 7): runs are copied whole, only what must be is escaped.
fn escape(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[copied..index]);
        copied = index + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
    }
    out.extend_from_slice(&bytes[copied..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn view<'a>(headers: &'a [(&'a str, &'a [u8])], body: Option<&'a [u8]>) -> RequestView<'a> {
        RequestView {
            method: "POST",
            uri: "/api/login?next=%2F",
            version: "HTTP/1.1",
            source_ip: "203.0.113.42".parse().unwrap(),
            headers,
            body,
        }
    }

    fn encoded(request: &RequestView<'_>) -> Value {
        let mut out = Vec::new();
        encode(request, &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn the_documented_request_is_written_as_documented() {
        let body = br#"{"username": "admin", "password": "' OR '1'='1"}"#;
        let headers: &[(&str, &[u8])] =
            &[("User-Agent", b"BadBot/1.0"), ("Content-Type", b"application/json")];
        assert_eq!(
            encoded(&view(headers, Some(body))),
            json!({
                "method": "POST",
                "uri": "/api/login?next=%2F",
                "version": "HTTP/1.1",
                "source_ip": "203.0.113.42",
                "headers": {"user-agent": "BadBot/1.0", "content-type": "application/json"},
                "body": "{\"username\": \"admin\", \"password\": \"' OR '1'='1\"}",
            })
        );
    }

    #[test]
    fn what_was_in_the_buffer_stays() {
        let mut out = b"before".to_vec();
        encode(&view(&[], None), &mut out);
        assert!(out.starts_with(b"before{\"method\""));
    }

    #[test]
    fn repeated_headers_are_joined_in_order_at_their_first_place() {
        let headers: &[(&str, &[u8])] = &[
            ("cookie", b"a=1"),
            ("X-Forwarded-For", b"1.1.1.1"),
            ("accept", b"*/*"),
            ("Cookie", b"b=2"),
            ("x-forwarded-for", b"2.2.2.2"),
            ("COOKIE", b"c=3"),
        ];
        let mut out = Vec::new();
        encode(&view(headers, None), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.ends_with(
                r#""headers":{"cookie":"a=1; b=2; c=3","x-forwarded-for":"1.1.1.1, 2.2.2.2","accept":"*/*"}}"#
            ),
            "{text}"
        );
    }

    #[test]
    fn a_header_that_is_not_utf8_is_latin_1() {
        let request = encoded(&view(&[("x", b"caf\xe9 \xff"), ("y", "café".as_bytes())], None));
        assert_eq!(request["headers"], json!({"x": "café ÿ", "y": "café"}));
    }

    #[test]
    fn a_body_that_is_not_utf8_is_base64() {
        let request = encoded(&view(&[], Some(b"\xff\x00\x01")));
        assert_eq!(request["body_base64"], "/wAB");
        assert_eq!(request.get("body"), None);
    }

    #[test]
    fn an_empty_body_is_not_an_absent_one() {
        assert_eq!(encoded(&view(&[], Some(b"")))["body"], "");
        assert_eq!(encoded(&view(&[], None)).get("body"), None);
    }

    #[test]
    fn a_mapped_ipv4_address_is_written_as_ipv4() {
        let request = RequestView { source_ip: "::ffff:192.0.2.1".parse().unwrap(), ..view(&[], None) };
        assert_eq!(encoded(&request)["source_ip"], "192.0.2.1");
        let request = RequestView { source_ip: "2001:db8::1".parse().unwrap(), ..view(&[], None) };
        assert_eq!(encoded(&request)["source_ip"], "2001:db8::1");
    }

    /// The same mapping, written the slow way.
    fn expected(request: &RequestView<'_>) -> Value {
        let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
        };
        let mut headers: Vec<(String, String)> = Vec::new();
        for (name, value) in request.headers {
            let name = name.to_ascii_lowercase();
            match headers.iter_mut().find(|(known, _)| *known == name) {
                Some((_, joined)) => {
                    joined.push_str(if name == "cookie" { "; " } else { ", " });
                    joined.push_str(&text(value));
                }
                None => headers.push((name, text(value))),
            }
        }
        let headers: serde_json::Map<String, Value> =
            headers.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
        let mut value = json!({
            "method": request.method,
            "uri": request.uri,
            "version": request.version,
            "source_ip": request.source_ip.to_canonical(),
            "headers": headers,
        });
        if let Some(body) = request.body {
            match std::str::from_utf8(body) {
                Ok(text) => value["body"] = text.into(),
                Err(_) => value["body_base64"] = BASE64.encode(body).into(),
            }
        }
        value
    }

    fn header_name() -> impl Strategy<Value = String> {
        prop_oneof![Just("cookie".to_owned()), Just("Cookie".to_owned()), "[aAbB]{1,2}", any::<String>()]
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            any::<Vec<u8>>(),
            any::<String>().prop_map(String::into_bytes),
            "[\"\\\\\u{0}-\u{20}]*".prop_map(String::into_bytes)
        ]
    }

    proptest! {
        #[test]
        fn any_request_parses_back_to_the_same_values(
            method in any::<String>(),
            uri in any::<String>(),
            version in any::<String>(),
            source_ip in any::<IpAddr>(),
            headers in prop::collection::vec((header_name(), bytes()), 0..24),
            body in prop::option::of(bytes()),
        ) {
            let headers: Vec<(&str, &[u8])> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            let request = RequestView {
                method: &method, uri: &uri, version: &version, source_ip, headers: &headers, body: body.as_deref(),
            };
            prop_assert_eq!(encoded(&request), expected(&request));
        }
    }
}
