//! What is worked out about a rule before it sees a request.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use portcullis_engine::{Limits, Phase};
use portcullis_view::Sections;

use super::active_rule::{ActiveRule, Loaded, Role};
use super::limiter::Limiter;
use crate::head::RequestHead;
use crate::metrics::RuleCounters;
use crate::route::Scope;
use portcullis_crds::wasm_rule::Isolation;

/// Instances that a thread keeps at most, for rules with `isolation: PerWorker`.
pub const WORKER_INSTANCES: usize = 16;

/// A rule that costs no more than this is run by the worker that serves the request.
const INLINE_DEADLINE: Duration = Duration::from_millis(1);
const INLINE_FUEL: u64 = 1_000_000;

/// Where a rule is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the thread that serves the request.
    Inline,
    /// On a thread that serves nobody: other requests would wait too long.
    Offloaded,
}

/// What is worked out about a rule before it sees a request.
#[derive(Debug)]
pub(crate) struct PreparedRule {
    pub(crate) counters: Arc<RuleCounters>,
    /// What the rule is shown; none of ABI 1.
    pub(crate) sections: Sections,
    pub(crate) place: Place,
    /// Which requests it judges; `None` if all.
    scope: Option<Scope>,
    expires_at: Option<Timestamp>,
    pub(crate) limiter: Option<Arc<Limiter>>,
    is_abi_1: bool,
    has_worker_instance: bool,
}

impl PreparedRule {
    /// `before` is the limiter of the same rule in the set before: what it counted still counts.
    pub(super) fn new(rule: &ActiveRule, counters: Arc<RuleCounters>, before: Option<&Arc<Limiter>>) -> Self {
        let limiter = rule.rate_limit.as_ref().map(|limit| match before {
            Some(before) if before.is_of(limit) => Arc::clone(before),
            _ => Arc::new(Limiter::new(limit)),
        });
        let abi2 = match &rule.module {
            Loaded::Module(module) if module.info().abi > 1 => Some(module.info()),
            Loaded::Module(_) | Loaded::Unavailable => None,
        };
        Self {
            counters,
            sections: abi2.map_or(Sections::NONE, |info| info.describe.sections()),
            place: place(&rule.limits),
            scope: rule.matches.as_ref().map(Scope::of),
            expires_at: rule.expires_at,
            limiter,
            is_abi_1: matches!(&rule.module, Loaded::Module(module) if module.info().abi == 1),
            // A candidate takes no place from those that run.
            has_worker_instance: abi2.is_some()
                && rule.isolation == Isolation::PerWorker
                && rule.role == Role::Stable,
        }
    }

    /// The first in order of precedence keep theirs.
    pub(super) fn limit_worker_instances(rules: &mut [Self]) {
        for rule in rules.iter_mut().filter(|rule| rule.has_worker_instance).skip(WORKER_INSTANCES) {
            rule.has_worker_instance = false;
        }
    }

    /// Whether the rule judges this request, whatever its prefilter says.
    pub(crate) fn judges(&self, head: &RequestHead) -> bool {
        self.scope.as_ref().is_none_or(|scope| scope.includes(head))
            && self.expires_at.is_none_or(|at| Timestamp::now() < at)
    }

    /// Whether there are requests that the rule does not judge.
    pub(crate) fn is_selective(&self) -> bool {
        self.scope.is_some() || self.expires_at.is_some()
    }

    /// Whether what the rule is shown of a body depends on what the body says.
    pub(crate) fn reads_body(&self) -> bool {
        self.is_abi_1 || self.sections.iter().any(|id| Sections::BODY.contains(id))
    }

    /// Whether the rule is handed JSON.
    pub(crate) fn is_abi_1(&self) -> bool {
        self.is_abi_1
    }

    /// Whether a thread keeps an instance of the rule.
    pub(crate) fn has_worker_instance(&self) -> bool {
        self.has_worker_instance
    }

    /// What does not happen although the rule's author or user may think so.
    pub(super) fn warnings(&self, rule: &ActiveRule) -> Vec<String> {
        let Loaded::Module(module) = &rule.module else { return Vec::new() };
        let info = module.info();
        let mut warnings = Vec::new();
        for phase in info.phases.iter().filter(|phase| !matches!(phase, Phase::Request | Phase::RequestBody))
        {
            warnings.push(format!("the rule has the phase {phase}, which this proxy does not run"));
        }
        if rule.isolation == Isolation::PerWorker && !self.has_worker_instance {
            warnings.push(format!(
                "isolation: PerWorker is not kept, every evaluation has a fresh instance; it is for rules of ABI 2, {WORKER_INSTANCES} of them on a node"
            ));
        }
        warnings
    }
}

fn place(limits: &Limits) -> Place {
    if limits.deadline <= INLINE_DEADLINE && limits.fuel <= INLINE_FUEL {
        Place::Inline
    } else {
        Place::Offloaded
    }
}
