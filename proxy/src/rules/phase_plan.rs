//! What runs in one phase of a request, and what has to be known of the request for that.

use portcullis_engine::describe::Literals;
use portcullis_engine::{Phase, Prefilter};
use portcullis_view::Sections;

use super::active_rule::{ActiveRule, Loaded};
use super::versions::{Versions, pick};
use portcullis_crds::wasm_rule::{Isolation, Mode};

/// A rule that runs on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct AppliedRule {
    pub(super) versions: Versions,
    /// What its verdict does there, if that is not the rule's own mode.
    pub(super) mode: Option<Mode>,
}

/// The rules of one phase.
#[derive(Debug)]
pub(crate) struct PhasePlan {
    phase: Phase,
    /// In order of precedence. A rule's place in this list is its position.
    rules: Vec<AppliedRule>,
    sections: Sections,
    prefilter: Prefilter,
}

impl PhasePlan {
    /// Of those rules of a set that run on a route.
    pub(super) fn new(phase: Phase, all: &[ActiveRule], applied: &[AppliedRule]) -> Self {
        let stable = |applied: &AppliedRule| &all[applied.versions.stable()];
        let rules: Vec<_> =
            applied.iter().filter(|applied| runs_in(stable(applied), phase)).copied().collect();
        let sections = rules
            .iter()
            .map(|applied| sections(stable(applied)))
            .fold(Sections::NONE, |all, of_one| all | of_one);
        let prefilter = Prefilter::new(phase, rules.iter().map(|applied| literals(stable(applied))))
            .unwrap_or_else(|error| {
                tracing::error!(%phase, %error, "no prefilter");
                Prefilter::new(phase, rules.iter().map(|_| &[][..]))
                    .expect("without literals there is nothing to build")
            });
        Self { phase, rules, sections, prefilter }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Indices in the set of the rules' stable versions, in order of precedence.
    pub(super) fn stable(&self) -> impl Iterator<Item = usize> {
        self.rules.iter().map(|applied| applied.versions.stable())
    }

    /// The index in the set of the version that a request gets of the rule at a position of this plan.
    pub(crate) fn rule(&self, position: usize) -> usize {
        pick(self.rules[position].versions)
    }

    /// What the verdict of the rule at a position does on this route, if that is not the rule's own mode.
    pub(crate) fn mode(&self, position: usize) -> Option<Mode> {
        self.rules[position].mode
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What rules of ABI 2 are shown, and what their prefilters look at.
    pub(crate) fn sections(&self) -> Sections {
        self.sections
    }

    pub(super) fn distrust_broken_prefilter(&self, all: &[ActiveRule]) {
        for (position, index) in self.stable().enumerate() {
            if literals(&all[index]).is_empty() {
                self.prefilter.distrust(position);
            }
        }
    }

    /// Which rules a request concerns, by position.
    pub(crate) fn prefilter(&self) -> &Prefilter {
        &self.prefilter
    }
}

/// A rule without a module reads nothing: its answer does not depend on the body.
fn runs_in(rule: &ActiveRule, phase: Phase) -> bool {
    let Loaded::Module(module) = &rule.module else { return phase == Phase::Request };
    let (info, reads_bodies) = (module.info(), rule.body_bytes.is_some());
    match phase {
        Phase::Request if info.abi == 1 => !reads_bodies,
        Phase::RequestBody if info.abi == 1 => reads_bodies,
        Phase::Request => info.phases.contains(phase),
        Phase::RequestBody => info.phases.contains(phase) && reads_bodies,
        Phase::Response | Phase::Message | Phase::Hook => false,
    }
}

fn sections(rule: &ActiveRule) -> Sections {
    match &rule.module {
        Loaded::Module(module) if module.info().abi > 1 => {
            let searched = literals(rule).iter().map(|list| Sections::from(list.section()));
            searched.fold(module.info().describe.sections(), |all, of_one| all | of_one)
        }
        Loaded::Module(_) | Loaded::Unavailable => Sections::NONE,
    }
}

/// A rule that remembers has to see every request.
fn literals(rule: &ActiveRule) -> &[Literals] {
    match (&rule.module, rule.isolation) {
        (Loaded::Module(module), Isolation::PerRequest) => module.prefilter(),
        (Loaded::Module(_), Isolation::PerWorker) | (Loaded::Unavailable, _) => &[],
    }
}
