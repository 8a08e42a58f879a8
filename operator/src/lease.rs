//! Election by a Lease, as client-go does it: every write carries the resourceVersion of what was read, and a
//! foreign lease counts as abandoned when *we* have seen it unchanged for its whole duration, so clocks of
//! different nodes are never compared.
//!
//! Not kube-lease-manager 0.13: it frees an expired lease by a patch without a precondition, which can take
//! it from somebody who has just got it; its watch goes on saying "leader" while the API is unreachable;
//! and it does not tell until when the lease holds, which every write here has to know.
//!
//! The Lease only elects. What fences is the epoch on the bus, and the resourceVersion of each status patch.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use thiserror::Error;
use tokio::time::Instant;

use crate::api_error::said;

/// Others wait this long after the last renewal.
const DURATION: Duration = Duration::from_secs(15);
/// The holder stops this long after its last renewal: well before others start.
const VALID: Duration = Duration::from_secs(10);
/// Between two looks, or two renewals.
const EVERY: Duration = Duration::from_secs(2);
/// A holder from which the lease was taken away has noticed after this long, and what it sent has been answered.
pub(crate) const STEPPED_DOWN: Duration = Duration::from_secs(12);
/// Longest wait for one answer of the API server.
const ANSWER: Duration = Duration::from_secs(5);

/// Why a look at the lease, or a write to it, failed.
#[derive(Debug, Error)]
pub(crate) enum LeaseError {
    /// The API server refused.
    #[error("lease {name}: {}", said(source))]
    Api {
        /// Name of the Lease.
        name: String,
        /// What it said.
        source: kube::Error,
    },
    /// The API server did not answer.
    #[error("lease {name}: no answer from the API server for {} s", ANSWER.as_secs())]
    Timeout {
        /// Name of the Lease.
        name: String,
    },
}

/// Why somebody leads no longer.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Somebody else holds the lease.
    #[error("the lease is held by {0}")]
    Taken(String),
    /// It could not be renewed in time.
    #[error("the lease could not be renewed for {} s", VALID.as_secs())]
    Expired,
}

/// Takes part in the election.
#[derive(Debug)]
pub(crate) struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// The lease as last seen, and since when it has been like that.
    seen: Option<(Lease, Instant)>,
    validity: Validity,
}

/// Says whether the lease is still ours. Cheap; asked before every write.
#[derive(Clone, Debug)]
pub(crate) struct Validity(Arc<Mutex<Deadline>>);

#[derive(Clone, Copy, Debug)]
struct Deadline {
    monotonic: Instant,
    /// A suspended machine may stop the monotonic clock, but not this one.
    wall: SystemTime,
}

/// What to do about the lease as it was seen.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Create,
    Take,
    Renew,
    Wait,
}

// === impl Validity ===

impl Validity {
    fn ended() -> Self {
        Self(Arc::new(Mutex::new(Deadline { monotonic: Instant::now(), wall: SystemTime::UNIX_EPOCH })))
    }

    /// Whether a write may be made now.
    pub(crate) fn holds(&self) -> bool {
        let deadline = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Instant::now() < deadline.monotonic && SystemTime::now() < deadline.wall
    }

    /// Counted from when the renewal was sent: it may have been accepted at once.
    fn renewed(&self, sent: Instant, sent_wall: SystemTime) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Deadline { monotonic: sent + VALID, wall: sent_wall + VALID };
    }

    #[cfg(test)]
    pub(crate) fn for_a_test(holds: bool) -> Self {
        let validity = Self::ended();
        if holds {
            validity.renewed(Instant::now() + Duration::from_secs(3600), SystemTime::now() + DURATION * 240);
        }
        validity
    }

    #[cfg(test)]
    pub(crate) fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Deadline { monotonic: Instant::now(), wall: SystemTime::UNIX_EPOCH };
    }
}

// === impl Candidate ===

impl Candidate {
    /// `identity` must differ for every process, also after a restart of the same pod.
    pub(crate) fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            seen: None,
            validity: Validity::ended(),
        }
    }

    /// Returns once the lease is ours. `beat` is called at each look.
    pub(crate) async fn elected(&mut self, beat: impl Fn()) -> Validity {
        loop {
            beat();
            match self.look().await {
                Ok(true) => return self.validity.clone(),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "the lease could not be read or taken; it is tried again");
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Renews the lease for as long as that works. `beat` is called at each renewal.
    pub(crate) async fn hold(&mut self, beat: impl Fn()) -> Lost {
        loop {
            tokio::time::sleep(EVERY).await;
            beat();
            match self.look().await {
                Ok(true) => {}
                Ok(false) => match self.holder() {
                    Some(other) if other != self.identity => return Lost::Taken(other.to_owned()),
                    _ => {}
                },
                Err(error) => tracing::warn!(%error, "the lease could not be renewed; it is tried again"),
            }
            if !self.validity.holds() {
                return Lost::Expired;
            }
        }
    }

    /// Takes the lease away from whoever holds it. The holder notices at its next renewal, and others wait for its end.
    pub(crate) async fn seize(&mut self) -> Result<(), LeaseError> {
        loop {
            let found = self.ask(self.api.get_opt(&self.name)).await?;
            let next = self.next(found.as_ref());
            let (sent, sent_wall) = (Instant::now(), SystemTime::now());
            let written = match found {
                Some(_) => self.ask(self.api.replace(&self.name, &PostParams::default(), &next)).await,
                None => self.ask(self.api.create(&PostParams::default(), &next)).await,
            };
            match written {
                Ok(lease) => {
                    self.seen = Some((lease, sent));
                    self.validity.renewed(sent, sent_wall);
                    return Ok(());
                }
                // Renewed in between, or created: again, on what is there now.
                Err(LeaseError::Api { source: kube::Error::Api(status), .. }) if status.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Frees the lease if it is ours, so that the next leader need not wait for its end.
    pub(crate) async fn release(&self) -> Result<(), LeaseError> {
        // Read anew: a renewal may have been cut short.
        let found = self.ask(self.api.get_opt(&self.name)).await?;
        let Some(mut lease) = found.filter(|lease| holder_of(lease) == Some(&self.identity)) else {
            return Ok(());
        };
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = None;
        spec.renew_time = None;
        self.ask(self.api.replace(&self.name, &PostParams::default(), &lease)).await.map(|_| ())
    }

    fn holder(&self) -> Option<&str> {
        self.seen.as_ref().and_then(|(lease, _)| holder_of(lease))
    }

    /// One look, and one write if there is something to write. True if the lease is ours now.
    async fn look(&mut self) -> Result<bool, LeaseError> {
        let found = self.ask(self.api.get_opt(&self.name)).await?;
        let now = Instant::now();
        self.seen = found.map(|lease| {
            let since = match &self.seen {
                Some((before, since)) if before.resource_version() == lease.resource_version() => *since,
                _ => now,
            };
            (lease, since)
        });
        let step = decide(self.seen.as_ref(), &self.identity, now);
        let (sent, sent_wall) = (Instant::now(), SystemTime::now());
        let written = match step {
            Step::Wait => return Ok(false),
            Step::Create => self.ask(self.api.create(&PostParams::default(), &self.next(None))).await,
            Step::Take | Step::Renew => {
                let next = self.next(self.seen.as_ref().map(|(lease, _)| lease));
                self.ask(self.api.replace(&self.name, &PostParams::default(), &next)).await
            }
        };
        match written {
            Ok(lease) => {
                self.seen = Some((lease, now));
                self.validity.renewed(sent, sent_wall);
                Ok(true)
            }
            // Somebody else was faster; the next look shows who.
            Err(LeaseError::Api { source: kube::Error::Api(status), .. }) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The lease as we would write it.
    fn next(&self, found: Option<&Lease>) -> Lease {
        let now = Some(MicroTime(Timestamp::now()));
        let mut lease = found.cloned().unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            spec: None,
        });
        let changes_hands = holder_of(&lease) != Some(&self.identity);
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if changes_hands {
            spec.acquire_time.clone_from(&now);
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |n| n.saturating_add(1)));
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = now;
        lease
    }

    async fn ask<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, LeaseError> {
        match tokio::time::timeout(ANSWER, call).await {
            Ok(answer) => answer.map_err(|source| LeaseError::Api { name: self.name.clone(), source }),
            Err(_) => Err(LeaseError::Timeout { name: self.name.clone() }),
        }
    }
}

fn holder_of(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn decide(seen: Option<&(Lease, Instant)>, me: &str, now: Instant) -> Step {
    let Some((lease, since)) = seen else { return Step::Create };
    match holder_of(lease) {
        None => Step::Take,
        Some(holder) if holder == me => Step::Renew,
        Some(_) => {
            let written = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
            let duration = written.and_then(|s| u64::try_from(s).ok()).map_or(DURATION, Duration::from_secs);
            if now.duration_since(*since) > duration { Step::Take } else { Step::Wait }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: Option<&str>, seconds: i32) -> Lease {
        let spec = LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: Some(seconds),
            ..LeaseSpec::default()
        };
        Lease { metadata: ObjectMeta::default(), spec: Some(spec) }
    }

    #[test]
    fn a_free_lease_is_taken_and_ours_is_renewed() {
        let now = Instant::now();
        assert_eq!(decide(None, "me", now), Step::Create);
        assert_eq!(decide(Some(&(held_by(None, 15), now)), "me", now), Step::Take);
        assert_eq!(decide(Some(&(held_by(Some(""), 15), now)), "me", now), Step::Take);
        assert_eq!(decide(Some(&(held_by(Some("me"), 15), now)), "me", now), Step::Renew);
    }

    #[test]
    fn a_foreign_lease_is_taken_only_after_it_was_unchanged_for_its_duration() {
        let now = Instant::now();
        let seen = (held_by(Some("other"), 15), now);
        assert_eq!(decide(Some(&seen), "me", now + Duration::from_secs(15)), Step::Wait);
        assert_eq!(decide(Some(&seen), "me", now + Duration::from_secs(16)), Step::Take);
    }

    #[test]
    fn a_process_that_slept_past_the_deadline_by_either_clock_may_not_write() {
        let validity = Validity::ended();
        assert!(!validity.holds());
        validity.renewed(Instant::now(), SystemTime::now());
        assert!(validity.holds());
        validity.renewed(Instant::now(), SystemTime::now() - VALID);
        assert!(!validity.holds());
        let long_ago = Instant::now().checked_sub(VALID).expect("the machine has run for ten seconds");
        validity.renewed(long_ago, SystemTime::now());
        assert!(!validity.holds());
    }
}
