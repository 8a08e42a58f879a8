//! Sizes and spans as users write them: `4Mi`, `1ms`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest text that the API server hands to a rule of [`crate::range`], whose cost it bounds. Far longer than any
/// quantity: a wrong one gets that rule's message, and not one about its length.
const TEXT_MAX: u32 = 64;

/// Why a size or a span could not be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum QuantityError {
    /// The text is not a size.
    #[error("expected a size such as 4Mi, 128Ki or 4096, found {0:?}")]
    Size(String),
    /// The text is not a span.
    #[error("expected a duration such as 1ms, 500us, 30s or 5m, found {0:?}")]
    Span(String),
}

/// A number of bytes, written as a whole number with an optional `Ki` or `Mi` (a subset of the
/// Kubernetes quantity, so that one text has one meaning).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(u64);

impl ByteSize {
    /// `n` bytes.
    pub const fn bytes(n: u64) -> Self {
        Self(n)
    }

    /// `n` KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n * 1024)
    }

    /// `n` MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n * 1024 * 1024)
    }

    /// The size in bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, factor) = match text {
            t if t.ends_with("Ki") => (&t[..t.len() - 2], 1024),
            t if t.ends_with("Mi") => (&t[..t.len() - 2], 1024 * 1024),
            t => (t, 1),
        };
        whole_number(digits)
            .and_then(|n| n.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| QuantityError::Size(text.to_owned()))
    }
}

impl TryFrom<String> for ByteSize {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KI: u64 = 1024;
        const MI: u64 = 1024 * 1024;
        match self.0 {
            n if n > 0 && n % MI == 0 => write!(f, "{}Mi", n / MI),
            n if n > 0 && n % KI == 0 => write!(f, "{}Ki", n / KI),
            n => write!(f, "{n}"),
        }
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": TEXT_MAX})
    }
}

/// A span of time, written as a whole number with `us`, `ms`, `s`, `m` or `h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

impl Span {
    /// `n` microseconds.
    pub const fn micros(n: u64) -> Self {
        Self(Duration::from_micros(n))
    }

    /// `n` milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }

    /// `n` seconds.
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// The span as the standard library's type.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `us` and `ms` end in `s` too, so they are tried first.
        const UNITS: [(&str, u64); 5] =
            [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)];
        UNITS
            .iter()
            .find_map(|(unit, micros)| Some((text.strip_suffix(unit)?, *micros)))
            .and_then(|(digits, micros)| whole_number(digits)?.checked_mul(micros))
            .map(|micros| Self(Duration::from_micros(micros)))
            .ok_or_else(|| QuantityError::Span(text.to_owned()))
    }
}

impl TryFrom<String> for Span {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_micros() {
            n if n > 0 && n % 3_600_000_000 == 0 => write!(f, "{}h", n / 3_600_000_000),
            n if n > 0 && n % 60_000_000 == 0 => write!(f, "{}m", n / 60_000_000),
            n if n > 0 && n % 1_000_000 == 0 => write!(f, "{}s", n / 1_000_000),
            n if n > 0 && n % 1_000 == 0 => write!(f, "{}ms", n / 1_000),
            n => write!(f, "{n}us"),
        }
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": TEXT_MAX})
    }
}

/// ASCII digits only: `u64::from_str` alone would accept a leading `+`.
fn whole_number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print_the_same() {
        for text in ["0", "17", "128Ki", "4Mi"] {
            assert_eq!(text.parse::<ByteSize>().map(|s| s.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("4Mi".parse::<ByteSize>(), Ok(ByteSize::mib(4)));
    }

    #[test]
    fn spans_read_and_print_the_same() {
        for text in ["500us", "1ms", "30s", "5m", "2h"] {
            assert_eq!(text.parse::<Span>().map(|s| s.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("1ms".parse::<Span>(), Ok(Span::millis(1)));
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_an_example() {
        for text in ["", "Mi", "+4Mi", "-1", "4M", "4 Mi", "99999999999999999999Mi"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
        for text in ["", "ms", "1", "1.5s", "1d"] {
            let error = text.parse::<Span>().expect_err(text).to_string();
            assert!(error.contains("1ms"), "{error}");
        }
    }
}
