//! Ids of events.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Identifies one event, as a ULID: 48 bits of milliseconds and 80 random bits in Crockford's
/// base 32 (<https://github.com/ulid/spec>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventId([u8; 26]);

impl EventId {
    /// A new id for an event of this moment.
    pub(crate) fn new() -> Self {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        Self::from_parts(millis, rand::random())
    }

    fn from_parts(millis: u128, random: u128) -> Self {
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let bits = (millis & 0xFFFF_FFFF_FFFF) << 80 | random & (u128::MAX >> 48);
        let mut text = [0; 26];
        for (i, character) in text.iter_mut().enumerate() {
            *character = ALPHABET[(bits >> (5 * (25 - i)) & 31) as usize];
        }
        Self(text)
    }

    /// The 26 characters.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the alphabet is ASCII")
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_is_a_ulid() {
        assert_eq!(EventId::from_parts(0, 0).as_str(), "00000000000000000000000000");
        assert_eq!(EventId::from_parts(u128::MAX, u128::MAX).as_str(), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        // 1469922850259 ms is 01ARZ3NDEK-, the example of the ULID specification's reference code.
        assert_eq!(&EventId::from_parts(1_469_922_850_259, 0).as_str()[..10], "01ARZ3NDEK");
    }

    #[test]
    fn later_events_sort_after_earlier_ones() {
        let ids = [1_000, 2_000, 40_000_000].map(|millis| EventId::from_parts(millis, u128::MAX));
        assert!(ids.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str()));
    }

    #[test]
    fn two_events_of_one_moment_differ() {
        assert_ne!(EventId::new(), EventId::new());
    }
}
