//! What the verdict RateLimit means.

// The derive macro repeats each struct inside a private function, where `pub` reaches nobody.
#![allow(unreachable_pub)]

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Span;
use crate::range::spans;

/// Most `requests`.
pub const REQUESTS_CEILING: u32 = 1_000_000;
/// Shortest `window`.
pub const WINDOW_FLOOR: Span = Span::secs(1);
/// Longest `window`.
pub const WINDOW_CEILING: Span = Span::secs(60 * 60);

/// How many requests to which the rule's verdict is RateLimit go on; the others are answered with 429 and Retry-After.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.name) == (self.key in ['Header', 'Cookie'])",
    "set name to the name of the header or cookie if key is Header or Cookie, and leave it out otherwise"
))]
pub struct RateLimit {
    /// As many at once; after that one more each time that `window / requests` has passed. Each node counts by itself.
    #[schemars(range(min = 1, max = REQUESTS_CEILING), extend("format" = "int32"))]
    pub requests: u32,

    /// In which all of `requests` come back.
    #[schemars(transform = spans(WINDOW_FLOOR, WINDOW_CEILING, "for example 1m"))]
    pub window: Span,

    /// What is counted together.
    #[serde(default)]
    pub key: RateLimitKey,

    /// Name of the header or cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = (
        "self.matches('^[-A-Za-z0-9!#$%&*+.^_|~]+$')",
        "write the name of a header or cookie, for example x-api-key"
    ))]
    pub name: Option<String>,
}

/// Which requests are counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RateLimitKey {
    /// Those of one client: its address, of IPv6 its /64.
    #[default]
    #[serde(rename = "SourceIP")]
    SourceIp,
    /// Those with one value of a header. All without it count together.
    Header,
    /// Those with one value of a cookie. All without it count together.
    Cookie,
    /// Those of one route.
    Route,
}

impl RateLimit {
    /// What is wrong with it; the API server says the same.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=REQUESTS_CEILING).contains(&self.requests) {
            return Err(format!(
                "expected rateLimit.requests between 1 and {REQUESTS_CEILING}, found {}",
                self.requests
            ));
        }
        if !(WINDOW_FLOOR..=WINDOW_CEILING).contains(&self.window) {
            return Err(format!(
                "expected rateLimit.window between {WINDOW_FLOOR} and {WINDOW_CEILING}, found {}",
                self.window
            ));
        }
        let needs_name = matches!(self.key, RateLimitKey::Header | RateLimitKey::Cookie);
        if needs_name != self.name.is_some() {
            return Err("expected rateLimit.name with key Header or Cookie, and only then".to_owned());
        }
        Ok(())
    }
}
