//! The time, as it stands in the API.

use jiff::Timestamp;

/// Now, to the second: the API keeps no more, and what is written has to be equal to what is read back.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
