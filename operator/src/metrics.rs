//! Metrics of the operator, all named `portcullis_operator_*`.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use portcullis_crds::WasmRule;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::outcome::Outcome;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Step {
    step: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    reconciles: Family<Step, Counter>,
    patches: Family<ByResult, Counter>,
    rules: Family<ByReason, Gauge>,
    pub(crate) leader: Gauge,
    pub(crate) bus_connected: Gauge,
    pub(crate) agents_reporting: Gauge,
    pub(crate) reports_refused: Counter,
    pub(crate) checkpoint_missing_rules: Gauge,
    pub(crate) last_checkpoint: Gauge<f64, AtomicU64>,
}

// === impl Metrics ===

impl Metrics {
    /// Puts all of them into a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("portcullis_operator");
        registry.register(
            "reconciles",
            "Reconciliations that did something, by the condition they ended at and its reason",
            self.reconciles.clone(),
        );
        registry.register("status_patches", "Status patches by what came of them", self.patches.clone());
        registry.register("rules", "Rules by the reason of their Ready condition", self.rules.clone());
        registry.register("leader", "1 while this operator leads", self.leader.clone());
        registry.register("bus_connected", "1 while the bus is connected", self.bus_connected.clone());
        registry.register(
            "agents_reporting",
            "Agents heard within three heartbeats",
            self.agents_reporting.clone(),
        );
        registry.register(
            "reports_refused",
            "Reports that were malformed, too large or not of this cluster",
            self.reports_refused.clone(),
        );
        registry.register(
            "checkpoint_missing_rules",
            "Rules that are enforced and that the bus does not have; nodes keep what they have of them",
            self.checkpoint_missing_rules.clone(),
        );
        registry.register(
            "last_checkpoint_timestamp_seconds",
            "When the last checkpoint was published",
            self.last_checkpoint.clone(),
        );
    }

    /// A rule came this far.
    pub(crate) fn reconciled(&self, outcome: &Outcome) {
        let (step, reason) = match outcome {
            Outcome::Halted { halt, .. } => (halt.condition.as_str(), halt.reason.as_str()),
            Outcome::Published(_) => ("Programmed", "Published"),
        };
        self.reconciles.get_or_create(&Step { step, reason }).inc();
    }

    /// A status was written, or not.
    pub(crate) fn patched<T>(&self, written: &Result<T, kube::Error>) {
        let result = match written {
            Ok(_) => "written",
            Err(kube::Error::Api(status)) if status.code == 409 => "conflict",
            Err(_) => "failed",
        };
        self.patches.get_or_create(&ByResult { result }).inc();
    }

    /// Counts all rules anew.
    pub(crate) fn count_rules<'a>(&self, rules: impl Iterator<Item = &'a WasmRule>) {
        let mut counts = BTreeMap::<String, i64>::new();
        for rule in rules {
            let conditions = rule.status.as_ref().map_or(&[][..], |status| &status.conditions);
            let ready = conditions.iter().find(|c| c.type_ == "Ready");
            *counts.entry(ready.map_or_else(|| "Pending".to_owned(), |c| c.reason.clone())).or_default() += 1;
        }
        // Dropped first: a reason that no rule has any more would keep its last number.
        self.rules.clear();
        for (reason, count) in counts {
            self.rules.get_or_create(&ByReason { reason }).set(count);
        }
    }

    /// This operator no longer leads, and so knows nothing of these.
    pub(crate) fn follow(&self) {
        self.leader.set(0);
        self.bus_connected.set(0);
        self.agents_reporting.set(0);
        self.checkpoint_missing_rules.set(0);
        self.rules.clear();
    }
}
