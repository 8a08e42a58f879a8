//! Ids of events.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use ulid::Ulid;

/// The field that carries the id of an event: of an answer that a rule gives, and of a request in which rules found something
/// and that goes on.
pub(crate) const EVENT_ID_FIELD: &str = "x-portcullis-event-id";

/// Identifies one event: a ULID, so that later ones sort after earlier ones (<https://github.com/ulid/spec>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventId(Ulid);

impl EventId {
    /// A new id for an event of this moment.
    pub(crate) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // 48 bits of milliseconds last for 9,000 years.
        Self(Ulid::from_parts(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), rand::random()))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_is_a_ulid_of_its_moment() {
        let before = SystemTime::now() - std::time::Duration::from_millis(1);
        let (one, other) = (EventId::new(), EventId::new());
        assert_ne!(one, other);
        assert_eq!(one.to_string().len(), 26);
        assert!(one.0.datetime() >= before);
        assert_eq!(one.to_string().parse(), Ok(one.0));
    }
}
