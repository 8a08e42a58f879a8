//! Answers that the proxy gives itself. Each says why, and none is ever cached.

use std::cmp::Reverse;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION,
    RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Response, StatusCode};
use mediatype::names::{_STAR, Q};
use mediatype::{MediaType, MediaTypeList, ReadParams};
use portcullis_engine::detail::Answer;

use super::event::EventId;
use super::inspect::BlockReason;
use super::refusal::Refusal;
use super::upstream::UpstreamError;
use crate::rules::ActiveRule;

/// Carries the id of the event on a block answer.
pub(super) const EVENT_ID: HeaderName = HeaderName::from_static("x-portcullis-event-id");
/// What is served, for `Allow` (RFC 9110 section 15.5.6): any method but CONNECT and TRACE; these are the usual ones.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const OVERLOADED: &str = "Overloaded: this node has too many requests under way. Try again in a moment.\n";

/// The answer to a request that a rule blocks: as its `block` says, and on top of that as its module wants it.
pub(super) fn blocked<'a>(
    rule: &ActiveRule,
    id: EventId,
    reason: BlockReason,
    accept: impl Iterator<Item = &'a [u8]>,
) -> Response<Bytes> {
    let responses = rule.block.responses.as_ref();
    let default = || {
        let name = &rule.key.name;
        // A rule that came to no verdict has found nothing, so that is not what the answer says.
        match reason {
            BlockReason::Verdict(_) => format!("Blocked by WASM rule: {name}\nEvent id: {{eventId}}\n"),
            BlockReason::Failure(cause) => format!(
                "Could not judge the request by WASM rule: {name} ({})\nEvent id: {{eventId}}\n",
                cause.setting()
            ),
        }
    };
    let text = responses.and_then(|r| r.text.clone()).unwrap_or_else(default);
    let mut offers = vec![(TEXT, text)];
    offers.extend(responses.and_then(|r| r.html.clone()).map(|body| (HTML, body)));
    offers.extend(responses.and_then(|r| r.json.clone()).map(|body| (JSON, body)));
    let kinds: Vec<&str> = offers.iter().map(|(kind, _)| *kind).collect();
    let (kind, body) = offers.swap_remove(accepted(accept, &kinds));
    let body = body.replace("{eventId}", &id.to_string());
    // The API admits 400 to 599 only.
    let status = StatusCode::from_u16(rule.block.status).unwrap_or(StatusCode::FORBIDDEN);
    let mut response = answer(status, kind, Bytes::from(body));
    response.headers_mut().insert(EVENT_ID, HeaderValue::from_str(&id.to_string()).expect("a ULID is ASCII"));
    if let BlockReason::Verdict(wanted) = reason {
        override_with(wanted, id, &mut response);
    }
    response
}

/// The engine admits a status from 400 to 599 and field values of printable ASCII only.
fn override_with(wanted: Answer, id: EventId, response: &mut Response<Bytes>) {
    let Answer { status, content_type, retry_after, location, body } = wanted;
    if let Some(status) = status.and_then(|status| StatusCode::from_u16(status).ok()) {
        *response.status_mut() = status;
    }
    if let Some(body) = body {
        let body = match String::from_utf8(body) {
            Ok(text) => text.replace("{eventId}", &id.to_string()).into_bytes(),
            Err(bytes) => bytes.into_bytes(),
        };
        *response.body_mut() = Bytes::from(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    }
    let fields = [(CONTENT_TYPE, content_type), (LOCATION, location)];
    for (name, value) in fields {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
}

/// The answer to a request whose body a rule cannot read for its content codings (RFC 9110 section 15.5.16).
pub(super) fn encoded(rule: &ActiveRule, id: EventId, codings: &str) -> Response<Bytes> {
    let text = format!(
        "Unsupported Media Type: found {codings}, and WASM rule {} can only judge a body without a content coding (identity). Send it without Content-Encoding\nEvent id: {id}\n",
        rule.key.name
    );
    let mut response = plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    response.headers_mut().insert(EVENT_ID, HeaderValue::from_str(&id.to_string()).expect("a ULID is ASCII"));
    response
}

/// The answer to a request that breaks a rule of the protocol, or did not come in time.
pub(super) fn refused(refusal: Refusal) -> Response<Bytes> {
    let mut response = closing(plain(refusal.status(), format!("Refused: {refusal}\n")));
    if refusal == Refusal::WebSocketVersion {
        // RFC 6455 section 4.4, and RFC 9110 section 15.5.22.
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close, Upgrade"));
    }
    if refusal.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
    }
    response
}

/// The answer to a request whose body broke off. Nobody may be left to read it.
pub(super) fn body_broke_off() -> Response<Bytes> {
    closing(plain(StatusCode::BAD_REQUEST, "Refused: the request body broke off\n".into()))
}

/// The answer to a request for whose host name there are routes, and none of them for the rest of it.
pub(super) fn no_route() -> Response<Bytes> {
    plain(StatusCode::NOT_FOUND, "Not Found: no route of this host name matches the request\n".into())
}

/// The answer to a request of a route whose backend does not exist; 500 as in the Gateway API.
pub(super) fn no_backend() -> Response<Bytes> {
    plain(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Internal Server Error: the backend that the route names does not exist\n".into(),
    )
}

/// The answer when the upstream gave none.
pub(super) fn upstream_failed(error: &UpstreamError) -> Response<Bytes> {
    let status = match error {
        UpstreamError::ConnectTimeout | UpstreamError::AnswerTimeout => StatusCode::GATEWAY_TIMEOUT,
        UpstreamError::NoWebSocket => StatusCode::NOT_IMPLEMENTED,
        _ => StatusCode::BAD_GATEWAY,
    };
    let title = status.canonical_reason().unwrap_or_default();
    plain(status, format!("{title}: {error}\n"))
}

/// The answer when the exchange as a whole took too long.
pub(super) fn took_too_long() -> Response<Bytes> {
    closing(plain(
        StatusCode::GATEWAY_TIMEOUT,
        "Gateway Timeout: the request as a whole took too long\n".into(),
    ))
}

/// The answer when the node has no time for a request.
pub(super) fn overloaded() -> Response<Bytes> {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, OVERLOADED.into());
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// [`refused`] for a request that never became an exchange.
pub(super) fn refusal_bytes(refusal: Refusal) -> Vec<u8> {
    to_bytes(&refused(refusal))
}

/// [`overloaded`] for a connection that is not served.
pub(super) fn overloaded_bytes() -> Vec<u8> {
    to_bytes(&closing(overloaded()))
}

fn plain(status: StatusCode, body: String) -> Response<Bytes> {
    answer(status, TEXT, Bytes::from(body))
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn closing(mut response: Response<Bytes>) -> Response<Bytes> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn to_bytes(response: &Response<Bytes>) -> Vec<u8> {
    let status = response.status();
    let mut bytes =
        format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or_default())
            .into_bytes();
    for (name, value) in response.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", response.body().len()).as_bytes());
    bytes.extend_from_slice(response.body());
    bytes
}

/// Which of `offers` the client wants most (RFC 9110 section 12.5.1): by weight, then by how exactly
/// it is named, then by the client's order, then by ours. The first offer if it wants none of them.
fn accepted<'a>(accept: impl Iterator<Item = &'a [u8]>, offers: &[&str]) -> usize {
    let values = accept.filter_map(|value| std::str::from_utf8(value).ok());
    // What is no media range, like the lone `*` of old Java clients, says nothing.
    let wanted: Vec<(MediaType<'_>, f32)> = values
        .flat_map(MediaTypeList::new)
        .flatten()
        .map(|range| {
            let weight: f32 = range.get_param(Q).map_or(1.0, |value| value.as_str().parse().unwrap_or(0.0));
            (range, weight.clamp(0.0, 1.0))
        })
        .collect();
    let rank = |offer: &str| {
        let offer = MediaType::parse(offer).ok()?;
        let matching = wanted.iter().enumerate().filter_map(|(position, (range, weight))| {
            Some((exactness(range, &offer)?, *weight, Reverse(position)))
        });
        // The most exact range decides about an offer; of equally exact ones the first.
        matching
            .max_by_key(|(exactness, _, position)| (*exactness, *position))
            .filter(|(_, weight, _)| *weight > 0.0)
    };
    let ranked = offers.iter().enumerate().filter_map(|(index, offer)| Some((Reverse(index), rank(offer)?)));
    ranked
        .max_by(|(i, a), (j, b)| a.1.total_cmp(&b.1).then_with(|| (a.0, a.2, i).cmp(&(b.0, b.2, j))))
        .map_or(0, |(Reverse(index), _)| index)
}

/// How exactly a range names a media type, if it does.
fn exactness(range: &MediaType<'_>, media_type: &MediaType<'_>) -> Option<u8> {
    if range.ty == _STAR && range.subty == _STAR {
        Some(0)
    } else if range.ty != media_type.ty {
        None
    } else if range.subty == _STAR {
        Some(1)
    } else {
        ((range.subty, range.suffix) == (media_type.subty, media_type.suffix)).then_some(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: &[&str] = &[TEXT, HTML, JSON];

    #[test]
    fn each_kind_of_client_gets_what_it_reads() {
        for (accept, expected) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", OFFERS[1]),
            ("application/json, text/plain, */*", OFFERS[2]),
            ("*/*", OFFERS[0]),
            ("", OFFERS[0]),
            ("image/png", OFFERS[0]),
            ("text/*", OFFERS[0]),
            ("text/html;q=0, */*", OFFERS[0]),
            ("text/plain;q=0.2, application/json;q=0.3", OFFERS[2]),
            ("APPLICATION/JSON", OFFERS[2]),
            ("application/*;q=0.5, text/html;q=0.4", OFFERS[2]),
            ("text/html; charset=utf-8; Q=0.9, text/plain;q=0.8", OFFERS[1]),
            ("image/gif, *; q=.2, text/html; q=.3, */*; q=.2", OFFERS[1]),
        ] {
            assert_eq!(OFFERS[accepted([accept.as_bytes()].into_iter(), OFFERS)], expected, "{accept}");
        }
        assert_eq!(accepted(std::iter::empty(), OFFERS), 0);
    }

    #[test]
    fn an_answer_without_an_exchange_is_whole() {
        let text = String::from_utf8(refusal_bytes(Refusal::Trace)).unwrap();
        assert!(text.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{text}");
        assert!(text.contains("\r\nconnection: close\r\n") && text.contains("\r\nallow: GET, "), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())));
        assert!(body.starts_with("Refused: TRACE"));
    }
}
