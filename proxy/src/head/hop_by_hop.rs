//! What belongs to one connection and is not forwarded (RFC 9110 section 7.6.1).

use crate::fields::Fields;
use crate::wire::list;

/// The fixed list, and `Proxy-Connection` and `HTTP2-Settings`, which are so in practice. `Expect` is answered by the
/// proxy itself. `Trailer` is not among them: trailers are passed on.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Removes what Connection lists, and the fixed list.
pub(super) fn remove_from(fields: &mut Fields) {
    let listed: Vec<Vec<u8>> = fields
        .get_all("connection")
        .flat_map(list)
        // What most clients say; they are in the fixed list, or name no field.
        .filter(|option| {
            !option.eq_ignore_ascii_case(b"keep-alive") && !option.eq_ignore_ascii_case(b"close")
        })
        .map(<[u8]>::to_vec)
        .collect();
    fields
        .retain(|name, _| !is_fixed(name) && !listed.iter().any(|option| name.eq_ignore_ascii_case(option)));
}

fn is_fixed(name: &[u8]) -> bool {
    // Their first letters tell most other names apart at once.
    matches!(name.first().map(u8::to_ascii_lowercase), Some(b'c' | b'e' | b'h' | b'k' | b'p' | b't' | b'u'))
        && HOP_BY_HOP.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}
