//! What the request side counts. Every label is bounded: by an enum, or by the rules that exist.
//!
//! Counters are looked up when a rule set becomes active, never on a request, since a family is
//! behind a lock.

mod histogram;
mod instances;
mod labels;
mod rules;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use portcullis_crds::RuleKey;

pub(crate) use histogram::Histogram;
pub use instances::Instances;
pub(crate) use labels::{
    FailureCause, Handshake, MissingHeader, Misuse, RequestVerdict, RuleVerdict, Shed, UpstreamFailure,
};
use rules::RulesCounters;
pub(crate) use rules::{OutcomeTally, RuleCounters, RuleOutcome};

type Labels<const N: usize> = [(&'static str, String); N];
type Labelled<const N: usize> = Family<Labels<N>, Counter>;

/// One counter for each value of a label, found by index.
#[derive(Debug)]
pub(crate) struct Counters(Box<[Counter]>);

impl Counters {
    fn new(values: usize, counter: impl Fn(usize) -> Counter) -> Self {
        Self((0..values).map(counter).collect())
    }

    fn inc(&self, value: usize) {
        self.0[value].inc();
    }
}

/// The request side's metrics. Clones share the counts.
#[derive(Clone, Debug)]
pub struct RequestMetrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    requests: Counters,
    skipped: Counter,
    evaluated: Counter,
    sampled: Counter,
    rules: RulesCounters,
    evaluation_time: Histogram,
    fuel: Histogram,
    unfiltered: Gauge,
    connections: Gauge,
    in_flight: Gauge,
    upstream: Counters,
    shed: Counters,
    refused: Labelled<1>,
    unrouted: Counter,
    events_suppressed: Counter,
    events_dropped: Counter,
    access_log_dropped: Counter,
    panics: Counter,
    proxy_headers_missing: Counters,
    handshakes: Counters,
    certificate_ends: Family<Labels<1>, Gauge>,
    certificates_rejected: Gauge,
    http2_misuse: Counters,
}

/// 1 us to 10 ms, in nanoseconds: around the measured 3 us of a small rule and up to the longest deadline.
const EVALUATION_NANOS: &[u64] = &[
    1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 10_000_000,
];
/// Up to the largest budget that a rule may have.
const FUEL: &[u64] = &[1_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000];

impl RequestMetrics {
    /// Adds the request side's families to a registry. Their names begin with `portcullis_`.
    pub fn register(registry: &mut Registry) -> Self {
        let requests = Labelled::<2>::default();
        registry.register(
            "portcullis_requests",
            "Requests by the strongest thing that a rule said about them",
            requests.clone(),
        );
        let rules = RulesCounters::default();
        registry.register_collector(Box::new(rules.clone()));
        let skipped = Counter::default();
        registry.register(
            "portcullis_prefilter_skipped",
            "Evaluations that were not done because the request had none of the rule's literals",
            skipped.clone(),
        );
        let evaluated = Counter::default();
        registry.register(
            "portcullis_prefilter_evaluated",
            "Evaluations that were left over by the prefilter, or have none",
            evaluated.clone(),
        );
        let sampled = Counter::default();
        registry.register(
            "portcullis_prefilter_sampled",
            "Skipped evaluations that were done all the same, to see whether the prefilter is sound",
            sampled.clone(),
        );
        let evaluation_time = Histogram::new(EVALUATION_NANOS, 1e-9);
        registry.register(
            "portcullis_rule_evaluation_seconds",
            "Wall time of one evaluation",
            evaluation_time.clone(),
        );
        let fuel = Histogram::new(FUEL, 1.0);
        registry.register(
            "portcullis_rule_fuel",
            "Fuel of one evaluation that came to a verdict",
            fuel.clone(),
        );
        let unfiltered = Gauge::default();
        registry.register(
            "portcullis_rules_unfiltered",
            "Rules that run on every request, for want of a prefilter; more than 64 cost more than the proxy itself",
            unfiltered.clone(),
        );
        let connections = Gauge::default();
        registry.register("portcullis_connections", "Open client connections", connections.clone());
        let in_flight = Gauge::default();
        registry.register("portcullis_requests_in_flight", "Requests under way", in_flight.clone());
        let upstream = Labelled::<1>::default();
        registry.register(
            "portcullis_upstream_errors",
            "Failures of the upstream, by reason",
            upstream.clone(),
        );
        let shed = Labelled::<1>::default();
        registry.register(
            "portcullis_shed",
            "Connections, requests and evaluations that were not taken on because there were too many",
            shed.clone(),
        );
        let refused = Labelled::default();
        registry.register(
            "portcullis_requests_refused",
            "Requests that no strict parser accepts, by reason",
            refused.clone(),
        );
        let unrouted = Counter::default();
        registry.register(
            "portcullis_requests_unrouted",
            "Requests answered with 404: their host name has routes, and none of them matched",
            unrouted.clone(),
        );
        let events_suppressed = Counter::default();
        registry.register(
            "portcullis_events_suppressed",
            "Security events that were not logged because there were too many of their rule and outcome, or of all",
            events_suppressed.clone(),
        );
        let events_dropped = Counter::default();
        registry.register(
            "portcullis_events_dropped",
            "Security events that were not logged because the log was too slow",
            events_dropped.clone(),
        );
        let access_log_dropped = Counter::default();
        registry.register(
            "portcullis_access_log_dropped",
            "Lines of the access log that were not written because its reader was too slow, or gone",
            access_log_dropped.clone(),
        );
        let panics = Counter::default();
        registry.register(
            "portcullis_panics",
            "Connections that ended in a panic of the proxy",
            panics.clone(),
        );
        let proxy_headers_missing = Labelled::<1>::default();
        registry.register(
            "portcullis_proxy_headers_missing",
            "Connections closed for want of a header of the PROXY protocol that their peer has to send, by reason",
            proxy_headers_missing.clone(),
        );
        let handshakes = Labelled::<1>::default();
        registry.register(
            "portcullis_tls_handshakes",
            "TLS handshakes by how they ended",
            handshakes.clone(),
        );
        let certificate_ends = Family::<Labels<1>, Gauge>::default();
        registry.register(
            "portcullis_tls_certificate_not_after_timestamp_seconds",
            "When the certificate that is served expires",
            certificate_ends.clone(),
        );
        let certificates_rejected = Gauge::default();
        registry.register(
            "portcullis_tls_certificates_rejected",
            "Certificates whose files cannot be served as they are; the log says why",
            certificates_rejected.clone(),
        );
        let http2_misuse = Labelled::<1>::default();
        registry.register(
            "portcullis_http2_connections_ended",
            "HTTP/2 connections that were ended for what the client did, by reason",
            http2_misuse.clone(),
        );
        Self(Arc::new(Families {
            requests: Counters::new(RequestVerdict::ALL.len(), |i| {
                let verdict = RequestVerdict::ALL[i];
                requests.get_or_create_owned(&[
                    ("verdict", verdict.as_str().to_owned()),
                    ("mode", mode_of(verdict).to_owned()),
                ])
            }),
            skipped,
            evaluated,
            sampled,
            rules,
            evaluation_time,
            fuel,
            unfiltered,
            connections,
            in_flight,
            upstream: by_reason(&upstream, UpstreamFailure::ALL.iter().map(|f| f.as_str())),
            shed: by_reason(&shed, Shed::ALL.iter().map(|s| s.as_str())),
            refused,
            unrouted,
            events_suppressed,
            events_dropped,
            access_log_dropped,
            panics,
            proxy_headers_missing: by_reason(
                &proxy_headers_missing,
                MissingHeader::ALL.iter().map(|reason| reason.as_str()),
            ),
            handshakes: Counters(
                Handshake::ALL
                    .iter()
                    .map(|result| handshakes.get_or_create_owned(&[("result", result.as_str().to_owned())]))
                    .collect(),
            ),
            certificate_ends,
            certificates_rejected,
            http2_misuse: by_reason(&http2_misuse, Misuse::ALL.iter().map(|m| m.as_str())),
        }))
    }

    /// The counts of a rule. Takes a lock: for the control thread.
    pub(crate) fn rule(&self, key: &RuleKey) -> Arc<RuleCounters> {
        self.0.rules.of(key)
    }

    /// Removes the series of rules that are gone. Takes a lock: for the control thread.
    pub(crate) fn forget_rules_except(&self, kept: &HashSet<&RuleKey>) {
        self.0.rules.retain(kept);
    }

    /// Counts one request.
    pub(crate) fn request(&self, verdict: RequestVerdict) {
        self.0.requests.inc(verdict as usize);
    }

    /// Tells how many rules of the active set run on every request.
    pub(crate) fn unfiltered(&self, rules: usize) {
        self.0.unfiltered.set(i64::try_from(rules).unwrap_or(i64::MAX));
    }

    /// Counts what a prefilter left of the rules of a phase.
    pub(crate) fn prefiltered(&self, evaluated: usize, skipped: usize) {
        self.0.evaluated.inc_by(evaluated as u64);
        self.0.skipped.inc_by(skipped as u64);
    }

    /// Counts a skipped evaluation that is done all the same.
    pub(crate) fn prefilter_sampled(&self) {
        self.0.sampled.inc();
    }

    /// Counts what an evaluation took: nanoseconds, and fuel if it came to a verdict.
    pub(crate) fn evaluation(&self, nanos: u64, fuel: Option<u64>) {
        self.0.evaluation_time.observe(nanos);
        if let Some(fuel) = fuel {
            self.0.fuel.observe(fuel);
        }
    }

    /// Counts a failure of the upstream.
    pub(crate) fn upstream_failed(&self, failure: UpstreamFailure) {
        self.0.upstream.inc(failure as usize);
    }

    /// Counts something that was not taken on.
    pub(crate) fn shed(&self, what: Shed) {
        self.0.shed.inc(what as usize);
    }

    /// Counts a request that the head guard refused. It takes a lock, and ends the connection.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.0.refused.get_or_create(&[("reason", reason.to_owned())]).inc();
    }

    /// Counts a request for which there is no route.
    pub(crate) fn unrouted(&self) {
        self.0.unrouted.inc();
    }

    /// Counts an event that the log is spared.
    pub(crate) fn event_suppressed(&self) {
        self.0.events_suppressed.inc();
    }

    /// Counts an event that the log had no room for.
    pub(crate) fn event_dropped(&self) {
        self.0.events_dropped.inc();
    }

    /// Counts lines that the access log had no room for.
    pub(crate) fn access_log_dropped(&self, lines: u64) {
        self.0.access_log_dropped.inc_by(lines);
    }

    /// Counts a connection that ended in a panic.
    pub(crate) fn panicked(&self) {
        self.0.panics.inc();
    }

    /// Counts a connection that was closed for want of a header of the PROXY protocol.
    pub(crate) fn proxy_header_missing(&self, reason: MissingHeader) {
        self.0.proxy_headers_missing.inc(reason as usize);
    }

    /// Counts a TLS handshake.
    pub(crate) fn handshake(&self, result: Handshake) {
        self.0.handshakes.inc(result as usize);
    }

    /// Tells which certificates are served, until when, and how many cannot be. Takes a lock: for the thread that reads
    /// them.
    pub(crate) fn certificates<'a>(
        &self,
        served: impl Iterator<Item = (&'a str, SystemTime)>,
        rejected: usize,
    ) {
        self.0.certificate_ends.clear();
        for (name, not_after) in served {
            let end = not_after.duration_since(UNIX_EPOCH).map_or(0, |end| end.as_secs());
            let gauge = self.0.certificate_ends.get_or_create_owned(&[("certificate", name.to_owned())]);
            gauge.set(i64::try_from(end).unwrap_or(i64::MAX));
        }
        self.0.certificates_rejected.set(i64::try_from(rejected).unwrap_or(i64::MAX));
    }

    /// Counts an HTTP/2 connection that was ended for what its client did.
    pub(crate) fn http2_misused(&self, misuse: Misuse) {
        self.0.http2_misuse.inc(misuse as usize);
    }

    /// Open client connections.
    pub(crate) fn connections(&self) -> &Gauge {
        &self.0.connections
    }

    /// Requests under way.
    pub(crate) fn in_flight(&self) -> &Gauge {
        &self.0.in_flight
    }
}

/// The mode in which a request gets this verdict.
fn mode_of(verdict: RequestVerdict) -> &'static str {
    match verdict {
        RequestVerdict::Block | RequestVerdict::Overload => "enforce",
        RequestVerdict::WouldBlock => "monitor",
        RequestVerdict::Allow | RequestVerdict::Log | RequestVerdict::RateLimit => "any",
    }
}

fn by_reason(family: &Labelled<1>, reasons: impl Iterator<Item = &'static str>) -> Counters {
    Counters(reasons.map(|reason| family.get_or_create_owned(&[("reason", reason.to_owned())])).collect())
}
