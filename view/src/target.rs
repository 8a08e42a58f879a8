//! The parts of a request target (RFC 9112, 3.2).

/// A target, taken apart. What is not there is None.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// None of `CONNECT example.com:443`. Length 0 of `http://example.com`.
    pub(crate) path: Option<&'a [u8]>,
    /// What follows the first `?`.
    pub(crate) query: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    /// Never fails: what is wrong in a part is told where that part is read.
    pub(crate) fn of(target: &'a [u8]) -> Self {
        let (before, query) = match memchr::memchr(b'?', target) {
            Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
            None => (target, None),
        };
        let path = match before {
            [] => None,
            [b'/', ..] => Some(before),
            _ => without_authority(before),
        };
        Self { path, query }
    }
}

/// The path of `scheme://authority/path`, none of `host:port`. Anything else is all path, and not a good one.
fn without_authority(target: &[u8]) -> Option<&[u8]> {
    let Some(colon) = memchr::memchr(b':', target) else { return Some(target) };
    match &target[colon + 1..] {
        [b'/', b'/', hierarchical @ ..] => {
            let slash = memchr::memchr(b'/', hierarchical).unwrap_or(hierarchical.len());
            Some(&hierarchical[slash..])
        }
        _ if is_authority(target) => None,
        _ => Some(target),
    }
}

fn is_authority(target: &[u8]) -> bool {
    let port = memchr::memrchr(b':', target).map_or(&[][..], |colon| &target[colon + 1..]);
    !port.is_empty() && port.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::Target;

    fn parts(target: &str) -> (Option<&str>, Option<&str>) {
        let Target { path, query } = Target::of(target.as_bytes());
        let text = |part| std::str::from_utf8(part).expect("ASCII");
        (path.map(text), query.map(text))
    }

    #[test]
    fn every_form_of_a_target_is_taken_apart() {
        assert_eq!(parts("/a?b=c?d"), (Some("/a"), Some("b=c?d")));
        assert_eq!(parts("/a?"), (Some("/a"), Some("")));
        assert_eq!(parts("http://example.com/a?b"), (Some("/a"), Some("b")));
        assert_eq!(parts("http://example.com?b"), (Some(""), Some("b")));
        assert_eq!(parts("//example.com/a"), (Some("//example.com/a"), None));
        assert_eq!(parts("*"), (Some("*"), None));
        assert_eq!(parts("example.com:443"), (None, None));
        assert_eq!(parts("[::1]:443"), (None, None));
        assert_eq!(parts("admin:x?y"), (Some("admin:x"), Some("y")));
        assert_eq!(parts(""), (None, None));
    }
}
