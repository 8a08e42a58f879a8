//! One header line (RFC 9112 section 5).

use super::violation::Violation;

/// Name and value, both as they came; the value without the white space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl Field<'_> {
    /// Whether the name is this one, which is given in lower case.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// Reads a line without its CR LF.
pub(crate) fn parse_field(line: &[u8]) -> Result<Field<'_>, Violation> {
    if let Some(b' ' | b'\t') = line.first() {
        return Err(Violation::ObsoleteFold);
    }
    let colon = memchr::memchr(b':', line).ok_or(Violation::NoColon)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if let Some(b' ' | b'\t') = name.last() {
        return Err(Violation::SpaceBeforeColon);
    }
    if !is_token(name) {
        return Err(Violation::HeaderName);
    }
    if !value.iter().all(|&byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)) {
        return Err(Violation::HeaderValue);
    }
    Ok(Field { name, value: trim(value) })
}

/// The elements of a list, empty ones too (RFC 9110 section 5.6.1).
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether this is a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| TOKEN[usize::from(byte)])
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128u8 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

/// Without spaces and tabs at both ends.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_loses_only_the_white_space_around_it() {
        let field = parse_field(b"Accept:\t a, \tb \t").unwrap();
        assert_eq!((field.name, field.value), (&b"Accept"[..], &b"a, \tb"[..]));
        assert_eq!(parse_field(b"X-Empty:").unwrap().value, b"");
        assert_eq!(parse_field("X: ü".as_bytes()).unwrap().value, "ü".as_bytes());
    }

    #[test]
    fn each_violation_has_its_own_reason() {
        for (line, violation) in [
            (&b" folded"[..], Violation::ObsoleteFold),
            (b"\tfolded", Violation::ObsoleteFold),
            (b"no colon", Violation::NoColon),
            (b"Name : v", Violation::SpaceBeforeColon),
            (b": v", Violation::HeaderName),
            (b"N\xc3\xa4me: v", Violation::HeaderName),
            (b"Na me: v", Violation::HeaderName),
            (b"Na\0me: v", Violation::HeaderName),
            (b"Name: a\0b", Violation::HeaderValue),
            (b"Name: a\rb", Violation::HeaderValue),
            (b"Name: a\x7fb", Violation::HeaderValue),
            (b"Name: a\x0bb", Violation::HeaderValue),
        ] {
            assert_eq!(parse_field(line), Err(violation), "{line:?}");
        }
    }
}
