//! Host names that a route serves, as the Gateway API has them: exact, or with a wildcard for the first labels.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest name (RFC 1035 section 2.3.4), in characters.
const MOST: usize = 253;
/// Longest label.
const MOST_OF_LABEL: usize = 63;

/// `shop.example`, or `*.shop.example` for every name that ends with `.shop.example`, however many labels come before.
/// In lower case, without a port or a dot at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(String);

/// A text that is no host name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "expected a host name in lower case without a port, such as shop.example or *.shop.example, found {0:?}"
)]
pub struct HostnameError(String);

impl Hostname {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// With its dot, what names end with that a wildcard stands for: `.shop.example` of `*.shop.example`. `None` for an
    /// exact name.
    pub fn wildcard_suffix(&self) -> Option<&str> {
        self.0.strip_prefix('*')
    }

    /// Whether every name that `other` stands for is one that this stands for.
    pub fn covers(&self, other: &Self) -> bool {
        match self.wildcard_suffix() {
            None => self == other,
            Some(suffix) => match other.wildcard_suffix() {
                None => other.0.len() > suffix.len() && other.0.ends_with(suffix),
                Some(narrower) => narrower.ends_with(suffix),
            },
        }
    }
}

impl FromStr for Hostname {
    type Err = HostnameError;

    fn from_str(text: &str) -> Result<Self, HostnameError> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        let is_label = |label: &str| {
            (1..=MOST_OF_LABEL).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() <= MOST && name.split('.').all(is_label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(HostnameError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Hostname {
    type Error = HostnameError;

    fn try_from(text: String) -> Result<Self, HostnameError> {
        text.parse()
    }
}

impl From<Hostname> for String {
    fn from(hostname: Hostname) -> Self {
        hostname.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Hostname {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hostname".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": MOST,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^([*][.])?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$')",
                "message": "write a host name in lower case without a port, for example shop.example or *.shop.example",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Hostname {
        text.parse().unwrap()
    }

    #[test]
    fn names_and_wildcards_are_read_and_everything_else_is_refused() {
        for good in ["a", "shop.example", "*.shop.example", "xn--bcher-kva.example", "10.0.0.1", "1a.b-c.d"] {
            assert_eq!(name(good).to_string(), good);
        }
        let long = format!("{}.example", "a".repeat(64));
        for bad in [
            "",
            "*",
            "*.",
            "Shop.example",
            "shop.example.",
            "shop.example:80",
            "-a.b",
            "a-.b",
            "a..b",
            "a.*.b",
            "*a.b",
            "bücher.example",
            "a/b",
            "[::1]",
            &long,
        ] {
            assert_eq!(bad.parse::<Hostname>(), Err(HostnameError(bad.to_owned())));
        }
    }

    #[test]
    fn a_wildcard_covers_what_is_below_it_and_not_itself() {
        for (one, other, covers) in [
            ("shop.example", "shop.example", true),
            ("shop.example", "www.shop.example", false),
            ("*.shop.example", "www.shop.example", true),
            ("*.shop.example", "a.b.shop.example", true),
            ("*.shop.example", "shop.example", false),
            ("*.shop.example", "xshop.example", false),
            ("*.example", "*.shop.example", true),
            ("*.shop.example", "*.example", false),
            ("*.shop.example", "*.shop.example", true),
            ("www.shop.example", "*.shop.example", false),
        ] {
            assert_eq!(name(one).covers(&name(other)), covers, "{one} {other}");
        }
    }
}
