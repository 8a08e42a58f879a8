//! The head that is forwarded, in both directions. Rules see the request's head after this step, so
//! that what was inspected is what is forwarded.

use std::net::IpAddr;

use http::header::{CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Uri, Version, request, response};
use hyper::ext::ReasonPhrase;

use super::wire::is_dropped_for_connection;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Makes a client's head the one that is forwarded: without what belongs to the client's connection,
/// in origin form, and with our own word for who the client is. What the client says about that is
/// not trusted. No `Via` is added: common servers stop compressing when they see one.
pub(super) fn prepare_request(head: &mut request::Parts, client: IpAddr) {
    drop_hop_by_hop(&mut head.headers);
    let claimed: Vec<HeaderName> =
        head.headers.keys().filter(|name| name.as_str().starts_with("x-forwarded-")).cloned().collect();
    for name in claimed.iter().chain([&FORWARDED, &X_REAL_IP]) {
        head.headers.remove(name);
    }
    let host = head.headers.get(HOST).cloned();
    let address = HeaderValue::try_from(client.to_string()).expect("an address is ASCII");
    head.headers.insert(X_FORWARDED_FOR, address);
    head.headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    if let Some(host) = host {
        head.headers.insert(X_FORWARDED_HOST, host);
    }
    if head.uri.authority().is_some() {
        let target = head.uri.path_and_query().cloned();
        head.uri = target.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    head.extensions.clear();
}

/// Says of a request without content that it has none, where the method lets the upstream expect some (RFC 9110 section
/// 8.6). The client may have said so with an empty chunk only, of which nothing is left.
pub(super) fn announce_no_content(head: &mut request::Parts) {
    if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// Makes the upstream's head the one that the client gets.
pub(super) fn prepare_response(head: &mut response::Parts) {
    drop_hop_by_hop(&mut head.headers);
    if head.status == StatusCode::NO_CONTENT {
        // RFC 9110 section 8.6: no answer without a body by definition may announce one.
        head.headers.remove(CONTENT_LENGTH);
    }
    head.version = Version::HTTP_11;
    let reason = head.extensions.remove::<ReasonPhrase>();
    head.extensions.clear();
    if let Some(reason) = reason {
        head.extensions.insert(reason);
    }
}

/// RFC 9110 section 7.6.1: what Connection lists, and the fixed list.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok())
        .collect();
    let fixed: Vec<HeaderName> =
        headers.keys().filter(|name| is_dropped_for_connection(name.as_str())).cloned().collect();
    for name in listed.iter().chain(&fixed) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn prepared(uri: &str, headers: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut head = request.body(()).unwrap().into_parts().0;
        prepare_request(&mut head, [203, 0, 113, 7].into());
        head
    }

    #[test]
    fn what_belongs_to_the_connection_is_not_forwarded() {
        let head = prepared(
            "/",
            &[
                ("host", "shop.example"),
                ("connection", "keep-alive, X-Private"),
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
            ],
        );
        let mut names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]);
    }

    #[test]
    fn what_a_client_says_about_its_address_is_replaced() {
        let head = prepared(
            "/",
            &[
                ("host", "shop.example"),
                ("x-forwarded-for", "127.0.0.1"),
                ("x-forwarded-for", "10.0.0.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "admin.example"),
                ("x-forwarded-port", "1"),
                ("x-real-ip", "127.0.0.1"),
                ("forwarded", "for=127.0.0.1"),
            ],
        );
        let values: Vec<_> = head.headers.get_all(X_FORWARDED_FOR).iter().collect();
        assert_eq!(values, ["203.0.113.7"]);
        assert_eq!(head.headers[X_FORWARDED_PROTO], "http");
        assert_eq!(head.headers[X_FORWARDED_HOST], "shop.example");
        assert_eq!(head.headers.len(), 4);
    }

    #[test]
    fn an_absolute_target_is_forwarded_as_its_path() {
        for (target, forwarded) in
            [("http://shop.example/a?b=c", "/a?b=c"), ("http://shop.example", "/"), ("/a", "/a")]
        {
            assert_eq!(prepared(target, &[("host", "shop.example")]).uri, forwarded);
        }
    }
}
