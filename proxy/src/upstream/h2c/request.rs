//! The head of a request, as HTTP/2 has it (RFC 9113 section 8.3.1).

use http::header::TE;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri, Version};

use crate::head::RequestHead;

/// The head as it is forwarded; `None` if the `http` crate's types cannot hold it.
pub(super) fn request(head: &RequestHead) -> Option<Request<()>> {
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(Authority::try_from(head.host()).ok()?);
    uri.path_and_query = Some(PathAndQuery::try_from(head.target()).ok()?);
    // A path that is changed on the way is not the one that rules have seen.
    if uri.path_and_query.as_ref()?.as_str() != head.target() {
        return None;
    }
    let mut request = Request::new(());
    *request.method_mut() = head.method().clone();
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    let mut fields = head.fields().clone();
    // `:authority` says it. It is left out beforehand: what a map removes makes it change the order of the rest.
    fields.remove("host");
    let mut fields = fields.to_map();
    if head.takes_trailers() {
        fields.insert(TE, HeaderValue::from_static("trailers"));
    }
    *request.headers_mut() = fields;
    Some(request)
}

/// The same once more.
pub(super) fn again(request: &Request<()>) -> Request<()> {
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.version_mut() = request.version();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn host_is_the_authority_and_the_target_stays_as_it_came() {
        let lines = [("X-First", "1"), ("host", "Shop.example:80"), ("x-first", "2")];
        let mut head = RequestHead::of(Method::POST, "/a%2Fb//c?x=%zz&{}|^", &lines);
        head.make_forwarded("203.0.113.7".parse().unwrap(), crate::scheme::Scheme::Http);
        let request = request(&head).unwrap();
        assert_eq!(request.uri(), "http://Shop.example:80/a%2Fb//c?x=%zz&{}|^");
        assert_eq!(request.headers().get_all("x-first").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert!(request.headers().get("host").is_none() && request.headers().get("te").is_none());
        assert_eq!(again(&request).headers(), request.headers());
    }

    #[test]
    fn what_the_types_cannot_hold_is_not_sent_as_something_else() {
        for (target, host) in [("/a#b", "a"), ("/", "a b"), ("/a\u{7f}", "a")] {
            assert!(
                request(&RequestHead::of(Method::GET, target, &[("host", host)])).is_none(),
                "{target} {host}"
            );
        }
    }
}
