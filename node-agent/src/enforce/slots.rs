//! One slot a rule: what is wanted, what was made of it, what runs.
//!
//! A set is active as a whole or not at all: it is built when the stable revision of every rule in it is ready or known to
//! fail, or when the wait for the slow ones is over. A stable revision that fails leaves the one that ran before. A
//! candidate joins when it is ready, and nothing waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_crds::bus::{Exception, ExceptionState};
use portcullis_crds::rule_key::RuleKey;
use portcullis_crds::wasm_rule::Mode;

use super::held::{Failure, Held};
use crate::desired::last_known_good::Runs;
use crate::desired::{ObjectVersion, RuleRevision, Version};

/// How long the rules that are ready wait for those that are not.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(5);

/// A revision that is active. `module` is `None` for a Disabled one.
#[derive(Clone, Debug)]
pub struct Running<M> {
    /// The revision.
    pub revision: RuleRevision,
    /// Its module.
    pub module: Option<M>,
    /// Since when.
    pub loaded_at: jiff::Timestamp,
}

#[derive(Debug)]
struct Slot<M> {
    wanted: Arc<Version>,
    stable: Held<M>,
    candidate: Option<Held<M>>,
    /// The stable revision that is active: the wanted one, or one before it.
    running: Option<Running<M>>,
    running_candidate: Option<Running<M>>,
    /// Since when the stable revision is wanted.
    since: Instant,
}

/// What is wanted of one rule, and what is active of it since the last [`Slots::commit`].
#[derive(Debug)]
pub struct RuleState<'a, M> {
    /// What is wanted.
    pub wanted: &'a Arc<Version>,
    /// The stable revision.
    pub stable: Option<&'a Running<M>>,
    /// The candidate, held ready.
    pub candidate: Option<&'a Running<M>>,
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
            let before = gone.remove(key);
            if before.as_ref().is_none_or(|slot| !slot.wanted.asks_for_the_same_as(version)) {
                self.changed_at.get_or_insert(now);
            }
            self.slots.insert(key.clone(), Slot::new(version, before, now));
        }
        if !gone.is_empty() {
            self.changed_at.get_or_insert(now);
        }
    }

    /// Revisions whose modules must be made ready now. Each is given out once, until [`Self::prepared`].
    pub fn take_due(&mut self, now: Instant) -> Vec<RuleRevision> {
        let held = self.slots.values_mut().flat_map(Slot::held_mut);
        held.filter_map(|held| held.take_due(now).then(|| held.revision.clone())).collect()
    }

    /// The outcome of making a revision ready. Of one that is no longer wanted, it is dropped.
    pub fn prepared(&mut self, revision: &RuleRevision, outcome: &Result<M, Failure>, now: Instant) {
        let Some(slot) = self.slots.get_mut(revision.key()) else { return };
        for held in slot.held_mut().filter(|held| held.revision.is_same(revision)) {
            if held.prepared(outcome.clone(), now) {
                self.changed_at.get_or_insert(now);
            }
        }
    }

    /// Modules that could not be had are tried again now: the bus is back.
    pub fn retry_now(&mut self, now: Instant) {
        self.slots.values_mut().flat_map(Slot::held_mut).for_each(|held| held.retry_now(now));
    }

    /// Whether the active set should be built anew now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.changed_at.is_some_and(|at| self.is_settled() || at + WAIT_FOR_OTHERS <= now)
    }

    /// Whether the active set is not the one that it could be.
    pub fn is_changed(&self) -> bool {
        self.changed_at.is_some()
    }

    /// When to look again, if nothing else happens.
    pub fn wake_at(&self) -> Option<Instant> {
        let deadline = self.changed_at.map(|at| at + WAIT_FOR_OTHERS);
        self.slots.values().flat_map(Slot::held).filter_map(Held::retry_at).chain(deadline).min()
    }

    /// Everything that is ready is active from now on. A candidate that is not wanted any more goes.
    pub fn commit(&mut self, at: jiff::Timestamp) {
        self.changed_at = None;
        self.slots.values_mut().for_each(|slot| slot.commit(at));
    }

    /// Every rule that is wanted.
    pub fn rules(&self) -> impl Iterator<Item = RuleState<'_, M>> {
        self.slots.values().map(Slot::state)
    }

    /// One rule.
    pub fn rule(&self, key: &RuleKey) -> Option<RuleState<'_, M>> {
        self.slots.get(key).map(Slot::state)
    }

    /// Wanted revisions that are not active, and why.
    pub fn exceptions(&self) -> impl Iterator<Item = Exception> + '_ {
        self.slots.values().flat_map(|slot| {
            let candidate = slot.candidate.as_ref().filter(|_| !slot.has_candidate());
            let stable = Some(&slot.stable).filter(|_| !slot.runs_wanted());
            stable.into_iter().chain(candidate).map(|held| slot.exception(held))
        })
    }

    /// Since when an Enforce rule is wanted and does not run: the latest such moment.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.slots
            .values()
            .filter(|slot| slot.wanted.rule.stable.mode == Mode::Enforce && !slot.runs_wanted())
            .map(|slot| slot.since)
            .max()
    }

    /// Whether the stable revision of every rule is ready or known to fail.
    pub fn is_settled(&self) -> bool {
        !self.slots.values().any(|slot| slot.stable.is_pending())
    }
}

impl<M> RuleState<'_, M> {
    /// What is active, as it is kept on disk.
    pub fn runs(&self) -> Runs {
        let Some(stable) = self.stable else { return Runs::Nothing };
        let candidate = self.candidate.and_then(|running| running.revision.as_candidate());
        let candidate_revision = candidate.map(|candidate| &candidate.revision);
        if stable.revision.is_same(&self.wanted.stable())
            && candidate_revision == self.wanted.rule.candidate_revision()
        {
            return Runs::Desired;
        }
        let mut active = stable.revision.version().clone();
        active.rule.candidate = candidate.cloned();
        Runs::Before(Box::new(active))
    }
}

impl<M: Clone> Slot<M> {
    /// What was made ready in the slot `before`, or ran in it, is not made ready again.
    fn new(version: &Arc<Version>, before: Option<Self>, now: Instant) -> Self {
        let (mut held, mut running, mut running_candidate, mut since) = (Vec::new(), None, None, now);
        if let Some(before) = before {
            if before.stable.revision.is_same(&version.stable()) {
                since = before.since;
            }
            held.push(before.stable);
            held.extend(before.candidate);
            (running, running_candidate) = (before.running, before.running_candidate);
        }
        let mut take = |wanted: RuleRevision| {
            if let Some(at) = held.iter().position(|held| held.revision.is_same(&wanted)) {
                return held.swap_remove(at).wanted_as(wanted);
            }
            let mut active = running.iter().chain(&running_candidate);
            match active.find(|running| running.revision.is_same(&wanted)) {
                Some(running) => Held::ready(wanted, running.module.clone()),
                None => Held::new(wanted),
            }
        };
        let stable = take(version.stable());
        let candidate = version.candidate().map(take);
        Self { wanted: version.clone(), stable, candidate, running, running_candidate, since }
    }

    fn held(&self) -> impl Iterator<Item = &Held<M>> {
        std::iter::once(&self.stable).chain(&self.candidate)
    }

    fn held_mut(&mut self) -> impl Iterator<Item = &mut Held<M>> {
        std::iter::once(&mut self.stable).chain(&mut self.candidate)
    }

    fn state(&self) -> RuleState<'_, M> {
        RuleState {
            wanted: &self.wanted,
            stable: self.running.as_ref(),
            candidate: self.running_candidate.as_ref(),
        }
    }

    fn commit(&mut self, at: jiff::Timestamp) {
        let before = [self.running.take(), self.running_candidate.take()];
        let run = |held: &Held<M>| {
            let module = held.module()?.clone();
            let same = before.iter().flatten().find(|running| running.revision.is_same(&held.revision));
            let loaded_at = same.map_or(at, |running| running.loaded_at);
            Some(Running { revision: held.revision.clone(), module, loaded_at })
        };
        let stable = run(&self.stable);
        self.running_candidate = self.candidate.as_ref().and_then(run);
        let [running, _] = before;
        self.running = stable.or(running);
    }

    fn runs_wanted(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.revision.is_same(&self.stable.revision))
    }

    fn has_candidate(&self) -> bool {
        let wanted = self.candidate.as_ref().map(|held| &held.revision);
        wanted
            .zip(self.running_candidate.as_ref())
            .is_some_and(|(wanted, held)| held.revision.is_same(wanted))
    }

    fn exception(&self, held: &Held<M>) -> Exception {
        let (state, message) = match held.failure() {
            Some(failure) => (failure.state, failure.message.clone()),
            None => (ExceptionState::Progressing, "the module is being fetched and compiled".to_owned()),
        };
        Exception {
            key: held.revision.key().clone(),
            wanted: held.revision.revision().clone(),
            active: self.running.as_ref().map(|running| running.revision.revision().clone()),
            state,
            message,
        }
    }
}

#[cfg(test)]
mod tests;
