//! Metrics of the control side.

use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_crds::bus::ExceptionState;
use portcullis_engine::CacheCounts;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Label of exceptions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabel {
    state: &'static str,
}

/// Label of compiled modules.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    result: &'static str,
}

/// Clones count into the same families.
#[derive(Clone, Debug)]
pub struct ControlMetrics {
    /// Sequence of the desired state that was reported last.
    pub sequence: Gauge,
    /// When the active set was swapped in, as Unix time in seconds; its age is `time() - this`.
    pub swapped_at: Gauge<f64, AtomicU64>,
    /// Sets swapped in.
    pub swaps: Counter,
    /// Rules in the active set.
    pub rules_active: Gauge,
    /// Rules whose desired revision is not active, by state.
    pub exceptions: Family<StateLabel, Gauge>,
    /// 1 while the bus is connected.
    pub bus_connected: Gauge,
    /// Complete reads of the desired state.
    pub resyncs: Counter,
    /// Reports sent.
    pub reports: Counter,
    /// Time to compile a module.
    pub compile_seconds: Histogram,
    /// Compiled modules that were looked for on disk, by what became of it.
    pub artefacts: Family<ResultLabel, Counter>,
    /// 1 when the last known good set on disk is the one that is active.
    pub kept: Gauge,
}

impl ControlMetrics {
    /// Adds the families to a registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            sequence: Gauge::default(),
            swapped_at: Gauge::default(),
            swaps: Counter::default(),
            rules_active: Gauge::default(),
            exceptions: Family::default(),
            bus_connected: Gauge::default(),
            resyncs: Counter::default(),
            reports: Counter::default(),
            compile_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 9)),
            artefacts: Family::default(),
            kept: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("portcullis_agent");
        registry.register(
            "ruleset_sequence",
            "Sequence of the desired state that is active",
            metrics.sequence.clone(),
        );
        registry.register(
            "ruleset_swapped_timestamp",
            "When the active set was swapped in, Unix time",
            metrics.swapped_at.clone(),
        );
        registry.register("ruleset_swaps", "Sets swapped in", metrics.swaps.clone());
        registry.register("rules_active", "Rules in the active set", metrics.rules_active.clone());
        registry.register(
            "rule_exceptions",
            "Rules whose desired revision is not active, by state",
            metrics.exceptions.clone(),
        );
        registry.register("bus_connected", "1 while the bus is connected", metrics.bus_connected.clone());
        registry.register("resyncs", "Complete reads of the desired state", metrics.resyncs.clone());
        registry.register("reports", "Reports sent", metrics.reports.clone());
        registry.register_with_unit(
            "module_compile",
            "Time to compile a module",
            Unit::Seconds,
            metrics.compile_seconds.clone(),
        );
        registry.register(
            "artefacts",
            "Compiled modules on disk: found, missing, rejected because they were not what this agent had written, unwritten",
            metrics.artefacts.clone(),
        );
        registry.register(
            "last_known_good_kept",
            "1 when the active set is on disk, 0 when it could not be written",
            metrics.kept.clone(),
        );
        metrics
    }

    /// Shows what became of the looks for compiled modules since the start; says aloud when one was changed on disk.
    pub fn show_artefacts(&self, counts: CacheCounts) {
        let CacheCounts { hits, misses, rejected, unwritten } = counts;
        for (result, count) in
            [("found", hits), ("missing", misses), ("rejected", rejected), ("unwritten", unwritten)]
        {
            let before = self
                .artefacts
                .get_or_create(&ResultLabel { result })
                .inner()
                .fetch_max(count, Ordering::Relaxed);
            if count > before && (result == "rejected" || result == "unwritten") {
                tracing::warn!(
                    result,
                    count,
                    "a compiled module on disk is of no use, and was compiled again"
                );
            }
        }
    }

    /// Shows these exceptions and no others.
    pub fn show_exceptions(&self, states: impl Iterator<Item = ExceptionState>) {
        self.exceptions.clear();
        for state in states {
            self.exceptions.get_or_create(&StateLabel { state: state_name(state) }).inc();
        }
    }
}

fn state_name(state: ExceptionState) -> &'static str {
    match state {
        ExceptionState::Progressing => "Progressing",
        ExceptionState::ModuleUnavailable => "ModuleUnavailable",
        ExceptionState::DigestMismatch => "DigestMismatch",
        ExceptionState::CompileFailed => "CompileFailed",
        ExceptionState::ConfigInvalid => "ConfigInvalid",
        ExceptionState::ProbeFailed => "ProbeFailed",
        ExceptionState::Unsupported => "Unsupported",
    }
}
