//! What may be shown on a terminal.

/// Modules and registries are untrusted: what they name must not steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(printable("exports \x1b[2J\u{9b}2J\r\nü"), "exports \\u{1b}[2J\\u{9b}2J\\r\nü");
    }
}
