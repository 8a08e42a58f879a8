//! The part of a report that changes.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_crds::bus::report::{EXCEPTIONS_MAX, MARKS_MAX};
use portcullis_crds::bus::{Exception, ExceptionState, Kept, Mark, SetHash};
use portcullis_crds::revision::Revision;
use portcullis_crds::rule_key::RuleKey;
use portcullis_crds::wasm_rule::Mode;

use crate::desired::View;
use crate::enforce::local::LocalRules;
use crate::enforce::slots::Slots;

/// What an agent says of its set at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportState {
    /// The stream that `sequence` belongs to.
    pub stream: String,
    /// Highest epoch seen.
    pub epoch: u64,
    /// Everything up to this sequence was read.
    pub sequence: u64,
    /// Sequence of the last rule or tombstone that was read.
    pub rule_sequence: u64,
    /// Hash of the set as it was read.
    pub desired: SetHash,
    /// Hash of what runs.
    pub active: SetHash,
    /// Rules that are run on requests.
    pub active_count: u64,
    /// Rules whose wanted revision does not run.
    pub exceptions: Vec<Exception>,
    /// Exceptions whose text did not fit.
    pub marks: BTreeMap<ExceptionState, BTreeSet<Mark>>,
    /// Exceptions that fit nowhere.
    pub more: u64,
    /// Rules that are not on the stream.
    pub kept: Vec<Kept>,
}

impl ReportState {
    /// Of the set that was committed last. A Disabled rule counts as active when it is known to be
    /// disabled: that is what is wanted of it.
    pub fn of<M: Clone>(view: &View, slots: &Slots<M>, local: &LocalRules<M>) -> Self {
        let running = slots.rules().filter_map(|(_, running)| running).chain(local.iter());
        let active: BTreeMap<&RuleKey, (&str, &Revision, Mode)> = running
            .map(|r| {
                let version = &r.version;
                (&version.rule.key, (version.uid.as_str(), &version.revision, version.rule.mode))
            })
            .collect();
        let refused = view.refused.iter().map(|(key, refused)| Exception {
            key: key.clone(),
            wanted: refused.wanted.clone(),
            active: slots.running(key).map(|r| r.version.revision.clone()),
            state: portcullis_crds::bus::ExceptionState::Unsupported,
            message: refused.message.clone(),
        });
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
            rule_sequence: view.rule_sequence,
            desired: view.hash(),
            active: SetHash::of(active.iter().map(|(key, (uid, revision, _))| (*key, *uid, *revision))),
            active_count: active.values().filter(|(_, _, mode)| *mode != Mode::Disabled).count() as u64,
            exceptions,
            marks,
            more,
            kept: kept.take(EXCEPTIONS_MAX).collect(),
        }
    }

    /// Whether it is worth a report before the next heartbeat. A checkpoint alone is not: it reaches all
    /// agents at the same moment, and they would all answer at once.
    pub fn is_news_after(&self, before: &Self) -> bool {
        Self { sequence: before.sequence, ..self.clone() } != *before
    }
}
