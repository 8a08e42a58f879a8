//! What is counted of each rule.
//!
//! A series is exported once it is not zero, and for as long as its rule is in the active set: ten thousand rules that
//! concern no request are no series at all.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_crds::RuleKey;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::labels::{FailureCause, RuleVerdict};
use crate::token_bucket::{Rate, TokenBucket};

/// What it came to when a rule was asked about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RuleOutcome {
    /// A verdict.
    Verdict(RuleVerdict),
    /// None.
    Failed(FailureCause),
}

/// The counts of one rule.
#[derive(Debug, Default)]
pub(crate) struct RuleCounters {
    verdicts: [OutcomeTally; RuleVerdict::ALL.len()],
    failures: [OutcomeTally; FailureCause::ALL.len()],
    unsound: AtomicU64,
}

/// How often a rule came to one outcome, and what of that the log still has to be told.
#[derive(Debug, Default)]
pub(crate) struct OutcomeTally {
    count: AtomicU64,
    lines: TokenBucket,
    suppressed: AtomicU64,
}

/// The counts of all rules. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct RulesCounters(Arc<Mutex<BTreeMap<RuleKey, Arc<RuleCounters>>>>);

// === impl RuleCounters ===

impl RuleCounters {
    /// The counts of one outcome.
    pub(crate) fn of(&self, outcome: RuleOutcome) -> &OutcomeTally {
        match outcome {
            RuleOutcome::Verdict(verdict) => &self.verdicts[verdict as usize],
            RuleOutcome::Failed(cause) => &self.failures[cause as usize],
        }
    }

    /// Counts one outcome.
    pub(crate) fn count(&self, outcome: RuleOutcome) {
        self.of(outcome).count.fetch_add(1, Relaxed);
    }

    /// Counts an evaluation that the prefilter would have skipped, and that did not allow the request.
    pub(crate) fn prefilter_unsound(&self) {
        self.unsound.fetch_add(1, Relaxed);
    }
}

// === impl OutcomeTally ===

impl OutcomeTally {
    /// Whether the log may be told of one now.
    pub(crate) fn takes_line(&self, rate: Rate, now: Duration) -> bool {
        self.lines.take(rate, now)
    }

    /// Keeps in mind that the log was not told of some.
    pub(crate) fn suppress(&self, events: u64) {
        self.suppressed.fetch_add(events, Relaxed);
    }

    /// How many the log was not told of since this was asked last.
    pub(crate) fn take_suppressed(&self) -> u64 {
        self.suppressed.swap(0, Relaxed)
    }

    fn get(&self) -> u64 {
        self.count.load(Relaxed)
    }
}

// === impl RulesCounters ===

impl RulesCounters {
    /// The counts of a rule, which begin at zero for one that is new. Takes a lock: for the control thread.
    pub(super) fn of(&self, key: &RuleKey) -> Arc<RuleCounters> {
        Arc::clone(self.lock().entry(key.clone()).or_default())
    }

    /// Forgets the rules that are gone. Takes a lock: for the control thread.
    pub(super) fn retain(&self, kept: &HashSet<&RuleKey>) {
        self.lock().retain(|key, _| kept.contains(key));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RuleKey, Arc<RuleCounters>>> {
        // The map is whole after every step, so a panic elsewhere leaves nothing to repair.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for RulesCounters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let rules = self.lock();
        let mut evaluations =
            family(&mut encoder, "portcullis_rule_evaluations", "Evaluations by rule and verdict")?;
        for (key, counters) in rules.iter() {
            for (verdict, counts) in RuleVerdict::ALL.iter().zip(&counters.verdicts) {
                series(&mut evaluations, key, Some(("verdict", verdict.as_str())), counts.get())?;
            }
            let failed = counters.failures.iter().map(OutcomeTally::get).sum();
            series(&mut evaluations, key, Some(("verdict", "failed")), failed)?;
        }
        let mut errors = family(
            &mut encoder,
            "portcullis_rule_errors",
            "Evaluations without a verdict, by rule and cause",
        )?;
        for (key, counters) in rules.iter() {
            for (cause, counts) in FailureCause::ALL.iter().zip(&counters.failures) {
                series(&mut errors, key, Some(("cause", cause.as_str())), counts.get())?;
            }
        }
        let mut unsound = family(
            &mut encoder,
            "portcullis_prefilter_unsound",
            "Skipped evaluations that were done all the same and did not allow the request, by rule",
        )?;
        for (key, counters) in rules.iter() {
            series(&mut unsound, key, None, counters.unsound.load(Relaxed))?;
        }
        Ok(())
    }
}

fn family<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    name: &'e str,
    help: &'e str,
) -> Result<MetricEncoder<'e>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Counter)
}

/// Exports a count, unless it is zero.
fn series(
    family: &mut MetricEncoder<'_>,
    key: &RuleKey,
    label: Option<(&str, &str)>,
    count: u64,
) -> fmt::Result {
    if count == 0 {
        return Ok(());
    }
    let rule = [("namespace", key.namespace.as_deref().unwrap_or_default()), ("rule", key.name.as_str())];
    let labels: Vec<_> = rule.into_iter().chain(label).collect();
    ConstCounter::new(count).encode(family.encode_family(&labels)?)
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    /// The series that are exported.
    fn exported(tallies: &RulesCounters) -> Vec<String> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(tallies.clone()));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn a_series_exists_once_it_is_not_zero() {
        let tallies = RulesCounters::default();
        let keys = [RuleKey::namespaced("shop", "a"), RuleKey { namespace: None, name: "b".into() }];
        let [a, b] = keys.each_ref().map(|key| tallies.of(key));
        assert_eq!(exported(&tallies), [""; 0]);
        a.count(RuleOutcome::Verdict(RuleVerdict::Block));
        b.count(RuleOutcome::Failed(FailureCause::Budget));
        b.count(RuleOutcome::Failed(FailureCause::Error));
        b.prefilter_unsound();
        assert_eq!(
            exported(&tallies),
            [
                r#"portcullis_rule_evaluations_total{namespace="",rule="b",verdict="failed"} 2"#,
                r#"portcullis_rule_evaluations_total{namespace="shop",rule="a",verdict="block"} 1"#,
                r#"portcullis_rule_errors_total{namespace="",rule="b",cause="error"} 1"#,
                r#"portcullis_rule_errors_total{namespace="",rule="b",cause="budget"} 1"#,
                r#"portcullis_prefilter_unsound_total{namespace="",rule="b"} 1"#,
            ]
        );
    }

    #[test]
    fn a_rule_that_stays_keeps_its_counts_and_one_that_comes_back_starts_over() {
        let tallies = RulesCounters::default();
        let (stays, goes) = (RuleKey::namespaced("shop", "stays"), RuleKey::namespaced("shop", "goes"));
        for key in [&stays, &goes] {
            tallies.of(key).count(RuleOutcome::Verdict(RuleVerdict::Allow));
        }
        tallies.retain(&HashSet::from([&stays]));
        for key in [&stays, &goes] {
            tallies.of(key).count(RuleOutcome::Verdict(RuleVerdict::Allow));
        }
        assert_eq!(
            exported(&tallies),
            [
                r#"portcullis_rule_evaluations_total{namespace="shop",rule="goes",verdict="allow"} 1"#,
                r#"portcullis_rule_evaluations_total{namespace="shop",rule="stays",verdict="allow"} 2"#,
            ]
        );
    }
}
