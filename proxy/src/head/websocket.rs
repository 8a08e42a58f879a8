//! The opening handshake of WebSocket (RFC 6455 section 4).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use ring::digest;

use crate::fields::Fields;
use crate::refusal::Refusal;
use crate::wire::list;

/// What the upstream puts behind the key before it hashes both (RFC 6455 section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Characters of 16 bytes in base64 that are not padding.
const KEY: usize = 22;

/// A client's wish for WebSocket, and what an upstream answers that grants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WebSocketHandshake {
    accept: String,
}

impl WebSocketHandshake {
    /// The one of a request that asks for WebSocket. What an upstream might not take for a handshake is refused: it would
    /// answer a plain GET.
    pub(super) fn of(method: &Method, fields: &Fields) -> Result<Self, Refusal> {
        if only(fields, "sec-websocket-version") != Some(b"13") {
            return Err(Refusal::WebSocketVersion);
        }
        let key = only(fields, "sec-websocket-key").filter(|key| is_nonce(key)).ok_or(Refusal::WebSocket)?;
        if *method != Method::GET {
            return Err(Refusal::WebSocket);
        }
        let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        hash.update(key);
        hash.update(GUID.as_bytes());
        Ok(Self { accept: STANDARD.encode(hash.finish()) })
    }

    /// Whether an answer 101 with these fields is the one to this handshake (RFC 6455 section 4.1), so that from then on
    /// both sides speak WebSocket: an upstream that was talked into a 101 does not know the key.
    pub(crate) fn is_accepted_by(&self, fields: &Fields) -> bool {
        only(fields, "upgrade").is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
            && fields
                .get_all("connection")
                .flat_map(list)
                .any(|option| option.eq_ignore_ascii_case(b"upgrade"))
            && only(fields, "sec-websocket-accept") == Some(self.accept.as_bytes())
    }
}

/// Says of a message whose connection becomes one of WebSocket that it does.
pub(super) fn push_upgrade(fields: &mut Fields) {
    fields.push(b"Connection", b"Upgrade");
    fields.push(b"Upgrade", b"websocket");
}

/// The value of a field that is given once.
fn only<'a>(fields: &'a Fields, name: &'a str) -> Option<&'a [u8]> {
    let mut values = fields.get_all(name);
    values.next().filter(|_| values.next().is_none())
}

/// Whether it is 16 bytes in base64.
fn is_nonce(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == KEY + 2 && key[..KEY].iter().all(is_digit) && key.ends_with(b"==")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key and answer of RFC 6455 section 1.3.
    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const ACCEPT: (&str, &str) = ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    const VERSION: (&str, &str) = ("Sec-WebSocket-Version", "13");

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in lines {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    #[test]
    fn only_the_answer_to_the_clients_key_is_taken() {
        let handshake = WebSocketHandshake::of(&Method::GET, &fields(&[KEY, VERSION])).unwrap();
        let (upgrade, connection) = (("Upgrade", "WebSocket"), ("Connection", "keep-alive, upgrade"));
        for (lines, is_accepted) in [
            (&[upgrade, connection, ACCEPT][..], true),
            (&[upgrade, connection], false),
            (&[upgrade, ACCEPT], false),
            (&[connection, ACCEPT], false),
            (&[upgrade, connection, ACCEPT, ACCEPT], false),
            (&[("Upgrade", "websocket, x"), connection, ACCEPT], false),
            (&[upgrade, connection, (ACCEPT.0, "S3pPLMBiTxaQ9kYGzzhZRbK+xOo=")], false),
        ] {
            assert_eq!(handshake.is_accepted_by(&fields(lines)), is_accepted, "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        use Refusal::{WebSocket, WebSocketVersion};
        for (method, lines, refusal) in [
            (Method::POST, &[KEY, VERSION][..], WebSocket),
            (Method::GET, &[KEY], WebSocketVersion),
            (Method::GET, &[KEY, (VERSION.0, "8")], WebSocketVersion),
            (Method::GET, &[KEY, VERSION, VERSION], WebSocketVersion),
            (Method::GET, &[VERSION], WebSocket),
            (Method::GET, &[KEY, KEY, VERSION], WebSocket),
            (Method::GET, &[VERSION, (KEY.0, "")], WebSocket),
            (Method::GET, &[VERSION, (KEY.0, "dGhlIHNhbXBsZSBub25jZQ")], WebSocket),
            (Method::GET, &[VERSION, (KEY.0, "dGhlIHNhbXBsZSBub25jZ!==")], WebSocket),
            (Method::GET, &[VERSION, (KEY.0, "dGhlIHNhbXBsZSBub25jZSAg")], WebSocket),
        ] {
            assert_eq!(WebSocketHandshake::of(&method, &fields(lines)), Err(refusal), "{lines:?}");
        }
    }
}
