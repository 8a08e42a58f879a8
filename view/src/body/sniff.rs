//! What a body looks like that its media type does not say: servers exist that go by the look.

/// Bytes in which a document type declaration is looked for.
const PROLOGUE: usize = 4096;
/// Longest name of a first field that is taken for one.
const FIELD_NAME: usize = 128;

/// Begins and ends as a JSON object or array does.
pub(super) fn is_like_json(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
    matches!(body, [b'{', .., b'}'] | [b'[', .., b']'])
}

/// Begins with a form field: a name of the usual characters, then `=`.
pub(super) fn is_like_form(body: &[u8]) -> bool {
    let start = &body[..body.len().min(FIELD_NAME)];
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.%+[]$~*!".contains(&byte);
    start.iter().position(|&byte| !is_name(byte)).is_some_and(|end| end > 0 && start[end] == b'=')
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
        assert!(is_like_json(b"\xef\xbb\xbf {\"a\":1}\n") && is_like_json(b"[]"));
        assert!(!is_like_json(b"{") && !is_like_json(b"[warning] a line of text") && !is_like_json(b""));
        assert!(is_like_form(b"user[name]=a&b=c") && is_like_form(b"a="));
        assert!(!is_like_form(b"=a") && !is_like_form(b"two words=a") && !is_like_form(b"name"));
        assert!(!is_like_form(&[b'a'; 200]));
        assert!(is_wide(b"\xff\xfe<\0") && is_wide(b"\0<\0?") && !is_wide(b"<?xml") && !is_wide(b""));
    }
}
