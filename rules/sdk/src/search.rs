//! Finding a word in bytes.

/// Where `needle` first stands in `text`, ASCII letters in either case. An empty needle stands nowhere.
///
/// About six instructions for a byte that does not begin the needle. For many needles declare a pattern set and use
/// [`match_set`](crate::match_set).
#[must_use]
pub fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle.first()?;
    let mut start = 0;
    loop {
        let rest = text.get(start..)?;
        start += rest.iter().position(|byte| byte.eq_ignore_ascii_case(first))?;
        if text.get(start..start.checked_add(needle.len())?)?.eq_ignore_ascii_case(needle) {
            return Some(start);
        }
        start += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn letters_match_in_either_case_and_other_bytes_exactly() {
        assert_eq!(find(b"Mozilla/5.0 SQLmap", b"sqlmap"), Some(12));
        assert_eq!(find(b"sqlmap", b"SQLMAP"), Some(0));
        assert_eq!(find(b"a{b", b"a[b"), None);
        assert_eq!(find(b"\xffX\xff", b"x\xff"), Some(1));
    }

    #[test]
    fn a_false_start_hides_nothing() {
        assert_eq!(find(b"aaab", b"aab"), Some(1));
        assert_eq!(find(b"sqsqlmap", b"sqlmap"), Some(2));
    }

    #[test]
    fn what_does_not_fit_is_not_found() {
        assert_eq!(find(b"", b"a"), None);
        assert_eq!(find(b"sqlma", b"sqlmap"), None);
        assert_eq!(find(b"abc", b""), None);
    }
}
