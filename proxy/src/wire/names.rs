//! Header names that mean something to proxies and servers.

/// Names that servers act on. A name that becomes one of these when `_` is read as `-`, as CGI and
/// WSGI do, is one header here and another one there.
const KNOWN: &[&str] = &[
    "accept",
    "authorization",
    "cache-control",
    "connection",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "from",
    "host",
    "keep-alive",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "referer",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "user-agent",
    "via",
    "warning",
    "cf-connecting-ip",
    "client-ip",
    "http2-settings",
    "last-event-id",
    "front-end-https",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-request-id",
];

/// Beginnings of such names.
const KNOWN_PREFIXES: &[&str] = &[
    "accept-",
    "access-control-",
    "content-",
    "if-",
    "proxy-",
    "sec-",
    "x-forwarded-",
    "x-http-method",
    "x-method-",
    "x-original-",
    "x-portcullis-",
    "x-real-",
    "x-rewrite-",
    "x-ssl-",
    "x-envoy-",
    "upgrade-",
];

/// Trailers that would change what was already decided (RFC 9110 section 6.5.1): framing, routing,
/// authentication, content and connection.
const FORBIDDEN_TRAILERS: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "connection",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "keep-alive",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
];
const FORBIDDEN_TRAILER_PREFIXES: &[&str] =
    &["content-", "if-", "proxy-", "x-forwarded-", "x-portcullis-", "x-real-", "x-original-"];

/// Whether a `Connection` header may not list this name: dropping it would change what the request
/// asks for, or who asks.
pub(crate) fn may_not_be_hop_by_hop(name: &[u8]) -> bool {
    ["host", "authorization", "cookie"].iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
        || ["content-", "x-forwarded-"].iter().any(|prefix| has_prefix(name, prefix))
}

/// Whether this name has a `_` and is a known one when it is read as `-`.
pub(crate) fn is_twin_of_known_name(name: &[u8]) -> bool {
    if !name.contains(&b'_') {
        return false;
    }
    let twin: Vec<u8> = name.iter().map(|&b| if b == b'_' { b'-' } else { b }).collect();
    is_one_of(&twin, KNOWN, KNOWN_PREFIXES)
}

/// Whether a trailer may not have this name.
pub(crate) fn is_forbidden_trailer(name: &[u8]) -> bool {
    is_one_of(name, FORBIDDEN_TRAILERS, FORBIDDEN_TRAILER_PREFIXES) || is_twin_of_known_name(name)
}

fn is_one_of(name: &[u8], names: &[&str], prefixes: &[&str]) -> bool {
    names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
        || prefixes.iter().any(|prefix| has_prefix(name, prefix))
}

fn has_prefix(name: &[u8], prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_is_a_known_name_spelled_with_an_underscore() {
        for twin in ["Content_Length", "transfer_encoding", "X_Forwarded_For", "x-forwarded_for", "COOKIE_"] {
            assert_eq!(is_twin_of_known_name(twin.as_bytes()), twin != "COOKIE_", "{twin}");
        }
        for other in ["content-length", "my_header", "session_id"] {
            assert!(!is_twin_of_known_name(other.as_bytes()), "{other}");
        }
    }
}
