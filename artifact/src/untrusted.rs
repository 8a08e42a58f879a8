//! Text of a registry, made fit for a message: conditions and logs must not grow or change shape at its will.

/// At most this many characters of a registry's text go into a message.
const MAX_CHARS: usize = 200;

/// One line, without control characters, cut to [`MAX_CHARS`].
pub(crate) fn excerpt(text: &str) -> String {
    let mut line = String::new();
    let mut written = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if written > 0 {
            line.push(' ');
            written += 1;
        }
        for character in word.chars() {
            if written >= MAX_CHARS {
                line.push('…');
                return line;
            }
            line.push(character);
            written += 1;
        }
    }
    line
}

/// The same for bytes that may not be text.
pub(crate) fn excerpt_bytes(bytes: &[u8]) -> String {
    excerpt(&String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_line_breaks_become_single_spaces() {
        assert_eq!(excerpt(" a\r\n\x1b[31mb\t\0c "), "a [31mb c");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(excerpt(&"ä".repeat(5000)).chars().count(), MAX_CHARS + 1);
        assert_eq!(excerpt_bytes(&[0xff; 3]).chars().count(), 3);
    }
}
