//! What the head of a request has to be (RFC 9113 section 8.3), beyond what the `h2` crate has refused already.

use http::Version;
use http::request::Parts;

use crate::config::ProxyLimits;
use crate::downstream::Downstream;
use crate::fields::Fields;
use crate::head::{Authority, RequestHead, RequestLine, Target, can_be_met, check_method, parse_target};
use crate::refusal::Refusal;
use crate::wire::{Field, Framing, Lengths, Violation, is_twin_of_known_name};

/// Fields that are of a connection in HTTP/1.1, and have no place here (RFC 9113 section 8.2.2).
const CONNECTION_SPECIFIC: [&str; 6] =
    ["connection", "http2-settings", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// A request whose head was in order.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) head: RequestHead,
    /// Bytes of the body, where the head says so.
    pub(super) length: Option<u64>,
    /// Whether the client waits to be told to send the body (RFC 9110 section 10.1.1).
    pub(super) expects_continue: bool,
}

/// Makes of a head what it would be in HTTP/1.1: Host first, and one Cookie (RFC 9113 section 8.2.3). The other fields keep the
/// order of their names, which is all that the `h2` crate tells of it.
pub(super) fn read(parts: &Parts, downstream: &Downstream, limits: &ProxyLimits) -> Result<Request, Refusal> {
    check_method(parts.method.as_str().as_bytes())?;
    let scheme = downstream.scheme();
    // Without `:authority` the crate does not tell.
    if parts.uri.scheme_str().is_some_and(|said| !said.eq_ignore_ascii_case(scheme.as_str())) {
        return Err(Refusal::Scheme);
    }
    let target = parts.uri.path_and_query().ok_or(Refusal::TargetForm)?.as_str();
    if parts.method.as_str().len() + target.len() + " HTTP/1.1 ".len() > limits.line_bytes {
        return Err(Refusal::RequestLineTooLong);
    }
    if parse_target(target.as_bytes(), scheme)? != Target::Origin {
        return Err(Refusal::TargetForm);
    }
    let mut fields = Fields::default();
    fields.complete(target.as_bytes().to_vec());
    fields.push(b"host", authority(parts, downstream)?);
    let mut facts = Facts::default();
    for name in parts.headers.keys() {
        let values = parts.headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
        let name = name.as_str();
        if name == "host" {
            continue;
        }
        if name == "cookie" {
            let mut crumbs = values.peekable();
            let first = crumbs.next().unwrap_or_default();
            if crumbs.peek().is_some() {
                let joined = crumbs.fold(first.to_vec(), |mut joined, crumb| {
                    joined.extend_from_slice(b"; ");
                    joined.extend_from_slice(crumb);
                    joined
                });
                facts.add(&mut fields, name, &joined, limits)?;
            } else {
                facts.add(&mut fields, name, first, limits)?;
            }
            continue;
        }
        for value in values {
            facts.add(&mut fields, name, value, limits)?;
        }
    }
    let length = match facts.lengths.framing(false)? {
        Framing::Length(length) => Some(length),
        Framing::Unsaid | Framing::Chunked => None,
    };
    let line = RequestLine {
        method: parts.method.clone(),
        version: Version::HTTP_2,
        path_and_query: 0..target.len(),
    };
    let head = RequestHead::new(line, fields);
    Ok(Request { head, length, expects_continue: facts.expects_continue })
}

/// The host that the request is for: `:authority`, or Host, or both if they agree.
fn authority<'a>(parts: &'a Parts, downstream: &Downstream) -> Result<&'a [u8], Refusal> {
    let scheme = downstream.scheme();
    let mut hosts = parts.headers.get_all(http::header::HOST).iter().map(http::HeaderValue::as_bytes);
    let (host, another) = (hosts.next(), hosts.next());
    if another.is_some() {
        return Err(Refusal::RepeatedHost);
    }
    let said = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let text = said.or(host).ok_or(Refusal::NoHost)?;
    let authority = Authority::parse(text, scheme).ok_or(Refusal::Host)?;
    if let (Some(_), Some(host)) = (said, host)
        && Authority::parse(host, scheme) != Some(authority)
    {
        return Err(Refusal::OtherAuthority);
    }
    match &downstream.tls {
        Some(tls) if !tls.names.cover(&authority.host()) => Err(Refusal::Misdirected),
        _ => Ok(text),
    }
}

/// What the fields say so far.
#[derive(Debug, Default)]
struct Facts {
    lengths: Lengths,
    expects_continue: bool,
    /// Host is one.
    lines: usize,
}

impl Facts {
    fn add(
        &mut self,
        fields: &mut Fields,
        name: &str,
        value: &[u8],
        limits: &ProxyLimits,
    ) -> Result<(), Refusal> {
        let field = Field { name: name.as_bytes(), value };
        self.lines += 1;
        if self.lines + 1 > limits.headers {
            return Err(Violation::TooManyHeaders.into());
        }
        if name.len() + ": ".len() + value.len() > limits.line_bytes {
            return Err(Violation::LineTooLong.into());
        }
        if is_padded(value) {
            return Err(Refusal::Padding);
        }
        if is_twin_of_known_name(field.name) {
            return Err(Refusal::Twin);
        }
        if CONNECTION_SPECIFIC.contains(&name) || name == "te" && !value.eq_ignore_ascii_case(b"trailers") {
            return Err(Refusal::ConnectionSpecific);
        }
        if name == "expect" {
            if !can_be_met(value) {
                return Err(Refusal::Expectation);
            }
            self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
        }
        self.lengths.add(&field)?;
        fields.push(field.name, value);
        Ok(())
    }
}

/// Whether there is white space around a value (RFC 9113 section 8.2.1).
pub(super) fn is_padded(value: &[u8]) -> bool {
    matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str, lines: &[(&str, &str)]) -> Result<Vec<(String, String)>, Refusal> {
        let mut request = http::Request::builder().uri(uri).version(Version::HTTP_2);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let downstream = Downstream::plain("203.0.113.7:50000".parse().unwrap());
        let limits = ProxyLimits { line_bytes: 60, headers: 5, ..ProxyLimits::default() };
        let request = super::read(&parts, &downstream, &limits)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Ok(request.head.fields().iter().map(|(name, value)| (text(name), text(value))).collect())
    }

    #[test]
    fn host_is_first_and_cookie_crumbs_are_one_field() {
        let lines = [("accept", "a"), ("cookie", "a=1"), ("x", "1"), ("cookie", "b=2"), ("accept", "b")];
        let expected =
            [("host", "shop.example"), ("accept", "a"), ("accept", "b"), ("cookie", "a=1; b=2"), ("x", "1")];
        let expected: Vec<_> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(read("http://shop.example/a?b", &lines), Ok(expected));
    }

    #[test]
    fn authority_and_host_agree_or_are_refused() {
        for (uri, host, result) in [
            ("http://a/", &["a"][..], Ok("a")),
            ("http://a/", &["A:80"], Ok("a")),
            ("/", &["a"], Ok("a")),
            ("http://a/", &["b"], Err(Refusal::OtherAuthority)),
            ("http://a/", &["a:81"], Err(Refusal::OtherAuthority)),
            ("http://a/", &[""], Err(Refusal::OtherAuthority)),
            ("http://a/", &["a", "a"], Err(Refusal::RepeatedHost)),
            ("http://user@a/", &[], Err(Refusal::Host)),
            ("/", &[], Err(Refusal::NoHost)),
            ("https://a/", &[], Err(Refusal::Scheme)),
        ] {
            let lines: Vec<_> = host.iter().map(|host| ("host", *host)).collect();
            let expected = result.map(|host: &str| vec![("host".to_owned(), host.to_owned())]);
            assert_eq!(read(uri, &lines), expected, "{uri} {host:?}");
        }
    }

    #[test]
    fn a_head_is_held_to_what_one_in_http_1_is_held_to() {
        let long = "x".repeat(60);
        for (uri, lines, refusal) in [
            ("http://a/../b", &[][..], Refusal::DotSegment),
            ("http://a//b/c", &[], Refusal::EmptySegment),
            ("http://a/%5c", &[], Refusal::HiddenSlash),
            (&format!("http://a/{long}"), &[], Refusal::RequestLineTooLong),
            ("http://a/", &[("x", &*long)], Violation::LineTooLong.into()),
            ("http://a/", &[("x", "1"); 5], Violation::TooManyHeaders.into()),
            ("http://a/", &[("content_length", "1")], Refusal::Twin),
            ("http://a/", &[("x", " 1")], Refusal::Padding),
            ("http://a/", &[("x", "1\t")], Refusal::Padding),
            ("http://a/", &[("connection", "close")], Refusal::ConnectionSpecific),
            ("http://a/", &[("upgrade", "h2c")], Refusal::ConnectionSpecific),
            ("http://a/", &[("te", "gzip")], Refusal::ConnectionSpecific),
            ("http://a/", &[("expect", "200-ok")], Refusal::Expectation),
            ("http://a/", &[("content-length", "01")], Violation::LengthSyntax.into()),
            (
                "http://a/",
                &[("content-length", "1"), ("content-length", "1")],
                Violation::RepeatedLength.into(),
            ),
        ] {
            assert_eq!(read(uri, lines), Err(refusal), "{uri} {lines:?}");
        }
        assert!(read("http://a/", &[("te", "trailers"), ("x", "1"), ("x", "1"), ("x", "1")]).is_ok());
    }
}
