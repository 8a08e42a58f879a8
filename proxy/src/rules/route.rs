//! Routes: which requests go to which upstream, and which rules run on them.

use portcullis_engine::Phase;

use super::active_rule::ActiveRule;
use super::phase_plan::PhasePlan;
use super::versions::Versions;
use crate::config::Upstream;

/// All routes, of which a request takes one.
#[derive(Debug)]
pub(crate) struct RouteTable {
    default: Route,
}

/// Where some requests go, and the rules that run on them.
#[derive(Debug)]
pub(crate) struct Route {
    upstream: Upstream,
    /// By phase.
    plans: [PhasePlan; Phase::ALL.len()],
    largest_body: Option<u64>,
}

impl RouteTable {
    /// With one route, which all requests take and all rules run on.
    pub(super) fn of_default(upstream: Upstream, rules: &[ActiveRule]) -> Self {
        Self { default: Route::new(upstream, rules, &Versions::of(rules)) }
    }

    /// The route of a request.
    pub(crate) fn select(&self) -> &Route {
        &self.default
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Route> {
        std::iter::once(&self.default)
    }
}

impl Route {
    fn new(upstream: Upstream, rules: &[ActiveRule], versions: &[Versions]) -> Self {
        let plans = Phase::ALL.map(|phase| PhasePlan::new(phase, rules, versions));
        let body = &plans[Phase::RequestBody as usize];
        let largest_body = body.stable().filter_map(|index| rules[index].body_bytes).max();
        Self { upstream, plans, largest_body }
    }

    /// Where its requests go.
    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// The rules that run in a phase.
    pub(crate) fn plan(&self, phase: Phase) -> &PhasePlan {
        &self.plans[phase as usize]
    }

    /// The most bytes of a body that any of its rules inspects; `None` when bodies stream through.
    pub(crate) fn largest_body(&self) -> Option<u64> {
        self.largest_body
    }

    pub(super) fn distrust_broken_prefilters(&self, rules: &[ActiveRule]) {
        for plan in &self.plans {
            plan.distrust_broken_prefilter(rules);
        }
    }
}
