//! The target of a request line: which forms and paths are served.

use super::authority::Authority;
use crate::refusal::Refusal;
use crate::scheme::Scheme;

/// A target that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// `/path?query`.
    Origin,
    /// `http://authority/path?query`. It has to name what Host names; only path and query go on.
    Absolute { authority: &'a [u8], path_and_query: &'a [u8] },
}

/// Reads the target of any method but CONNECT (RFC 9112 section 3.2).
pub(crate) fn parse_target(target: &[u8], scheme: Scheme) -> Result<Target<'_>, Refusal> {
    if target == b"*" {
        return Err(Refusal::Asterisk);
    }
    if let Some(b'/') = target.first() {
        path_and_query(target)?;
        return Ok(Target::Origin);
    }
    let rest = after_scheme(target, scheme).ok_or(Refusal::TargetForm)?;
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    if Authority::parse(authority, scheme).is_none() {
        return Err(Refusal::OtherAuthority);
    }
    if !rest.is_empty() {
        path_and_query(rest)?;
    }
    Ok(Target::Absolute { authority, path_and_query: rest })
}

/// What follows `http://`, or `https://` on a connection by TLS.
fn after_scheme(target: &[u8], scheme: Scheme) -> Option<&[u8]> {
    let name = scheme.as_str().as_bytes();
    let (start, rest) = target.split_at_checked(name.len())?;
    rest.strip_prefix(b"://").filter(|_| start.eq_ignore_ascii_case(name))
}

fn path_and_query(text: &[u8]) -> Result<(), Refusal> {
    if text.contains(&b'#') {
        return Err(Refusal::Fragment);
    }
    let end = memchr::memchr(b'?', text).unwrap_or(text.len());
    path(&text[..end])?;
    if !text[end..].iter().all(|&byte| is_query_byte(byte)) {
        return Err(Refusal::TargetCharacter);
    }
    Ok(())
}

/// What browsers send unencoded in a query. An invalid escape is left to the rules: `?q=100%` is common.
fn is_query_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>')
}

/// RFC 3986 `pchar`, and what browsers leave unencoded in a path.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
                | b'%'
                | b'/'
                | b'['
                | b']'
                | b'|'
                | b'^'
        )
}

fn path(path: &[u8]) -> Result<(), Refusal> {
    // Most paths have nothing to decode and nothing to doubt.
    let mut doubtful = false;
    for &byte in path {
        if byte == b'\\' {
            return Err(Refusal::HiddenSlash);
        }
        if !is_path_byte(byte) {
            return Err(Refusal::TargetCharacter);
        }
        doubtful |= matches!(byte, b'%' | b'.');
    }
    if doubtful {
        escapes(path)?;
    }
    // Some read an authority there. Further on, repeated and encoded slashes are for routes to allow or not.
    if after_slash(path).is_some_and(|rest| after_slash(rest).is_some()) {
        return Err(Refusal::EmptySegment);
    }
    if doubtful && has_dot_segment(path) {
        return Err(Refusal::DotSegment);
    }
    Ok(())
}

/// What follows a slash, encoded or not.
fn after_slash(path: &[u8]) -> Option<&[u8]> {
    match path {
        [b'/', rest @ ..] | [b'%', b'2', b'f' | b'F', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// Whether a server that decodes before it splits, or after, finds `.` or `..` between slashes.
fn has_dot_segment(path: &[u8]) -> bool {
    let mut segment = 0;
    for at in 0..=path.len() {
        let is_end = at == path.len() || after_slash(&path[at..]).is_some();
        if is_end && segment <= at {
            if is_dots(&path[segment..at]) {
                return true;
            }
            segment = at + if path.get(at) == Some(&b'%') { 3 } else { 1 };
        }
    }
    false
}

fn escapes(path: &[u8]) -> Result<(), Refusal> {
    for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let decoded = path
            .get(at + 1..at + 3)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
            .ok_or(Refusal::Escape)?;
        match decoded {
            b'\\' => return Err(Refusal::HiddenSlash),
            decoded if decoded.is_ascii_control() => return Err(Refusal::EncodedControl),
            _ => (),
        }
    }
    Ok(())
}

/// `.` and `..`, also with `%2e`, also before a `;`, where some servers cut path parameters off.
fn is_dots(segment: &[u8]) -> bool {
    let end = memchr::memchr(b';', segment).unwrap_or(segment.len());
    let mut rest = &segment[..end];
    let mut dots = 0;
    loop {
        rest = match rest {
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            [] => return dots == 1 || dots == 2,
            _ => return false,
        };
        dots += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_of_an_absolute_target_is_the_one_of_the_connection() {
        for (target, scheme, is_served) in [
            ("https://a/", Scheme::Https, true),
            ("HTTPS://a/", Scheme::Https, true),
            ("http://a/", Scheme::Https, false),
            ("https://a/", Scheme::Http, false),
        ] {
            assert_eq!(super::parse_target(target.as_bytes(), scheme).is_ok(), is_served, "{target}");
        }
    }

    fn parse_target(target: &[u8]) -> Result<Target<'_>, Refusal> {
        super::parse_target(target, Scheme::Http)
    }

    #[test]
    fn paths_and_http_urls_are_served() {
        for target in [
            "/",
            "/?",
            "/a/b/",
            "/a%20b",
            "/.well-known/x",
            "/a/...",
            "/a.b/..c",
            "/a;v=1/b",
            "/a//b",
            "/a//",
            "/@scope%2fpkg",
            "/a%2Fb",
            "/%E2%82%AC",
            "/a?b=//../%zz",
            "/x?a[]=1|2^3`{}\\",
            "/%252e%252e/",
            "/@user/~x!$&'()*+,=:",
        ] {
            assert_eq!(parse_target(target.as_bytes()), Ok(Target::Origin), "{target}");
        }
        for (target, authority, rest) in [
            ("http://a/", "a", "/"),
            ("HTTP://a:80/x?y", "a:80", "/x?y"),
            ("http://a", "a", ""),
            ("http://[::1]?x", "[::1]", "?x"),
        ] {
            let (authority, path_and_query) = (authority.as_bytes(), rest.as_bytes());
            let expected = Target::Absolute { authority, path_and_query };
            assert_eq!(parse_target(target.as_bytes()), Ok(expected), "{target}");
        }
    }

    #[test]
    fn each_refused_target_has_its_own_reason() {
        for (target, refusal) in [
            ("*", Refusal::Asterisk),
            ("foo", Refusal::TargetForm),
            ("foo/bar", Refusal::TargetForm),
            ("?x", Refusal::TargetForm),
            ("https://a/", Refusal::TargetForm),
            ("ftp://a/", Refusal::TargetForm),
            ("http:/a", Refusal::TargetForm),
            ("http://", Refusal::OtherAuthority),
            ("http://user@a/", Refusal::OtherAuthority),
            ("http://a:b@c/", Refusal::OtherAuthority),
            ("http:///x", Refusal::OtherAuthority),
            ("/#f", Refusal::Fragment),
            ("/a?b#f", Refusal::Fragment),
            ("http://a#f", Refusal::Fragment),
            ("//", Refusal::EmptySegment),
            ("//host/x", Refusal::EmptySegment),
            ("/.", Refusal::DotSegment),
            ("/..", Refusal::DotSegment),
            ("/a/../b", Refusal::DotSegment),
            ("/a/%2e%2E/b", Refusal::DotSegment),
            ("/a/.%2e", Refusal::DotSegment),
            ("/a/..;/b", Refusal::DotSegment),
            ("/a%2f..%2fb", Refusal::DotSegment),
            ("/a/..%2fb", Refusal::DotSegment),
            ("/a//../b", Refusal::DotSegment),
            ("/a%2F%2e", Refusal::DotSegment),
            ("/%2fhost/x", Refusal::EmptySegment),
            ("http://a//b", Refusal::EmptySegment),
            ("/a%5cb", Refusal::HiddenSlash),
            ("/a\\b", Refusal::HiddenSlash),
            ("/a%00", Refusal::EncodedControl),
            ("/a%0d%0a", Refusal::EncodedControl),
            ("/a%", Refusal::Escape),
            ("/a%2", Refusal::Escape),
            ("/a%zz", Refusal::Escape),
            ("/a%u0041", Refusal::Escape),
            ("/a\"b", Refusal::TargetCharacter),
            ("/<x>", Refusal::TargetCharacter),
            ("/a?<x>", Refusal::TargetCharacter),
            ("/\u{fc}", Refusal::TargetCharacter),
            ("/?\u{fc}", Refusal::TargetCharacter),
            ("/\0", Refusal::TargetCharacter),
            ("/\t", Refusal::TargetCharacter),
        ] {
            assert_eq!(parse_target(target.as_bytes()), Err(refusal), "{target:?}");
        }
    }
}
