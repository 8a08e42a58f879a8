//! How many requests a rule lets on that it wants limited.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{Quota, RateLimiter};
use portcullis_crds::RouteKey;
use portcullis_crds::rate_limit::{RateLimit, RateLimitKey};

use crate::head::RequestHead;

/// Locks that workers seldom meet at.
const SHARDS: usize = 16;
/// Clients that a shard remembers; about 40 bytes each. What nobody was counted for lately is forgotten before.
const KEYS_MAX: usize = 8_192;

type Shard = RateLimiter<u64, governor::state::keyed::HashMapStateStore<u64>, DefaultClock>;

/// Counts of one rule, shared by all workers. They outlive a swap of the rule set.
pub(crate) struct Limiter {
    limit: RateLimit,
    shards: Vec<Shard>,
    /// Checks until the shards are looked through.
    checks: AtomicUsize,
    hasher: RandomState,
    clock: DefaultClock,
}

/// Whose request it is.
pub(crate) struct Requester<'r> {
    pub(crate) client: IpAddr,
    pub(crate) head: &'r RequestHead,
    /// `None` of the default route.
    pub(crate) route: Option<&'r RouteKey>,
}

impl Limiter {
    pub(super) fn new(limit: &RateLimit) -> Self {
        let requests = NonZeroU32::new(limit.requests).unwrap_or(NonZeroU32::MIN);
        let every = limit.window.get().checked_div(requests.get()).filter(|every| !every.is_zero());
        let every = every.unwrap_or(Duration::from_nanos(1));
        let quota = Quota::with_period(every).expect("it is longer than nothing").allow_burst(requests);
        Self {
            limit: limit.clone(),
            shards: (0..SHARDS).map(|_| RateLimiter::hashmap(quota)).collect(),
            checks: AtomicUsize::new(0),
            hasher: RandomState::new(),
            clock: DefaultClock::default(),
        }
    }

    /// Whether it counts as `limit` says.
    pub(super) fn is_of(&self, limit: &RateLimit) -> bool {
        self.limit == *limit
    }

    /// Counts a request, or says after how many seconds one may come again.
    pub(crate) fn check(&self, requester: &Requester<'_>) -> Result<(), u32> {
        let key = self.key(requester);
        #[expect(clippy::cast_possible_truncation, reason = "any part of a hash does")]
        let shard = &self.shards[key as usize % SHARDS];
        if self.checks.fetch_add(1, Relaxed).is_multiple_of(KEYS_MAX) {
            self.forget();
        }
        // Where many clients are counted, those who are new are counted together until others are forgotten: nobody makes
        // room for himself, and memory stays bounded.
        let key = if shard.len() < KEYS_MAX { key } else { 0 };
        shard.check_key(&key).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
            u32::try_from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).unwrap_or(u32::MAX).max(1)
        })
    }

    fn forget(&self) {
        for shard in self.shards.iter().filter(|shard| shard.len() > KEYS_MAX / 2) {
            shard.retain_recent();
        }
    }

    fn key(&self, requester: &Requester<'_>) -> u64 {
        let name = self.limit.name.as_deref().unwrap_or_default();
        match self.limit.key {
            RateLimitKey::SourceIp => match requester.client {
                IpAddr::V4(address) => self.hasher.hash_one(address),
                // One client has at least a /64 (RFC 6177 section 2).
                IpAddr::V6(address) => match address.to_ipv4_mapped() {
                    Some(address) => self.hasher.hash_one(address),
                    None => self.hasher.hash_one(&address.octets()[..8]),
                },
            },
            RateLimitKey::Header => {
                self.hasher.hash_one(requester.head.fields().get_all(name).collect::<Vec<_>>())
            }
            RateLimitKey::Cookie => self.hasher.hash_one(cookie(requester.head, name)),
            RateLimitKey::Route => self.hasher.hash_one(requester.route),
        }
    }
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// The first value of a cookie (RFC 6265 section 5.4 sends the most specific one first).
fn cookie<'h>(head: &'h RequestHead, name: &str) -> Option<&'h [u8]> {
    let pairs = head.fields().get_all("cookie").flat_map(|field| field.split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;

    fn limiter(limit: serde_json::Value) -> Limiter {
        Limiter::new(&serde_json::from_value(limit).unwrap())
    }

    fn check(
        limiter: &Limiter,
        client: &str,
        lines: &[(&str, &str)],
        route: Option<&RouteKey>,
    ) -> Result<(), u32> {
        let head = RequestHead::of(Method::GET, "/", lines);
        limiter.check(&Requester { client: client.parse().unwrap(), head: &head, route })
    }

    #[test]
    fn a_client_has_its_requests_at_once_and_then_waits_for_the_next_one() {
        let limiter = limiter(json!({"requests": 2, "window": "1h"}));
        let ask = |client: &str| check(&limiter, client, &[], None);
        assert_eq!([ask("192.0.2.1"), ask("192.0.2.1")], [Ok(()), Ok(())]);
        let wait = ask("192.0.2.1").unwrap_err();
        assert!((1790..=1800).contains(&wait), "half of an hour for one of two, found {wait}");
        assert_eq!(ask("192.0.2.2"), Ok(()), "another client");
        assert!(ask("::ffff:192.0.2.1").is_err(), "the same client, written otherwise");
        for n in 1..=2 {
            assert_eq!(ask(&format!("2001:db8::{n}")), Ok(()));
        }
        assert!(ask("2001:db8::3").is_err(), "a /64 is one client");
        assert_eq!(ask("2001:db8:0:1::1"), Ok(()));
    }

    #[test]
    fn what_is_counted_together_is_what_the_key_says() {
        let route = RouteKey::new("shop", "web");
        let header = limiter(json!({"requests": 1, "window": "1h", "key": "Header", "name": "X-Api-Key"}));
        let cookie = limiter(json!({"requests": 1, "window": "1h", "key": "Cookie", "name": "sid"}));
        let of_route = limiter(json!({"requests": 1, "window": "1h", "key": "Route"}));
        for (limiter, one, other) in [
            (&header, ("x-api-key", "a"), ("x-api-key", "b")),
            (&cookie, ("cookie", "x=1; sid=a"), ("cookie", "sid=b; x=1")),
        ] {
            assert_eq!(check(limiter, "192.0.2.1", &[one], None), Ok(()));
            assert!(check(limiter, "192.0.2.2", &[one], None).is_err(), "whoever the client is");
            assert_eq!(check(limiter, "192.0.2.1", &[other], None), Ok(()));
            assert_eq!(check(limiter, "192.0.2.1", &[], None), Ok(()));
            assert!(check(limiter, "192.0.2.1", &[], None).is_err(), "all without it");
        }
        assert_eq!(check(&of_route, "192.0.2.1", &[], Some(&route)), Ok(()));
        assert!(check(&of_route, "192.0.2.2", &[], Some(&route)).is_err());
        assert_eq!(check(&of_route, "192.0.2.1", &[], None), Ok(()), "the default route");
    }

    #[test]
    fn however_many_clients_there_are_memory_is_bounded() {
        let limiter = limiter(json!({"requests": 1, "window": "1h"}));
        for n in 0..u32::try_from(SHARDS * KEYS_MAX * 2).unwrap() {
            let client = std::net::Ipv4Addr::from(n).to_string();
            assert!(check(&limiter, &client, &[], None).map_or_else(|wait| wait > 0, |()| true));
        }
        let kept: usize = limiter.shards.iter().map(RateLimiter::len).sum();
        assert!(kept <= SHARDS * (KEYS_MAX + 1), "{kept}");
    }
}
