//! What the bus has of a rule, what the agents say of it, and what its status should say. No I/O: it only looks.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::time::Duration;

use jiff::Timestamp;
use portcullis_crds::bus::subject::DesiredSubject;
use portcullis_crds::condition::ConditionType;
use portcullis_crds::status::EnforcedRevision;
use portcullis_crds::{Revision, RuleKey, WasmRule, WasmRuleStatus};
use tokio::time::Instant;

use super::aggregate::{Rollout, Waiting, aggregate};
use super::conditions::{Facts, Nodes};
use super::rule_target::{Place, RuleTarget};
use super::status::status;
use super::update_status::{is_due, is_significant};
use crate::fleet::{Fleet, FleetView};
use crate::object::{Object, rule_key};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::published_state::{Entry, PublishedState};

/// What a look at a rule and its nodes gave.
#[derive(Debug, Default)]
pub(crate) struct Observation {
    /// What the status should say, if that is not what it says.
    pub(crate) status: Option<WasmRuleStatus>,
    /// When the answer changes by the mere passing of time.
    pub(crate) look_again: Option<Instant>,
    /// A node cannot get the module.
    pub(crate) misses_module: bool,
    /// Nodes that do not run the rule, and since when; `None` while nobody can tell.
    pub(crate) waiting: Option<Waiting>,
}

/// What nodes are told to run of a rule.
enum Wanted<'a> {
    /// What the bus has.
    Published(&'a PublishedState, &'a Entry),
    /// The stream has lost it, and nodes are told to keep theirs.
    Kept(&'a PublishedState, &'a EnforcedRevision),
}

/// Looks at one rule. `published` is what is on the bus, if that is known.
pub(crate) fn observe(
    rule: &WasmRule,
    progress: &Progress,
    published: Option<&PublishedState>,
    fleet: &FleetView,
    now: (Instant, Timestamp),
) -> Observation {
    let Object { uid, generation } = Object::of(rule);
    let none = WasmRuleStatus::default();
    let previous = rule.status.as_ref().unwrap_or(&none);
    let subject = DesiredSubject::Rule(rule_key(rule));
    let wanted = published.and_then(|state| match state.get(&subject).filter(|entry| entry.is_of(uid)) {
        Some(entry) => Some(Wanted::Published(state, entry)),
        None => Some(Wanted::Kept(state, previous.enforced.as_ref()?)),
    });
    let rollout = match (&wanted, fleet) {
        (Some(wanted), FleetView::Known(fleet)) => {
            Some(wanted.rollout(&rule_key(rule), uid, previous, progress, fleet, now.0))
        }
        _ => None,
    };
    let nodes = Nodes::of(rollout.as_ref(), fleet);
    let enforced = match (&wanted, &progress.outcome) {
        (Some(wanted), outcome) => Some(wanted.enforced(outcome)),
        // While it is not known what the bus has.
        (None, Outcome::Published(published)) => Some(Cow::Borrowed(&published.enforced)),
        (None, Outcome::Halted { .. }) => previous.enforced.as_ref().map(Cow::Borrowed),
    };
    let expires_at = rule.spec.expires_at.as_ref().map(|at| at.0);
    // A moment later, so that by then it is so.
    let expires_in = expires_at.and_then(|at| Duration::try_from(at.duration_since(now.1)).ok());
    let expires = expires_in.map(|left| now.0 + left.saturating_add(Duration::from_millis(1)));
    let facts = Facts {
        generation,
        mode: rule.spec.mode,
        expired_at: expires_at.filter(|at| *at <= now.1),
        outcome: &progress.outcome,
        poll_failure: progress.poll_failure.as_deref(),
        enforced: enforced.as_deref(),
        nodes,
    };
    let status = status(&facts, previous, now.1);
    let is_worth_it = match nodes {
        // Numbers that are about to change again are not worth a patch for each rule.
        Nodes::Reported(rollout) => !rollout.settling || is_significant(rule.status.as_ref(), &status),
        Nodes::NotYet => !already_said(previous, &status, &progress.outcome),
        Nodes::Unreachable => true,
    };
    let is_due = is_worth_it && is_due(rule.status.as_ref(), &status);
    Observation {
        status: Some(status).filter(|_| is_due),
        look_again: rollout.as_ref().and_then(|rollout| rollout.look_again).into_iter().chain(expires).min(),
        misses_module: rollout.as_ref().is_some_and(Rollout::misses_module),
        waiting: rollout.map(|rollout| rollout.waiting),
    }
}

/// Whether a status speaks of this generation as published already. Then a bus that has just gone away changes nothing
/// in it.
fn already_said(previous: &WasmRuleStatus, now: &WasmRuleStatus, outcome: &Outcome) -> bool {
    outcome.is_published()
        && previous.observed_generation == now.observed_generation
        && previous.enforced == now.enforced
}

// === impl Wanted ===

impl<'a> Wanted<'a> {
    fn rollout(
        &self,
        key: &RuleKey,
        uid: &str,
        previous: &WasmRuleStatus,
        progress: &Progress,
        fleet: &Fleet,
        now: Instant,
    ) -> Rollout {
        let (state, revision, candidate, place) = match self {
            Self::Published(state, entry) => {
                let (sequence, head) = (entry.sequence, state.last_sequence());
                let place = Place::Published { sequence, head, set: state.set_hash() };
                (state, Cow::Borrowed(&entry.revision), entry.candidate(), place)
            }
            Self::Kept(state, kept) => {
                let revision = Revision::from(kept.revision.clone());
                (state, Cow::Owned(revision), None, Place::Kept { uid })
            }
        };
        let (revision, stream) = (&*revision, state.stream().as_str());
        let target = RuleTarget { key, revision, candidate, stream, place, mark: OnceCell::new() };
        aggregate(&target, fleet, was_ready(previous, revision), &progress.waiting, now)
    }

    /// How a status names it. The same revision has the same module.
    fn enforced(&self, outcome: &'a Outcome) -> Cow<'a, EnforcedRevision> {
        match (self, outcome) {
            (Self::Kept(_, kept), _) => Cow::Borrowed(kept),
            (Self::Published(_, entry), Outcome::Published(published))
                if published.enforced.revision == entry.revision.as_str() =>
            {
                Cow::Borrowed(&published.enforced)
            }
            (Self::Published(_, entry), _) => Cow::Owned(entry.enforced()),
        }
    }
}

/// The grace of joining nodes is for a rule that has been everywhere.
fn was_ready(status: &WasmRuleStatus, revision: &Revision) -> bool {
    let ready =
        status.conditions.iter().any(|c| c.type_ == ConditionType::Ready.as_str() && c.status == "True");
    ready && status.stable_revision.as_deref() == Some(revision.as_str())
}
