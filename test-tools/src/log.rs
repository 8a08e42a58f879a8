//! What programs log.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde_json::{Map, Value};

/// A log in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// All of it.
    ///
    /// # Panics
    /// When it is not UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no writer panics").clone()).expect("a log is text")
    }

    /// Its lines.
    ///
    /// # Panics
    /// When one of them is no [`record`].
    #[track_caller]
    pub fn records(&self) -> Vec<Map<String, Value>> {
        self.text().lines().map(record).collect()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line of the log of any of our programs, read as JSON.
///
/// # Panics
/// When it does not have the shape that all of them share.
#[track_caller]
pub fn record(line: &str) -> Map<String, Value> {
    let Ok(Value::Object(record)) = serde_json::from_str(line) else {
        panic!("expected one JSON object, found {line}");
    };
    for name in ["timestamp", "level", "target", "message"] {
        assert!(record.get(name).is_some_and(Value::is_string), "expected a text {name} in {line}");
    }
    assert!(record["timestamp"].as_str().is_some_and(|at| at.parse::<Timestamp>().is_ok()), "{line}");
    assert!(!record.values().any(|value| value.is_object() || value.is_array()), "nested: {line}");
    record
}
