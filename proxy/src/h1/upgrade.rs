//! What a client asks for that offers to change the protocol of a connection (RFC 9110 section 7.8).
//!
//! A server may ignore any `Upgrade`. Whether the client can go on then, depends on what it asked for, and what clients do
//! is this:
//! - `h2c`, `h2`, `HTTP/...`: curl, Java's HttpClient and others offer another version of HTTP with their first request,
//!   and read an answer in HTTP/1.1 as well.
//! - `TLS/...` (RFC 2817): Apache HttpClient and CUPS offer it with ordinary requests, and go on without.
//! - all others (the `SPDY/3.1` of kubectl, the `tcp` of Docker): the request means nothing without the protocol, and an
//!   application that answers it as a plain GET misleads its client.
//!
//! `websocket` alone is taken up.

/// What the `Upgrade` fields of a head ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asked {
    /// Nothing, or nothing that the client could not do without.
    #[default]
    Nothing,
    /// A protocol that is not served, and that the client needs.
    Other,
    /// WebSocket, among others perhaps: it is for the server to choose.
    WebSocket,
}

/// What these protocols, the value of an `Upgrade` field, ask for.
pub(super) fn asked(protocols: &[u8]) -> Asked {
    protocols.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).map(asked_by_one).max().unwrap_or_default()
}

fn asked_by_one(protocol: &[u8]) -> Asked {
    let name = protocol.split(|&byte| byte == b'/').next().unwrap_or_default();
    let is_offer =
        ["h2c", "h2", "http", "tls"].iter().any(|offer| name.eq_ignore_ascii_case(offer.as_bytes()));
    match protocol {
        _ if protocol.eq_ignore_ascii_case(b"websocket") => Asked::WebSocket,
        [] => Asked::Nothing,
        _ if is_offer => Asked::Nothing,
        _ => Asked::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_offers_that_clients_can_do_without_are_passed_over() {
        for (asked, values) in [
            (
                Asked::Nothing,
                &["", " , ", "h2c", "H2C", "h2", "HTTP/2.0", "TLS/1.0", "TLS/1.2, TLS/1.1", "h2c,, TLS/1.3"]
                    [..],
            ),
            (Asked::WebSocket, &["websocket", "WebSocket", "h2c, websocket", "x, websocket, y"]),
            (Asked::Other, &["websocket/13", "SPDY/3.1", "tcp", "h2cx", "/", "websockets"]),
        ] {
            for value in values {
                assert_eq!(super::asked(value.as_bytes()), asked, "{value}");
            }
        }
    }
}
