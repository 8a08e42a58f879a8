//! What a body looks like that its media type does not say: servers exist that go by the look.

/// Bytes in which a document type declaration is looked for, or what no text holds.
const PROLOGUE: usize = 4096;

/// Begins as a JSON object or array does. Many readers stop where that ends, so what follows it says nothing.
pub(super) fn is_like_json(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    matches!(body.first(), Some(b'{' | b'['))
}

/// Text in which nothing but printable characters of ASCII stands before the first `=`. What usual names look like does
/// not count: a reader of forms takes any bytes, and so any other field may stand before the one that matters.
pub(super) fn is_like_form(body: &[u8]) -> bool {
    let text = body.trim_ascii_start();
    let is_printable = |byte: &u8| matches!(byte, b' '..=b'~');
    memchr::memchr(b'=', text).is_some_and(|equals| text[..equals].iter().all(is_printable))
        && memchr::memchr(0, &body[..body.len().min(PROLOGUE)]).is_none()
        && !is_like_markup(body)
}

/// Begins as markup does.
pub(super) fn is_like_markup(body: &[u8]) -> bool {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start().starts_with(b"<")
}

/// Has a document type declaration (XML 1.0, section 2.8) near its beginning.
pub(super) fn has_document_type(body: &[u8]) -> bool {
    memchr::memmem::find(&body[..body.len().min(PROLOGUE)], b"<!DOCTYPE").is_some()
}

/// Not in a superset of ASCII: a byte order mark of UTF-16 or UTF-32, or NUL where text begins.
pub(super) fn is_wide(body: &[u8]) -> bool {
    let start = &body[..body.len().min(4)];
    start.starts_with(b"\xfe\xff") || start.starts_with(b"\xff\xfe") || start.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks() {
        assert!(
            is_like_json(b"\xef\xbb\xbf {\"a\":1}\n") && is_like_json(b"[]") && is_like_json(b"{} and more")
        );
        assert!(!is_like_json(b"warning: [x]") && !is_like_json(b"") && !is_like_json(b"1"));
        assert!(is_like_form(b"user[name]=a&b=c") && is_like_form(b"a="));
        assert!(is_like_form(b"&a=1") && is_like_form(b"=&two words=a") && is_like_form(b"\r\na=1"));
        assert!(!is_like_form(b"name") && !is_like_form(b"") && !is_like_form(&[b'a'; 200]));
        assert!(!is_like_form(b"\x89PNG\r\n=") && !is_like_form(b"a=\0b") && !is_like_form(b"<a href=b>"));
        assert!(is_wide(b"\xff\xfe<\0") && is_wide(b"\0<\0?") && !is_wide(b"<?xml") && !is_wide(b""));
    }
}
