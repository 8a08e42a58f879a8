//! The value of a block string: without the indentation that its lines have in common (GraphQL, September 2025,
//! section 2.10.4, BlockStringValue).

use crate::body::json::string::Decoded;

/// Adds the value of what stands between `"""` and `"""` to `out`. It is never longer.
pub(super) fn decode(raw: &[u8], out: &mut Vec<u8>) -> Decoded {
    let indentation =
        Lines { rest: Some(raw) }.skip(1).filter(|line| !is_blank(line)).map(white_space).min().unwrap_or(0);
    let begin = out.len();
    let mut end = begin;
    for (index, line) in (Lines { rest: Some(raw) }).enumerate() {
        let is_blank = is_blank(line);
        if end == begin && is_blank {
            // Blank lines at the beginning do not count, nor do those at the end, which `end` leaves out.
            out.truncate(begin);
            continue;
        }
        if out.len() > begin {
            out.push(b'\n');
        }
        let line = if index == 0 { line } else { &line[indentation.min(line.len())..] };
        push_unescaped(line, out);
        if !is_blank {
            end = out.len();
        }
    }
    out.truncate(end);
    Decoded::Whole
}

/// Lines that CRLF, LF or CR end.
struct Lines<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let Some(end) = memchr::memchr2(b'\r', b'\n', rest) else {
            self.rest = None;
            return Some(rest);
        };
        let after = &rest[end..];
        self.rest = Some(after.strip_prefix(b"\r\n").unwrap_or(&after[1..]));
        Some(&rest[..end])
    }
}

fn white_space(line: &[u8]) -> usize {
    line.iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count()
}

fn is_blank(line: &[u8]) -> bool {
    white_space(line) == line.len()
}

/// `\"""` stands for `"""`; nothing else is an escape.
fn push_unescaped(line: &[u8], out: &mut Vec<u8>) {
    let mut rest = line;
    while let Some(escape) = memchr::memmem::find(rest, b"\\\"\"\"") {
        out.extend_from_slice(&rest[..escape]);
        out.extend_from_slice(b"\"\"\"");
        rest = &rest[escape + 4..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    fn decode(raw: &str) -> String {
        let mut out = Vec::new();
        let _ = super::decode(raw.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn common_indentation_is_removed() {
        assert_eq!(
            decode("\n    Hello,\n      World!\n\n    Yours,\n      GraphQL.\n  "),
            "Hello,\n  World!\n\nYours,\n  GraphQL."
        );
        assert_eq!(decode("  a\r\n   b\r c"), "  a\n  b\nc");
    }

    #[test]
    fn blank_lines_at_both_ends_are_removed() {
        assert_eq!(decode("\n \n\t\na\n\nb\n \n\n"), "a\n\nb");
        assert_eq!(decode(" \n \n"), "");
        assert_eq!(decode(""), "");
    }

    #[test]
    fn three_quotes_can_be_escaped() {
        assert_eq!(decode(r#"a \""" b \n \" c"#), r#"a """ b \n \" c"#);
    }
}
