//! One slot a rule: what is wanted, what was made of it, what runs.
//!
//! A set is active as a whole or not at all: it is built when every rule in it is ready or known to fail,
//! or when the patience with the slow ones is over. A rule that fails keeps the version that ran before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_crds::bus::{Exception, ExceptionState};
use portcullis_crds::rule_key::RuleKey;
use portcullis_crds::wasm_rule::Mode;
use portcullis_daemon::backoff::Backoff;

use crate::desired::Version;

/// How long the rules that are ready wait for those that are not.
const PATIENCE: Duration = Duration::from_secs(5);
/// Waits before a module is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Why a version is not ready.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// As the report says it.
    pub state: ExceptionState,
    /// What was expected, what was found, what to do.
    pub message: String,
    /// Worth trying again.
    pub retry: bool,
}

/// A version that runs. `module` is `None` for a Disabled rule.
#[derive(Clone, Debug)]
pub struct Running<M> {
    /// The version.
    pub version: Arc<Version>,
    /// Its module.
    pub module: Option<M>,
    /// Since when.
    pub loaded_at: jiff::Timestamp,
}

#[derive(Debug)]
enum Candidate<M> {
    Pending,
    Ready(Option<M>),
    Failed { failure: Failure, backoff: Backoff, retry_at: Option<Instant> },
}

#[derive(Debug)]
struct Slot<M> {
    wanted: Arc<Version>,
    candidate: Candidate<M>,
    in_flight: bool,
    running: Option<Running<M>>,
    /// Since when `wanted` is wanted.
    since: Instant,
}

/// All slots. `M` is a compiled module, cheap to clone.
#[derive(Debug)]
pub struct Slots<M> {
    slots: BTreeMap<RuleKey, Slot<M>>,
    /// Since when the active set is not the one that it could be.
    changed_at: Option<Instant>,
}

impl<M> Default for Slots<M> {
    fn default() -> Self {
        Self { slots: BTreeMap::new(), changed_at: None }
    }
}

impl<M: Clone> Slots<M> {
    /// These versions are wanted, and no others.
    pub fn want<'a>(
        &mut self,
        rules: impl IntoIterator<Item = (&'a RuleKey, &'a Arc<Version>)>,
        now: Instant,
    ) {
        let mut gone = std::mem::take(&mut self.slots);
        for (key, version) in rules {
            let slot = match gone.remove(key) {
                Some(mut slot) if slot.wanted.is_same_revision(version) => {
                    slot.wanted = version.clone();
                    slot
                }
                before => {
                    self.changed_at.get_or_insert(now);
                    Slot::new(version.clone(), before.and_then(|slot| slot.running), now)
                }
            };
            self.slots.insert(key.clone(), slot);
        }
        if !gone.is_empty() {
            self.changed_at.get_or_insert(now);
        }
    }

    /// Versions whose modules must be made ready now. Each is given out once, until [`Self::prepared`].
    pub fn take_due(&mut self, now: Instant) -> Vec<Arc<Version>> {
        let mut due = Vec::new();
        for slot in self.slots.values_mut().filter(|slot| !slot.in_flight) {
            let is_due = match &slot.candidate {
                Candidate::Pending => true,
                Candidate::Ready(_) => false,
                Candidate::Failed { retry_at, .. } => retry_at.is_some_and(|at| at <= now),
            };
            if is_due {
                slot.in_flight = true;
                due.push(slot.wanted.clone());
            }
        }
        due
    }

    /// The outcome of making a version ready. Of a version that is no longer wanted, it is dropped.
    pub fn prepared(&mut self, version: &Version, outcome: Result<M, Failure>, now: Instant) {
        let Some(slot) = self.slots.get_mut(&version.rule.key) else { return };
        if !slot.wanted.is_same_revision(version) {
            return;
        }
        slot.in_flight = false;
        match outcome {
            Ok(module) => {
                slot.candidate = Candidate::Ready(Some(module));
                self.changed_at.get_or_insert(now);
            }
            Err(failure) => {
                let mut backoff = Backoff::new(RETRY.0, RETRY.1);
                if let Candidate::Failed { failure: before, backoff: waited, .. } = &mut slot.candidate {
                    std::mem::swap(waited, &mut backoff);
                    if *before != failure {
                        self.changed_at.get_or_insert(now);
                    }
                } else {
                    self.changed_at.get_or_insert(now);
                }
                let retry_at = failure.retry.then(|| now + backoff.wait());
                slot.candidate = Candidate::Failed { failure, backoff, retry_at };
            }
        }
    }

    /// Modules that could not be had are tried again now: the bus is back.
    pub fn retry_now(&mut self, now: Instant) {
        for slot in self.slots.values_mut() {
            if let Candidate::Failed { retry_at: Some(at), .. } = &mut slot.candidate {
                *at = now;
            }
        }
    }

    /// Whether the active set should be built anew now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.changed_at.is_some_and(|at| self.is_settled() || at + PATIENCE <= now)
    }

    /// Whether the active set is not the one that it could be.
    pub fn is_changed(&self) -> bool {
        self.changed_at.is_some()
    }

    /// When to look again, if nothing else happens.
    pub fn wake_at(&self) -> Option<Instant> {
        let patience = self.changed_at.map(|at| at + PATIENCE);
        let retry =
            self.slots.values().filter(|slot| !slot.in_flight).filter_map(|slot| match &slot.candidate {
                Candidate::Failed { retry_at, .. } => *retry_at,
                _ => None,
            });
        retry.chain(patience).min()
    }

    /// Everything that is ready runs from now on.
    pub fn commit(&mut self, at: jiff::Timestamp) {
        self.changed_at = None;
        for slot in self.slots.values_mut() {
            if let Candidate::Ready(module) = &slot.candidate {
                let before = slot.running.take().filter(|r| r.version.is_same_revision(&slot.wanted));
                let loaded_at = before.map_or(at, |r| r.loaded_at);
                slot.running =
                    Some(Running { version: slot.wanted.clone(), module: module.clone(), loaded_at });
            }
        }
    }

    /// Every rule that is wanted, with what runs of it since the last [`Self::commit`].
    pub fn rules(&self) -> impl Iterator<Item = (&Arc<Version>, Option<&Running<M>>)> {
        self.slots.values().map(|slot| (&slot.wanted, slot.running.as_ref()))
    }

    /// What runs of one rule.
    pub fn running(&self, key: &RuleKey) -> Option<&Running<M>> {
        self.slots.get(key)?.running.as_ref()
    }

    /// Rules whose wanted revision does not run, and why.
    pub fn exceptions(&self) -> impl Iterator<Item = Exception> + '_ {
        self.slots.values().filter(|slot| !slot.runs_wanted()).map(|slot| {
            let (state, message) = match &slot.candidate {
                Candidate::Failed { failure, .. } => (failure.state, failure.message.clone()),
                Candidate::Pending | Candidate::Ready(_) => {
                    (ExceptionState::Progressing, "the module is being fetched and compiled".to_owned())
                }
            };
            Exception {
                key: slot.wanted.rule.key.clone(),
                wanted: slot.wanted.revision.clone(),
                active: slot.running.as_ref().map(|r| r.version.revision.clone()),
                state,
                message,
            }
        })
    }

    /// Since when an Enforce rule is wanted and does not run: the latest such moment.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.slots
            .values()
            .filter(|slot| slot.wanted.rule.mode == Mode::Enforce && !slot.runs_wanted())
            .map(|slot| slot.since)
            .max()
    }

    /// Whether every rule is ready or known to fail.
    pub fn is_settled(&self) -> bool {
        !self.slots.values().any(|slot| matches!(slot.candidate, Candidate::Pending))
    }
}

impl<M: Clone> Slot<M> {
    fn new(wanted: Arc<Version>, running: Option<Running<M>>, since: Instant) -> Self {
        let candidate = match &running {
            _ if wanted.rule.mode == Mode::Disabled => Candidate::Ready(None),
            // Back to what runs.
            Some(running) if running.version.is_same_revision(&wanted) => {
                Candidate::Ready(running.module.clone())
            }
            _ => Candidate::Pending,
        };
        Self { wanted, candidate, in_flight: false, running, since }
    }

    fn runs_wanted(&self) -> bool {
        self.running.as_ref().is_some_and(|r| r.version.is_same_revision(&self.wanted))
    }
}

#[cfg(test)]
mod tests;
