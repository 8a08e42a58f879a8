//! Sends reports: on every change, when the bus comes back, and as a heartbeat.

use std::sync::Weak;
use std::time::{Duration, Instant};

use portcullis_bus::Bus;
use portcullis_crds::bus::report::EXCEPTIONS_MAX;
use portcullis_crds::bus::{FEATURES, HEARTBEAT_SECONDS, Report, SCHEMA, Unsound};
use portcullis_daemon::backoff::jitter;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::barrier::ReportBarrier;
use super::state::ReportState;
use crate::control_metrics::ControlMetrics;
use portcullis_proxy::rules::{ActiveSet, Loaded, RuleSetHandle};

/// How often requests that hold an old set are looked for.
const LOOK: Duration = Duration::from_millis(5);

/// Who reports.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Uid of the cluster's kube-system namespace.
    pub cluster: String,
    /// Name of the pod.
    pub agent: String,
    /// Name of the node.
    pub node: String,
    /// New for every start of the process.
    pub instance: String,
}

impl Identity {
    /// Of this process.
    pub fn new(cluster: &str, agent: &str, node: &str) -> Self {
        let instance = format!("{:016x}", rand::random::<u64>());
        Self { cluster: cluster.to_owned(), agent: agent.to_owned(), node: node.to_owned(), instance }
    }
}

/// A state to report, and the set that was replaced for it.
pub struct Submission {
    /// The state.
    pub state: ReportState,
    /// The set before, if it was replaced.
    pub old: Option<Weak<ActiveSet>>,
}

/// Sends the reports of this process.
pub struct Reporter {
    identity: Identity,
    submissions: mpsc::UnboundedReceiver<Submission>,
    barrier: ReportBarrier<ActiveSet>,
    rules: RuleSetHandle,
    bus: watch::Receiver<Option<Bus>>,
    metrics: ControlMetrics,
}

impl Reporter {
    /// `bound` is the longest that a request may hold a set.
    pub fn new(
        identity: Identity,
        submissions: mpsc::UnboundedReceiver<Submission>,
        rules: RuleSetHandle,
        bound: Duration,
        bus: watch::Receiver<Option<Bus>>,
        metrics: ControlMetrics,
    ) -> Self {
        Self { identity, submissions, barrier: ReportBarrier::new(bound), rules, bus, metrics }
    }

    /// Runs until the enforcer has gone.
    pub async fn run(mut self) {
        let period = Duration::from_secs(HEARTBEAT_SECONDS);
        // A fleet that was started together does not report together.
        let first = tokio::time::Instant::now() + jitter(period);
        let mut heartbeat = tokio::time::interval_at(first, period);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection = None;
        // Sets that requests hold are looked for now and then, whether or not a report waits for them.
        let mut held = 0;
        loop {
            let look = if self.barrier.is_waiting() { LOOK } else { Duration::from_secs(1) };
            let send = tokio::select! {
                submission = self.submissions.recv() => {
                    let Some(Submission { state, old }) = submission else { return };
                    held += usize::from(old.is_some());
                    self.barrier.push(state, old, Instant::now());
                    false
                }
                () = tokio::time::sleep(look), if held > 0 || self.barrier.is_waiting() => false,
                _ = heartbeat.tick() => true,
                back = reconnected(&mut self.bus, &mut connection) => back,
            };
            if held > 0 {
                held = self.rules.collect();
            }
            let news = self.barrier.release(Instant::now());
            if send || news {
                self.send().await;
            }
        }
    }

    async fn send(&self) {
        let (Some(state), Some(bus)) = (self.barrier.released(), self.bus.borrow().clone()) else { return };
        self.metrics.sequence.set(i64::try_from(state.sequence).unwrap_or(i64::MAX));
        match bus.report(&self.report(state)).await {
            Ok(()) => {
                self.metrics.reports.inc();
            }
            // The next heartbeat says the same.
            Err(error) => tracing::warn!(%error, "cannot report"),
        }
    }

    /// Looked up for each report rather than reported at once: it is found out while requests are served, and is no
    /// more urgent than a heartbeat.
    fn unsound(&self) -> Vec<Unsound> {
        let active = self.rules.load();
        let unsound = active.set().rules.iter().filter(
            |rule| matches!(&rule.module, Loaded::Module(module) if module.is_prefilter_distrusted()),
        );
        unsound
            .map(|rule| Unsound { key: rule.key.clone(), revision: rule.revision.clone() })
            .take(EXCEPTIONS_MAX)
            .collect()
    }

    fn report(&self, state: &ReportState) -> Report {
        let Identity { cluster, agent, node, instance } = self.identity.clone();
        Report {
            schema: SCHEMA,
            cluster,
            agent,
            node,
            instance,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            features: FEATURES.iter().map(|&f| f.to_owned()).collect(),
            stream: state.stream.clone(),
            epoch: state.epoch,
            sequence: state.sequence,
            desired: state.desired.clone(),
            active: state.active.clone(),
            active_count: state.active_count,
            exceptions: state.exceptions.clone(),
            marks: state.marks.clone(),
            more: state.more,
            kept: state.kept.clone(),
            unsound: self.unsound(),
            routes: Some(state.routes.clone()),
            at: jiff::Timestamp::now(),
        }
    }
}

/// Waits until the bus is connected anew. Cancel safe.
async fn reconnected(
    buses: &mut watch::Receiver<Option<Bus>>,
    connection: &mut Option<watch::Receiver<portcullis_bus::Connection>>,
) -> bool {
    loop {
        match connection {
            Some(connection) => match connection.changed().await {
                Ok(()) if connection.borrow_and_update().up => return true,
                Ok(()) => {}
                Err(_) => std::future::pending().await,
            },
            None => {
                let Ok(bus) = buses.wait_for(Option::is_some).await.map(|bus| bus.clone()) else {
                    return std::future::pending().await;
                };
                *connection = bus.map(|bus| bus.connected());
                return true;
            }
        }
    }
}
