//! The part of a report that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_crds::bus::report::{EXCEPTIONS_MAX, MARKS_MAX};
use portcullis_crds::bus::{
    DesiredRoute, Exception, ExceptionState, Kept, Mark, RouteException, RoutesReport, SetHash,
};
use portcullis_crds::revision::Revision;
use portcullis_crds::route_key::RouteKey;
use portcullis_crds::rule_key::RuleKey;
use portcullis_crds::wasm_rule::Mode;

use crate::desired::{Refused, RuleRevision, View};
use crate::enforce::local::LocalRules;
use crate::enforce::slots::{RuleState, Running, Slots};

/// What an agent says of its set at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportState {
    /// The stream that `sequence` belongs to.
    pub stream: String,
    /// Highest epoch seen.
    pub epoch: u64,
    /// Everything up to this sequence was read.
    pub sequence: u64,
    /// Sequence of the last rule, route or tombstone that was read.
    pub object_sequence: u64,
    /// Hash of the set as it was read.
    pub desired: SetHash,
    /// Hash of what runs.
    pub active: SetHash,
    /// Rules that are run on requests.
    pub active_count: u64,
    /// Wanted revisions that are not active.
    pub exceptions: Vec<Exception>,
    /// Exceptions whose text did not fit.
    pub marks: BTreeMap<ExceptionState, BTreeSet<Mark>>,
    /// Exceptions that fit nowhere.
    pub more: u64,
    /// Rules that are not on the stream.
    pub kept: Vec<Kept>,
    /// The routes.
    pub routes: RoutesReport,
}

impl ReportState {
    /// Of the set that was committed last. A Disabled rule counts as active when it is known to be
    /// disabled: that is what is wanted of it.
    pub fn of<M: Clone>(
        view: &View,
        slots: &Slots<M>,
        local: &LocalRules<M>,
        served: &BTreeMap<RouteKey, Arc<DesiredRoute>>,
    ) -> Self {
        let running = slots.rules().flat_map(|rule| [rule.stable, rule.candidate]).flatten();
        let mut active: Vec<&RuleRevision> =
            running.chain(local.iter()).map(|running| &running.revision).collect();
        // Stable: of each rule the candidate stays the second.
        active.sort_by_key(|revision| revision.key());
        let enforced = |revision: &&&RuleRevision| {
            revision.as_candidate().is_none() && revision.spec().mode != Mode::Disabled
        };
        let active_count = active.iter().filter(enforced).count() as u64;
        let active = active.into_iter().map(|r| (r.key(), r.uid(), r.revision()));
        let refused = view.refused.iter().flat_map(|(key, refused)| refusals(key, refused, slots.rule(key)));
        let waiting = slots.exceptions().filter(|e| !view.refused.contains_key(&e.key));
        let mut exceptions: Vec<Exception> = refused.chain(waiting).chain(local.marks()).collect();
        let without_text = exceptions.split_off(exceptions.len().min(EXCEPTIONS_MAX));
        let more = without_text.len().saturating_sub(MARKS_MAX) as u64;
        let mut marks = BTreeMap::<_, BTreeSet<_>>::new();
        for exception in without_text.iter().take(MARKS_MAX) {
            marks.entry(exception.state).or_default().insert(Mark::of(&exception.key, &exception.wanted));
        }
        let kept = view.kept.iter().filter_map(|key| view.rules.get(key));
        let kept = kept.map(|version| Kept {
            key: version.rule.key.clone(),
            uid: version.uid.clone(),
            revision: version.revision.clone(),
        });
        Self {
            stream: view.stream.as_ref().map(|s| s.as_str().to_owned()).unwrap_or_default(),
            epoch: view.fence.epoch,
            sequence: view.sequence,
            object_sequence: view.object_sequence,
            desired: view.hash(),
            active: SetHash::of(active),
            active_count,
            exceptions,
            marks,
            more,
            kept: kept.take(EXCEPTIONS_MAX).collect(),
            routes: routes(view, served),
        }
    }

    /// Whether it is worth a report before the next heartbeat. A checkpoint alone is not: it reaches all
    /// agents at the same moment, and they would all answer at once.
    pub fn is_news_after(&self, before: &Self) -> bool {
        Self { sequence: before.sequence, ..self.clone() } != *before
    }
}

fn routes(view: &View, served: &BTreeMap<RouteKey, Arc<DesiredRoute>>) -> RoutesReport {
    let refused = view.refused_routes.iter().map(|(key, refused)| RouteException {
        key: key.clone(),
        wanted: refused.wanted.clone(),
        state: ExceptionState::Unsupported,
        message: refused.message.clone(),
    });
    let is_refused = |key: &RouteKey| view.refused_routes.contains_key(key);
    let waiting = view.routes.iter().filter(|(key, version)| {
        !is_refused(key) && served.get(key).is_none_or(|served| *served != version.route)
    });
    let waiting = waiting.map(|(key, version)| RouteException {
        key: key.clone(),
        wanted: version.revision.clone(),
        state: ExceptionState::Progressing,
        message: "it is served together with rules that are being made ready".to_owned(),
    });
    let mut exceptions: Vec<_> = refused.chain(waiting).collect();
    let more = exceptions.len().saturating_sub(EXCEPTIONS_MAX) as u64;
    exceptions.truncate(EXCEPTIONS_MAX);
    RoutesReport { desired: view.routes_hash.clone(), exceptions, more }
}

/// The revisions that a refused version wants and that are not active: a part of what it wants may be.
fn refusals<M>(
    key: &RuleKey,
    refused: &Refused,
    rule: Option<RuleState<'_, M>>,
) -> impl Iterator<Item = Exception> {
    let (stable, candidate) = rule.map(|rule| (rule.stable, rule.candidate)).unwrap_or_default();
    let is_active = |running: Option<&Running<M>>, wanted: &Revision| {
        running.is_some_and(|r| r.revision.uid() == refused.uid && r.revision.revision() == wanted)
    };
    let (wanted_stable, wanted_candidate) = refused.revisions();
    let wanted = [
        Some(wanted_stable).filter(|wanted| !is_active(stable, wanted)),
        wanted_candidate.filter(|wanted| !is_active(candidate, wanted)),
    ];
    let instead = stable.map(|running| running.revision.revision().clone());
    wanted.into_iter().flatten().map(move |wanted| Exception {
        key: key.clone(),
        wanted: wanted.clone(),
        active: instead.clone(),
        state: ExceptionState::Unsupported,
        message: refused.message.clone(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::desired::tests::{a_version, with_candidate};
    use crate::desired::{Desired, ObjectVersion, State, Version};
    use crate::enforce::held::Failure;

    /// A view of one rule.
    fn view(version: &Arc<Version>) -> View {
        let rules = [(version.rule.key.clone(), version.clone())].into();
        State::new("c", &[], Desired { rules, ..Desired::default() }).view()
    }

    /// Slots that made ready what they could of this version.
    fn slots(version: &Arc<Version>, candidate: &Result<(), Failure>) -> Slots<()> {
        let (mut slots, now) = (Slots::default(), Instant::now());
        slots.want([(&version.rule.key, version)], now);
        for revision in slots.take_due(now) {
            let outcome = if revision.as_candidate().is_some() { candidate.clone() } else { Ok(()) };
            slots.prepared(&revision, &outcome, now);
        }
        slots.commit(jiff::Timestamp::UNIX_EPOCH);
        slots
    }

    fn said(view: &View, slots: &Slots<()>) -> ReportState {
        ReportState::of(view, slots, &LocalRules::default(), &BTreeMap::new())
    }

    fn unsupported(view: &View, version: &Version) -> View {
        let (stable, candidate) = version.revisions();
        let refused = Refused {
            uid: version.uid.clone(),
            wanted: stable.clone(),
            candidate: candidate.cloned(),
            message: "lacks".to_owned(),
        };
        View { refused: [(version.rule.key.clone(), refused)].into(), ..view.clone() }
    }

    #[test]
    fn stable_revision_and_candidate_are_desired_and_active_and_one_rule() {
        let version = Arc::new(with_candidate(a_version("shop", "a", 1), 2));
        let state = said(&view(&version), &slots(&version, &Ok(())));
        assert_eq!((&state.active, state.active_count, state.exceptions.len()), (&state.desired, 1, 0));
        let stable = Arc::new(a_version("shop", "a", 1));
        assert_ne!(said(&view(&stable), &slots(&stable, &Ok(()))).active, state.active);
    }

    #[test]
    fn a_candidate_that_is_not_held_is_missing_from_what_is_active() {
        let version = Arc::new(with_candidate(a_version("shop", "a", 1), 2));
        let failure =
            Failure { state: ExceptionState::CompileFailed, message: "no".to_owned(), retry: false };
        let state = said(&view(&version), &slots(&version, &Err(failure)));
        let stable = Arc::new(a_version("shop", "a", 1));
        assert_eq!(state.active, said(&view(&stable), &slots(&stable, &Ok(()))).active);
        let wanted: Vec<_> = state.exceptions.iter().map(|e| Some(&e.wanted)).collect();
        assert_eq!(wanted, [version.rule.candidate_revision()]);
    }

    #[test]
    fn of_a_refused_version_what_is_not_active_is_unsupported() {
        let stable = Arc::new(a_version("shop", "a", 1));
        let slots = slots(&stable, &Ok(()));
        let wanted = |version: Version| -> Vec<Revision> {
            let state = said(&unsupported(&view(&stable), &version), &slots);
            assert!(state.exceptions.iter().all(|e| e.state == ExceptionState::Unsupported));
            state.exceptions.into_iter().map(|e| e.wanted).collect()
        };
        let [of_2, of_3] = [2, 3].map(|generation| a_version("shop", "a", generation).revision);
        assert_eq!(wanted(a_version("shop", "a", 2)), std::slice::from_ref(&of_2));
        assert_eq!(wanted(with_candidate(a_version("shop", "a", 1), 3)), std::slice::from_ref(&of_3));
        assert_eq!(wanted(with_candidate(a_version("shop", "a", 2), 3)), [of_2, of_3]);
    }
}
