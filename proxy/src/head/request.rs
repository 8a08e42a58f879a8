//! The head of a request.

use std::net::IpAddr;

use http::{Method, Version};

use super::hop_by_hop;
use super::websocket::{self, WebSocketHandshake};
use crate::fields::{Fields, Span};
use crate::refusal::Refusal;
use crate::scheme::Scheme;
use crate::wire::list;

/// The head of a request: first as it arrived, then, after [`forwarded`](Self::make_forwarded), as rules see it and as
/// it is sent to the upstream. Its lines keep their order and their bytes on the whole way.
#[derive(Clone, Debug)]
pub(crate) struct RequestHead {
    method: Method,
    version: Version,
    target: Span,
    fields: Fields,
    /// Whether the client takes trailers: `TE` goes no further, but what it says about them does.
    takes_trailers: bool,
    /// Of a client that asks for WebSocket.
    websocket: Option<WebSocketHandshake>,
}

/// The first line of a request, as parts of the buffer in which its head was read.
#[derive(Debug)]
pub(crate) struct RequestLine {
    pub(crate) method: Method,
    pub(crate) version: Version,
    /// Of the target, path and query: what comes before them in absolute form is said by Host too.
    pub(crate) path_and_query: std::ops::Range<usize>,
}

impl RequestHead {
    /// A head whose lines refer into the buffer of `fields`.
    pub(crate) fn new(line: RequestLine, mut fields: Fields) -> Self {
        let RequestLine { method, version, path_and_query } = line;
        let target = match fields.buffer().get(path_and_query.start) {
            Some(b'/') if !path_and_query.is_empty() => path_and_query.into(),
            // `http://host` and `http://host?query` (RFC 9112 section 3.2.2).
            _ => {
                let target = [b"/", &fields.buffer()[path_and_query]].concat();
                fields.store(&target)
            }
        };
        Self { method, version, target, fields, takes_trailers: false, websocket: None }
    }

    /// Takes it for a request to change the connection's protocol to WebSocket, if it is in order as one.
    pub(crate) fn ask_for_websocket(&mut self) -> Result<(), Refusal> {
        self.websocket = Some(WebSocketHandshake::of(&self.method, &self.fields)?);
        Ok(())
    }

    /// Of a client that asks for WebSocket.
    pub(crate) fn websocket(&self) -> Option<&WebSocketHandshake> {
        self.websocket.as_ref()
    }

    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    /// Whether sending it twice does what sending it once does (RFC 9110 section 9.2.2).
    pub(crate) fn is_idempotent(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Path and query, in origin form (RFC 9112 section 3.2.1).
    pub(crate) fn target(&self) -> &str {
        std::str::from_utf8(self.target.of(self.fields.buffer())).expect("a target is ASCII")
    }

    /// The target without its query.
    pub(crate) fn path(&self) -> &str {
        let target = self.target();
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// The value of Host.
    pub(crate) fn host(&self) -> &[u8] {
        self.fields.get("host").unwrap_or_default()
    }

    pub(crate) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Makes the head the one that is forwarded: without what belongs to the client's connection, and with our own word
    /// for who the client is. What the client says about that is not trusted. No `Via` is added: common servers stop
    /// compressing when they see one.
    pub(crate) fn make_forwarded(&mut self, client: IpAddr, scheme: Scheme) {
        self.takes_trailers =
            self.fields.get_all("te").flat_map(list).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
        hop_by_hop::remove_from(&mut self.fields);
        self.fields.retain(|name, _| !claims_an_address(name));
        self.fields.push(b"X-Forwarded-For", client.to_string().as_bytes());
        self.fields.push(b"X-Forwarded-Proto", scheme.as_str().as_bytes());
        let host = self.host().to_vec();
        if !host.is_empty() {
            self.fields.push(b"X-Forwarded-Host", &host);
        }
        if self.websocket.is_some() {
            // Nothing else of the client's connection goes further, so that `Upgrade` is all that Connection names.
            self.takes_trailers = false;
            websocket::push_upgrade(&mut self.fields);
        }
    }

    /// Whether the client takes trailers of the answer (RFC 9110 section 10.1.4).
    pub(crate) fn takes_trailers(&self) -> bool {
        self.takes_trailers
    }

    /// Says of a request without content that it has none, where the method lets the upstream expect some (RFC 9110
    /// section 8.6). The client may have said so with an empty chunk only, of which nothing is left.
    pub(crate) fn announce_no_content(&mut self) {
        if matches!(self.method, Method::POST | Method::PUT | Method::PATCH)
            && self.fields.get("content-length").is_none()
        {
            self.fields.push(b"Content-Length", b"0");
        }
    }
}

/// Whether the field says who the client is, where it came to, or how.
fn claims_an_address(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"x-forwarded-";
    name.eq_ignore_ascii_case(b"forwarded")
        || name.eq_ignore_ascii_case(b"x-real-ip")
        || name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

#[cfg(test)]
impl RequestHead {
    /// A head as a client may send it, with its Host among `fields`.
    pub(crate) fn of(method: Method, target: &str, lines: &[(&str, &str)]) -> Self {
        let mut fields = Fields::default();
        fields.complete(target.as_bytes().to_vec());
        for (name, value) in lines {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        let line = RequestLine { method, version: Version::HTTP_11, path_and_query: 0..target.len() };
        Self::new(line, fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(lines: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut head = RequestHead::of(Method::GET, "/", lines);
        head.make_forwarded([203, 0, 113, 7].into(), Scheme::Http);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        head.fields().iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn names(lines: &[(String, String)]) -> Vec<&str> {
        lines.iter().map(|(name, _)| name.as_str()).collect()
    }

    const OURS: [&str; 3] = ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"];

    #[test]
    fn what_belongs_to_the_connection_is_not_forwarded_and_the_rest_keeps_its_order() {
        let lines = forwarded(&[
            ("X-First", "1"),
            ("host", "shop.example"),
            ("connection", "keep-alive, X-Private"),
            ("Cookie", "a=1"),
            ("connection", "x-other"),
            ("x-private", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("trailer", "x-checksum"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("expect", "100-continue"),
            ("accept", "*/*"),
            ("Cookie", "b=2"),
        ]);
        assert_eq!(
            names(&lines),
            [&["X-First", "host", "Cookie", "trailer", "accept", "Cookie"][..], &OURS].concat()
        );
    }

    #[test]
    fn what_a_client_says_about_its_address_is_replaced() {
        let lines = forwarded(&[
            ("host", "shop.example"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("X-Forwarded-Proto", "https"),
            ("x-forwarded-host", "admin.example"),
            ("x-forwarded-port", "1"),
            ("x-real-ip", "127.0.0.1"),
            ("forwarded", "for=127.0.0.1"),
        ]);
        let values: Vec<_> = lines.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(names(&lines), [&["host"][..], &OURS].concat());
        assert_eq!(values, ["shop.example", "203.0.113.7", "http", "shop.example"]);
    }

    #[test]
    fn a_target_without_a_path_is_the_root() {
        for (target, forwarded) in [("", "/"), ("?a=b", "/?a=b"), ("/a?b", "/a?b")] {
            let head = RequestHead::of(Method::GET, target, &[("host", "shop.example")]);
            assert_eq!(head.target(), forwarded);
        }
    }

    #[test]
    fn a_post_without_content_says_so_once() {
        for (method, lines, count) in [
            (Method::POST, &[("host", "a")][..], 1),
            (Method::POST, &[("host", "a"), ("content-length", "0")], 1),
            (Method::GET, &[("host", "a")], 0),
        ] {
            let mut head = RequestHead::of(method, "/", lines);
            head.announce_no_content();
            assert_eq!(head.fields().get_all("content-length").count(), count);
        }
    }
}
