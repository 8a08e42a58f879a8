//! Text out of a module as it may stand in a message: nobody writes lines of a log, or to a terminal, by naming an
//! export so.

/// A name out of a module as it may stand in a message: no control characters, not longer than a line.
pub(crate) fn printable(name: &str) -> String {
    shortened(name, 60)
}

/// What a parser says about a module, which may quote any of it.
pub(crate) fn one_line(message: &str) -> String {
    shortened(&message.replace('\n', " "), 300)
}

fn shortened(text: &str, longest: usize) -> String {
    let mut line: String = text.chars().filter(|c| !c.is_control()).take(longest).collect();
    if text.chars().nth(longest).is_some() {
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_quoted_moves_a_cursor_or_fills_a_page() {
        assert_eq!(printable("a\n\u{1b}[31mb\0"), "a[31mb");
        assert_eq!(one_line("a\nb\u{85}"), "a b");
        assert_eq!(printable(&"x".repeat(61)), format!("{}...", "x".repeat(60)));
        assert_eq!(printable(&"x".repeat(60)), "x".repeat(60));
        assert_eq!(one_line(&"ü".repeat(100_000)).chars().count(), 303);
    }
}
