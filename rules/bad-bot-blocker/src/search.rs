//! Finds a blocked name in a user agent.
//!
//! Wu and Manber's search (A fast algorithm for multi-pattern searching, 1994) with blocks of two bytes: what stands at
//! the end of a window of four bytes tells how far the next name can begin, so most bytes are never looked at. A longer
//! list costs next to nothing, and the dearest user agent stays below what `fuelPerByte` pays for.

use core::ops::Range;

use crate::names::NAMES;

/// Bytes of every name that the window is compared with: as many as the shortest has.
const WINDOW: usize = 4;
/// What a window moves when no name has its last two bytes.
#[expect(clippy::cast_possible_truncation, reason = "3")]
const FARTHEST: u8 = WINDOW as u8 - 1;

/// For the last two bytes of a window: from 1 to [`FARTHEST`] how many bytes to move on, or beyond that
/// `FIRST + index` of a name that may begin here.
const TABLE: [u8; 1024] = {
    let mut table = [FARTHEST; 1024];
    let mut index = 0;
    while index < NAMES.len() {
        let name = NAMES[index].as_bytes();
        let first = place(name[0], name[1]);
        let second = place(name[1], name[2]);
        let last = place(name[2], name[3]);
        if table[first] > 2 && table[first] < FIRST {
            table[first] = 2;
        }
        if table[second] < FIRST {
            table[second] = 1;
        }
        table[last] = number(index);
        index += 1;
    }
    table
};

/// The number of the first name.
const FIRST: u8 = FARTHEST + 1;

/// For each name the number of the one before it with the same place, or 0.
const BEFORE: [u8; NAMES.len()] = {
    let mut before = [0; NAMES.len()];
    let mut index = 0;
    while index < NAMES.len() {
        let mut other = 0;
        while other < index {
            if end_of_window(other) == end_of_window(index) {
                before[index] = number(other);
            }
            other += 1;
        }
        index += 1;
    }
    before
};

const fn end_of_window(index: usize) -> usize {
    let name = NAMES[index].as_bytes();
    place(name[2], name[3])
}

#[expect(clippy::cast_possible_truncation, reason = "a prefilter has at most 64 literals")]
const fn number(index: usize) -> u8 {
    FIRST + index as u8
}

/// Two bytes' place in [`TABLE`]: the same for letters in either case, and for a few other bytes.
const fn place(first: u8, second: u8) -> usize {
    (first & 31) as usize | ((second & 31) as usize) << 5
}

/// A name that was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its index in [`NAMES`].
    pub(crate) name: usize,
    /// Where it stands.
    pub(crate) at: Range<usize>,
}

/// The first blocked name that stands in `agent` as a word of its own, ASCII letters in either case.
///
/// A word begins and ends where a letter or digit meets something else, so `zgrab/0.x` and `(Nikto/2.1.6)` are found
/// and `Denmap` is not.
pub(crate) fn named_in(agent: &[u8]) -> Option<Found> {
    let mut rest = agent;
    while let [_, _, first, second, ..] = *rest {
        let step = TABLE[place(first, second)];
        if step < FIRST {
            rest = &rest[usize::from(step)..];
            continue;
        }
        let start = agent.len() - rest.len();
        let in_word = start.checked_sub(1).is_some_and(|before| agent[before].is_ascii_alphanumeric());
        if !in_word && let Some(name) = name_of(rest, step) {
            return Some(Found { name, at: start..start + NAMES[name].len() });
        }
        rest = &rest[1..];
    }
    None
}

/// The name that `text` begins with, and that ends where a word ends: the one of this number, or one of those before it
/// with its place.
fn name_of(text: &[u8], mut number: u8) -> Option<usize> {
    while let Some(index) = number.checked_sub(FIRST) {
        let name = NAMES[usize::from(index)].as_bytes();
        // All bytes of names have this bit, which letters in upper case lack.
        let is_like = |(byte, expected): (&u8, &u8)| byte | 0x20 == *expected;
        if text.len() >= name.len()
            && !text.get(name.len()).is_some_and(u8::is_ascii_alphanumeric)
            && text.iter().zip(name).all(is_like)
            && text[..name.len()].eq_ignore_ascii_case(name)
        {
            return Some(index.into());
        }
        number = BEFORE[usize::from(index)];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same, by comparing each name at each byte.
    fn plainly_named_in(agent: &[u8]) -> Option<Found> {
        let in_word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        (0..agent.len()).find_map(|start| {
            let (before, rest) = agent.split_at(start);
            let name = NAMES.iter().position(|name| {
                rest.split_at_checked(name.len()).is_some_and(|(text, after)| {
                    text.eq_ignore_ascii_case(name.as_bytes()) && !in_word(after.first())
                })
            })?;
            (!in_word(before.last())).then(|| Found { name, at: start..start + NAMES[name].len() })
        })
    }

    #[test]
    fn every_name_is_found_wherever_it_stands() {
        for (name, text) in NAMES.iter().enumerate() {
            for before in 0..9 {
                let agent = format!("{}{}/1.0", "Ab (x; ,".split_at(before.min(8)).0, text.to_uppercase());
                let found = named_in(agent.as_bytes());
                assert_eq!(found, plainly_named_in(agent.as_bytes()), "{agent}");
                if !agent[..before.min(8)].ends_with(char::is_alphanumeric) {
                    assert_eq!(found.map(|found| found.name), Some(name), "{agent}");
                }
            }
        }
    }

    #[test]
    fn pieces_of_names_hide_no_name_and_make_none() {
        for first in NAMES {
            for second in NAMES {
                for cut in 0..5 {
                    let agent = format!("{}{} {}", &first[..cut], second, &first[cut.min(first.len())..]);
                    assert_eq!(named_in(agent.as_bytes()), plainly_named_in(agent.as_bytes()), "{agent}");
                }
            }
        }
    }

    #[test]
    fn a_name_counts_as_a_word_only() {
        for agent in
            ["nmap", "NMAP", "x nmap", "nmap/7", "(nmap)", "_nmap_", "nmap.org", "a-nmap-b", "é nmap"]
        {
            let found = named_in(agent.as_bytes()).map(|found| NAMES[found.name]);
            assert_eq!(found, Some("nmap"), "{agent}");
        }
        for agent in ["", " ", "nma", "nmapx", "xnmap", "1nmap", "nmap2", "n map"] {
            assert_eq!(named_in(agent.as_bytes()), None, "{agent}");
        }
    }

    #[test]
    fn a_name_of_several_words_counts_in_full_only() {
        let name = |agent: &str| named_in(agent.as_bytes()).map(|found| NAMES[found.name]);
        assert_eq!(name("Fuzz Faster U Fool v2.1.0"), Some("fuzz faster u fool"));
        assert_eq!(name("Fuzz Faster U Fooled"), None);
        assert_eq!(name("Grendel-Scan/1.0"), Some("grendel-scan"));
    }
}
