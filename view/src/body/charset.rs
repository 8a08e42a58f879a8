//! What a charset means for whoever reads the bytes as ASCII or UTF-8.

use crate::abi::Flags;

/// What a rule has to know of text in the charset `name`, of which it sees the bytes:
/// - nothing for UTF-8 and its usual stand-ins;
/// - AMBIGUOUS where only bytes from 0x80 on have another meaning;
/// - MALFORMED where `<` or a quote can stand as other bytes (UTF-16, UTF-7, EBCDIC), where a byte below 0x80 can be
///   the second half of a character (Shift_JIS, GBK, Big5), and for names that are not known.
pub(super) fn flags(name: &[u8]) -> Flags {
    const SAME: [&str; 6] = ["utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1"];
    const SUPERSETS_OF_ASCII: [&str; 5] = ["iso-8859-", "windows-125", "cp125", "koi8-", "euc-"];
    let starts_with = |prefix: &&str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    if SAME.iter().any(|same| name.eq_ignore_ascii_case(same.as_bytes())) {
        Flags::NONE
    } else if SUPERSETS_OF_ASCII.iter().any(starts_with) {
        Flags::AMBIGUOUS
    } else {
        Flags::MALFORMED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charsets_in_which_ascii_hides_are_refused() {
        for name in ["utf-16", "UTF-16LE", "utf-7", "ibm037", "shift_jis", "gbk", "", "x-unknown"] {
            assert_eq!(flags(name.as_bytes()), Flags::MALFORMED, "{name:?}");
        }
    }

    #[test]
    fn supersets_of_ascii_are_ambiguous() {
        for name in ["ISO-8859-15", "windows-1251", "KOI8-R", "euc-jp"] {
            assert_eq!(flags(name.as_bytes()), Flags::AMBIGUOUS, "{name:?}");
        }
        for name in ["UTF-8", "us-ascii", "iso-8859-1"] {
            assert_eq!(flags(name.as_bytes()), Flags::NONE, "{name:?}");
        }
    }
}
