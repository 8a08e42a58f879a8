//! Words of this program's text in messages that cross to another process of the same program.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde::de::{Deserialize, Deserializer, Error};

/// A literal of the program. Another name for what it is, because serde takes a field of type `&'static str` for one
/// that borrows from what is read.
pub(crate) type Phrase = &'static str;

/// The program has fewer literals in its messages, and shorter ones.
const MOST: usize = 500;
const LONGEST: usize = 500;

/// Reads a literal that the other process wrote. Each is kept once and for good, as literals are.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Phrase, D::Error> {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let text = String::deserialize(deserializer)?;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(phrase) = known.get(text.as_str()) {
        return Ok(phrase);
    }
    if known.len() >= MOST || text.len() > LONGEST {
        return Err(D::Error::custom("expected a literal of this program"));
    }
    let phrase: Phrase = Box::leak(text.into_boxed_str());
    known.insert(phrase);
    Ok(phrase)
}
