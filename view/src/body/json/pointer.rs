//! Where in a JSON text a value stands, as a JSON Pointer (RFC 6901).

use crate::found::Text;

/// A pointer that grows and shrinks with the parser's depth, as keys were sent and as they are decoded.
#[derive(Default)]
pub(super) struct Pointer {
    raw: Vec<u8>,
    decoded: Vec<u8>,
}

/// How far a pointer reached, to cut it back.
#[derive(Clone, Copy, Default)]
pub(super) struct Mark {
    raw: usize,
    decoded: usize,
}

impl Pointer {
    pub(super) fn mark(&self) -> Mark {
        Mark { raw: self.raw.len(), decoded: self.decoded.len() }
    }

    pub(super) fn cut(&mut self, mark: Mark) {
        self.raw.truncate(mark.raw);
        self.decoded.truncate(mark.decoded);
    }

    pub(super) fn push_key(&mut self, raw: &[u8], decoded: &[u8]) {
        push_escaped(&mut self.raw, raw);
        push_escaped(&mut self.decoded, decoded);
    }

    pub(super) fn push_index(&mut self, index: usize) {
        let mut digits = [0; 20];
        let mut start = digits.len();
        let mut left = index;
        loop {
            start -= 1;
            digits[start] = b"0123456789"[left % 10];
            left /= 10;
            if left == 0 {
                break;
            }
        }
        self.push_key(&digits[start..], &digits[start..]);
    }

    pub(super) fn text(&self) -> Text<'_> {
        let decoded = (self.raw != self.decoded).then_some(self.decoded.as_slice());
        Text { raw: &self.raw, decoded }
    }
}

/// Adds `/` and a token, in which `~` is `~0` and `/` is `~1`.
fn push_escaped(pointer: &mut Vec<u8>, token: &[u8]) {
    pointer.push(b'/');
    let mut rest = token;
    while let Some(plain) = memchr::memchr2(b'~', b'/', rest) {
        pointer.extend_from_slice(&rest[..plain]);
        pointer.extend_from_slice(if rest[plain] == b'~' { b"~0" } else { b"~1" });
        rest = &rest[plain + 1..];
    }
    pointer.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_follows_the_path() {
        let mut pointer = Pointer::default();
        assert_eq!(pointer.text().raw, b"");
        pointer.push_key(b"a/b~c", b"a/b~c");
        let mark = pointer.mark();
        pointer.push_index(0);
        pointer.cut(mark);
        pointer.push_index(1203);
        assert_eq!((pointer.text().raw, pointer.text().decoded), (&b"/a~1b~0c/1203"[..], None));
        pointer.push_key(br"\u0062", b"b");
        assert_eq!(pointer.text().decoded, Some(&b"/a~1b~0c/1203/b"[..]));
    }
}
