//! Which methods and expectations are served.

use crate::refusal::Refusal;
use crate::wire::is_token;

/// Any method of upper-case letters, also with `-` and `_`: upstreams and rules know best which
/// exist. Methods are case-sensitive, and some servers disagree, so lower case is refused.
pub(crate) fn check_method(method: &[u8]) -> Result<(), Refusal> {
    match method {
        b"CONNECT" => Err(Refusal::Connect),
        // TRACK is the TRACE of some servers.
        b"TRACE" | b"TRACK" => Err(Refusal::Trace),
        _ if !is_token(method) => Err(Refusal::RequestLine),
        _ if method.iter().all(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_')) => Ok(()),
        _ => Err(Refusal::Method),
    }
}

/// Whether an Expect is the one expectation that there is, or an empty list (RFC 9110 sections 5.6.1 and 10.1.1).
pub(crate) fn can_be_met(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"100-continue")
        || value.iter().all(|byte| matches!(byte, b',' | b' ' | b'\t'))
}
