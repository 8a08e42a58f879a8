//! Evaluations that the prefilter skipped and that are done all the same, to see whether it keeps its promise.

use std::sync::Arc;

use portcullis_engine::{Phase, Verdict};

use super::evaluation::Evaluation;
use super::input::Input;
use super::worker_instances::WorkerInstances;
use crate::rules::{ActiveSet, Loaded};

/// One in so many skipped evaluations is done all the same.
const ONE_IN: u64 = 1_000;
/// Requests of a worker between two such evaluations at least, however many rules there are.
const REQUESTS_BETWEEN: u32 = 50;

/// Picks the evaluations of one worker.
#[derive(Debug)]
pub(crate) struct Sampler {
    skipped_until_next: u64,
    requests_until_next: u32,
}

/// An evaluation that was skipped.
#[derive(Debug)]
pub(crate) struct Skipped {
    pub(super) set: Arc<ActiveSet>,
    pub(super) phase: Phase,
    /// Index of the rule in its set.
    pub(super) rule: usize,
    pub(super) carry: Vec<u8>,
}

// === impl Sampler ===

impl Sampler {
    pub(crate) fn new() -> Self {
        Self { skipped_until_next: distance(), requests_until_next: 0 }
    }

    /// Picks nothing.
    #[cfg(test)]
    pub(super) fn never() -> Self {
        Self { skipped_until_next: u64::MAX, requests_until_next: u32::MAX }
    }

    /// Counts a request.
    pub(super) fn request(&mut self) {
        self.requests_until_next = self.requests_until_next.saturating_sub(1);
    }

    /// Counts the evaluations that a phase skipped. Which of them to do, if one.
    pub(super) fn pick(&mut self, skipped: usize) -> Option<usize> {
        self.skipped_until_next = self.skipped_until_next.saturating_sub(skipped as u64);
        if skipped == 0 || self.skipped_until_next > 0 || self.requests_until_next > 0 {
            return None;
        }
        *self = Self { skipped_until_next: distance(), requests_until_next: REQUESTS_BETWEEN };
        Some(rand::random_range(0..skipped))
    }
}

/// At random, so that no one can count along.
fn distance() -> u64 {
    rand::random_range(1..2 * ONE_IN)
}

// === impl Skipped ===

impl Skipped {
    /// Runs the rule. If it does not allow the request, its prefilter is not used any more.
    pub(crate) fn check(&self, input: &Input) {
        let (rule, prepared) = self.set.rule(self.rule);
        let evaluation =
            Evaluation { rule: self.rule, phase: self.phase, carry: self.carry.clone(), measures_cpu: false };
        // A rule with a prefilter keeps no instance.
        let result = evaluation.run(&self.set, input, &mut WorkerInstances::default()).result;
        let (Ok(inspection), Loaded::Module(module)) = (result, &rule.module) else { return };
        if inspection.verdict == Verdict::Allow {
            return;
        }
        let literals: Vec<&str> = module
            .info()
            .describe
            .prefilter
            .iter()
            .flat_map(|list| &list.literals)
            .map(String::as_str)
            .collect();
        prepared.counters.prefilter_unsound();
        module.distrust_prefilter();
        self.set.distrust_broken_prefilters();
        tracing::warn!(
            rule = %rule.key,
            revision = %rule.revision,
            phase = %self.phase,
            verdict = %inspection.verdict,
            ?literals,
            "PrefilterUnsound: the rule does not allow a request that has none of its literals; its prefilter is not used any more, so it runs on every request. Fix the prefilter, or leave it out"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(skipped: usize, requests: usize) -> usize {
        let mut sampler = Sampler::new();
        (0..requests)
            .filter(|_| {
                sampler.request();
                sampler.pick(skipped).is_some_and(|picked| {
                    assert!(picked < skipped);
                    true
                })
            })
            .count()
    }

    #[test]
    fn about_one_in_a_thousand_is_picked() {
        let samples = samples(1, 1_000_000);
        assert!((900..1_100).contains(&samples), "{samples}");
    }

    #[test]
    fn however_many_rules_there_are_few_requests_bear_one() {
        assert_eq!(samples(10_000, 1_000), 20);
        assert_eq!(samples(0, 1_000), 0);
    }
}
