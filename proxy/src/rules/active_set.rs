//! A set as requests see it: in order of precedence, with a plan for each phase.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use portcullis_crds::RuleKey;
use portcullis_crds::wasm_rule::Mode;
use portcullis_engine::Limits;

use super::active_rule::{ActiveRule, Role, RuleSet};
use super::limiter::Limiter;
use super::prepared_rule::PreparedRule;
use super::route::Routes;
use crate::config::Upstream;
use crate::metrics::RequestMetrics;

/// Fuel that one request has for all rules together, at least.
const TOTAL_FUEL: u64 = 5_000_000;
/// CPU time that one request has for all rules together, at least.
const TOTAL_TIME: Duration = Duration::from_millis(10);

/// A set as requests see it.
#[derive(Debug)]
pub struct ActiveSet {
    set: RuleSet,
    /// About `set.rules`, by index.
    prepared: Vec<PreparedRule>,
    routes: Routes,
    total: Limits,
    generation: u64,
}

impl ActiveSet {
    /// Orders the rules and builds the prefilters: for the control thread.
    pub(super) fn new(
        mut set: RuleSet,
        generation: u64,
        upstream: &Upstream,
        metrics: &RequestMetrics,
        before: Option<&Self>,
    ) -> Self {
        set.rules.retain(|rule| rule.mode != Mode::Disabled);
        set.rules.sort_by(|a, b| precedence(a).cmp(&precedence(b)));
        let limiters = before.map(Self::limiters).unwrap_or_default();
        let prepare = |rule: &ActiveRule| {
            let before = limiters.get(&(&rule.key, rule.uid.as_str(), is_stable(&rule))).copied();
            PreparedRule::new(rule, metrics.rule(&rule.key), before)
        };
        let mut prepared: Vec<_> = set.rules.iter().map(prepare).collect();
        PreparedRule::limit_worker_instances(&mut prepared);
        set.routes.sort_by(|a, b| a.key.cmp(&b.key));
        let routes = Routes::new(upstream.clone(), &set.rules, &set.routes);
        let total = total(&set.rules);
        Self { set, prepared, routes, total, generation }
    }

    fn limiters(&self) -> HashMap<(&RuleKey, &str, bool), &Arc<Limiter>> {
        let rules = self.set.rules.iter().zip(&self.prepared);
        let limiters = rules.filter_map(|(rule, prepared)| {
            Some(((&rule.key, rule.uid.as_str(), is_stable(&rule)), prepared.limiter.as_ref()?))
        });
        limiters.collect()
    }

    /// The set itself.
    pub fn set(&self) -> &RuleSet {
        &self.set
    }

    /// Which requests go where.
    pub(crate) fn routes(&self) -> &Routes {
        &self.routes
    }

    /// A rule of a plan.
    pub(crate) fn rule(&self, index: usize) -> (&ActiveRule, &PreparedRule) {
        (&self.set.rules[index], &self.prepared[index])
    }

    /// Rules whose instances are kept.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &ActiveRule> {
        self.set
            .rules
            .iter()
            .zip(&self.prepared)
            .filter(|(_, rule)| rule.has_worker_instance())
            .map(|(rule, _)| rule)
    }

    /// What one request may cost over all rules.
    pub(crate) fn total(&self) -> &Limits {
        &self.total
    }

    /// Later sets have higher numbers.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Runs all rules on every request whose modules broke the promise of their prefilters.
    pub(crate) fn distrust_broken_prefilters(&self) {
        self.routes.distrust_broken_prefilters(&self.set.rules);
    }

    /// Logs what of the rules that were not in `before` does not run as their authors may think.
    pub(super) fn warn_of_what_is_new_since(&self, before: &Self) {
        let known: HashSet<_> = before.set.rules.iter().filter(is_stable).map(identity).collect();
        for (rule, prepared) in self.set.rules.iter().zip(&self.prepared).filter(|(rule, _)| is_stable(rule))
        {
            if !known.contains(&identity(rule)) {
                for warning in prepared.warnings(rule) {
                    tracing::warn!(rule = %rule.key, revision = %rule.revision, "{warning}");
                }
            }
        }
    }
}

/// Cluster rules first, then by priority, then by namespace and name.
fn precedence(rule: &ActiveRule) -> (bool, i32, &RuleKey) {
    (rule.key.namespace.is_some(), rule.priority, &rule.key)
}

/// Only such a one runs, see [`pick`](super::versions::pick).
fn is_stable(rule: &&ActiveRule) -> bool {
    rule.role == Role::Stable
}

fn identity(rule: &ActiveRule) -> (&str, &str) {
    (&rule.uid, rule.revision.as_str())
}

/// No rule alone can spend what the others need: at least twice what the dearest may take.
fn total(rules: &[ActiveRule]) -> Limits {
    let run = || rules.iter().filter(is_stable);
    let dearest = |cost: fn(&Limits) -> u64| run().map(|rule| cost(&rule.limits)).max().unwrap_or(0);
    let longest = run().map(|rule| rule.limits.deadline).max().unwrap_or_default();
    Limits {
        fuel: TOTAL_FUEL.max(dearest(|limits| limits.fuel).saturating_mul(2)),
        fuel_per_byte: dearest(|limits| limits.fuel_per_byte).saturating_mul(2),
        memory_bytes: dearest(|limits| limits.memory_bytes),
        deadline: TOTAL_TIME.max(longest.saturating_mul(2)),
    }
}
