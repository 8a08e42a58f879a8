//! The agents that should run the rules, by what Kubernetes says, and what each of them said last.
//!
//! A node is counted when the node-agents' DaemonSet wants an agent there, whatever state node and agent are in: traffic
//! may reach a node that the control plane takes for lost.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use portcullis_crds::bus::report::EXCEPTIONS_MAX;
use portcullis_crds::bus::{HEARTBEAT_SECONDS, Report};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Longest message of an agent that is passed on.
const MESSAGE_MAX: usize = 512;

/// After this long without a report an agent is silent: three heartbeats.
pub(crate) const SILENCE: Duration = Duration::from_secs(3 * HEARTBEAT_SECONDS);

/// One agent that should run the rules.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    /// What it said last.
    pub(crate) report: Option<Arc<Report>>,
    /// When its last report came, or when it was first expected to send one.
    pub(crate) last_seen: Instant,
}

/// Who should run the rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fleet {
    /// Agents by node. The names come from Kubernetes, never from a report.
    pub(crate) nodes: BTreeMap<String, Vec<Agent>>,
    /// Nodes on which an agent is wanted and there is none, not even one that waits for its node.
    pub(crate) without_agent: usize,
}

/// Keeps the last report of each agent.
#[derive(Debug)]
pub(crate) struct Agents {
    pods: Store<Pod>,
    daemon_sets: Store<DaemonSet>,
    received: Mutex<Received>,
    /// Something changed that may change a status.
    changed: Notify,
}

#[derive(Debug)]
struct Received {
    /// By name of the pod; only of pods that exist.
    agents: HashMap<String, Agent>,
    /// While the bus is away, silence says nothing about agents.
    bus: BusState,
    /// What Kubernetes says is complete.
    listed: bool,
}

/// Whether reports can arrive, and since when that is so.
#[derive(Clone, Copy, Debug)]
enum BusState {
    Up(Instant),
    Down(Instant),
}

/// What is known of who should run the rules.
#[derive(Debug)]
pub(crate) enum FleetView {
    /// All of it.
    Known(Fleet),
    /// Reports have not arrived for long enough, or not all agents are listed.
    NotYet,
    /// No report could arrive for three heartbeats, because the bus is away.
    Unreachable,
}

// === impl FleetView ===

impl FleetView {
    /// The fleet, if it is known.
    pub(crate) fn known(&self) -> Option<&Fleet> {
        match self {
            Self::Known(fleet) => Some(fleet),
            Self::NotYet | Self::Unreachable => None,
        }
    }
}

// === impl Agents ===

impl Agents {
    /// `pods` and `daemon_sets` hold the node-agents of this release.
    pub(crate) fn new(pods: Store<Pod>, daemon_sets: Store<DaemonSet>, now: Instant) -> Self {
        let received = Received { agents: HashMap::new(), bus: BusState::Down(now), listed: false };
        Self { pods, daemon_sets, received: Mutex::new(received), changed: Notify::new() }
    }

    /// Waits until what Kubernetes says of the agents is complete; before that there is no fleet. False if the watch ended.
    pub(crate) async fn listed(&self) -> bool {
        let complete =
            self.pods.wait_until_ready().await.is_ok() && self.daemon_sets.wait_until_ready().await.is_ok();
        self.lock().listed = complete;
        complete
    }

    fn lock(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a report. One of a pod that does not exist is dropped: nothing that is kept is sized by reports.
    pub(crate) fn receive(&self, report: Report, now: Instant) {
        let known = self.pods.find(|pod| pod.name_any() == report.agent).is_some();
        if !known {
            tracing::debug!(agent = %report.agent.chars().take(63).collect::<String>(), "a report of an unknown agent");
            return;
        }
        let report = Arc::new(bounded(report));
        let mut received = self.lock();
        let name = report.agent.clone();
        let previous = received.agents.insert(name, Agent { report: Some(report.clone()), last_seen: now });
        let spoke_again = previous
            .is_none_or(|agent| is_silent(&agent, now) || !says_the_same(agent.report.as_deref(), &report));
        drop(received);
        if spoke_again {
            self.changed.notify_one();
        }
    }

    /// The bus is there, or not.
    pub(crate) fn set_bus(&self, up: bool, now: Instant) {
        let mut received = self.lock();
        if up != matches!(received.bus, BusState::Up(_)) {
            received.bus = if up { BusState::Up(now) } else { BusState::Down(now) };
            drop(received);
            self.changed.notify_one();
        }
    }

    /// A pod or a DaemonSet changed.
    pub(crate) fn touched(&self) {
        self.changed.notify_one();
    }

    /// Returns when something changed since the last call.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How many agents reported within three heartbeats.
    pub(crate) fn reporting(&self, now: Instant) -> usize {
        let received = self.lock();
        received.agents.values().filter(|agent| agent.report.is_some() && !is_silent(agent, now)).count()
    }

    /// Who should run the rules now.
    pub(crate) fn view(&self, now: Instant) -> FleetView {
        let pods = self.pods.state();
        let names: BTreeSet<&str> = pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
        let mut received = self.lock();
        received.agents.retain(|name, _| names.contains(name.as_str()));
        let up_since = match received.bus {
            BusState::Down(since) if now.saturating_duration_since(since) > SILENCE => {
                return FleetView::Unreachable;
            }
            BusState::Up(since) if received.listed => since,
            _ => return FleetView::NotYet,
        };
        let mut fleet = Fleet::default();
        for pod in &pods {
            let Some(node) = node_of(pod) else { continue };
            let agent =
                received.agents.entry(pod.name_any()).or_insert(Agent { report: None, last_seen: now });
            // Reports that could not arrive are no silence of the agent's.
            let agent = Agent { last_seen: agent.last_seen.max(up_since), ..agent.clone() };
            fleet.nodes.entry(node.to_owned()).or_default().push(agent);
        }
        let daemon_sets = self.daemon_sets.state();
        let wanted =
            daemon_sets.iter().filter_map(|set| set.status.as_ref()).map(|s| s.desired_number_scheduled);
        let wanted = wanted.filter_map(|n| usize::try_from(n).ok()).sum::<usize>();
        fleet.without_agent = wanted.saturating_sub(fleet.nodes.len());
        FleetView::Known(fleet)
    }
}

/// Whether an agent has said nothing for three heartbeats.
pub(crate) fn is_silent(agent: &Agent, now: Instant) -> bool {
    now.saturating_duration_since(agent.last_seen) > SILENCE
}

/// The node of an agent that should run the rules: not on its way out, not finished. One that is not scheduled yet says by
/// its affinity for which node the DaemonSet's controller made it.
fn node_of(pod: &Pod) -> Option<&str> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let gone = pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Failed" | "Succeeded"));
    let spec = pod.spec.as_ref().filter(|_| !gone)?;
    spec.node_name.as_deref().or_else(|| {
        let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
        let terms =
            &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
        let fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
        let name = fields
            .filter(|field| field.key == "metadata.name")
            .flat_map(|field| field.values.iter().flatten());
        name.map(String::as_str).next()
    })
}

/// An agent may send anything: what is kept of it is bounded, and fit to be shown.
fn bounded(mut report: Report) -> Report {
    if report.exceptions.len() > EXCEPTIONS_MAX {
        report.more = report.more.saturating_add((report.exceptions.len() - EXCEPTIONS_MAX) as u64);
        report.exceptions.truncate(EXCEPTIONS_MAX);
    }
    report.unsound.truncate(EXCEPTIONS_MAX);
    report.kept.truncate(EXCEPTIONS_MAX);
    for exception in &mut report.exceptions {
        exception.message = shown(&exception.message);
    }
    if let Some(routes) = &mut report.routes {
        routes.more =
            routes.more.saturating_add(routes.exceptions.len().saturating_sub(EXCEPTIONS_MAX) as u64);
        routes.exceptions.truncate(EXCEPTIONS_MAX);
        for exception in &mut routes.exceptions {
            exception.message = shown(&exception.message);
        }
    }
    report
}

fn shown(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_MAX).collect()
}

/// Whether a report says what the one before said, its time aside.
fn says_the_same(before: Option<&Report>, report: &Report) -> bool {
    before.is_some_and(|before| Report { at: report.at, ..before.clone() } == *report)
}

#[cfg(test)]
pub(crate) mod tests {
    use jiff::Timestamp;
    use kube::runtime::reflector::store;
    use kube::runtime::watcher::Event;
    use portcullis_crds::bus::{Exception, ExceptionState, SCHEMA, SetHash, Unsound};
    use portcullis_crds::{Revision, RuleKey};

    use super::*;

    pub(crate) fn report(agent: &str, stream: &str, sequence: u64, set: &SetHash) -> Report {
        Report {
            schema: SCHEMA,
            cluster: "c".into(),
            agent: agent.into(),
            node: "claimed".into(),
            instance: "i".into(),
            version: "0".into(),
            features: vec![],
            stream: stream.into(),
            epoch: 1,
            sequence,
            desired: set.clone(),
            active: set.clone(),
            active_count: 0,
            exceptions: vec![],
            marks: Default::default(),
            more: 0,
            kept: vec![],
            unsound: vec![],
            routes: None,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    pub(crate) fn pod(name: &str, node: &str, phase: &str) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {"name": name, "namespace": "ns"},
            "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase}}))
        .unwrap()
    }

    /// A pod as the DaemonSet's controller makes it, before the scheduler has seen it.
    fn pending(name: &str, node: &str) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {"name": name, "namespace": "ns"},
            "spec": {"containers": [], "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]}}}},
            "status": {"phase": "Pending"}}))
        .unwrap()
    }

    /// Agents of a DaemonSet that wants this many of them, when all of it is listed.
    pub(crate) fn listed(pods: Vec<Pod>, wanted: usize, now: Instant) -> Agents {
        let (pod_store, mut pod_writer) = store();
        let (set_store, mut set_writer) = store();
        for pod in pods {
            pod_writer.apply_watcher_event(&Event::Apply(pod));
        }
        let set =
            serde_json::from_value(serde_json::json!({"metadata": {"name": "agents", "namespace": "ns"},
            "status": {"desiredNumberScheduled": wanted, "currentNumberScheduled": 0, "numberMisscheduled": 0,
                "numberReady": 0}}));
        set_writer.apply_watcher_event(&Event::Apply(set.unwrap()));
        let agents = Agents::new(pod_store, set_store, now);
        agents.lock().listed = true;
        agents
    }

    fn empty_set() -> SetHash {
        SetHash::of(std::iter::empty())
    }

    #[test]
    fn every_node_on_which_an_agent_is_wanted_counts_whatever_state_it_is_in() {
        let mut leaving = pod("leaving", "n1", "Running");
        leaving.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        let pods = vec![
            pod("a1", "n1", "Running"),
            pod("a2", "n1", "Pending"),
            leaving,
            pod("evicted", "n1", "Failed"),
            pending("b1", "n2"),
        ];
        let now = Instant::now();
        let agents = listed(pods, 4, now);
        assert!(agents.view(now).known().is_none(), "nobody listens yet");
        agents.set_bus(true, now);
        let view = agents.view(now);
        let fleet = view.known().unwrap();
        let nodes: Vec<_> = fleet.nodes.iter().map(|(n, a)| (n.as_str(), a.len())).collect();
        assert_eq!((nodes, fleet.without_agent), (vec![("n1", 2), ("n2", 1)], 2));
        agents.lock().listed = false;
        assert!(agents.view(now).known().is_none(), "no fleet is known before all of it is listed");
    }

    #[test]
    fn a_report_of_an_unknown_agent_is_dropped_and_the_node_is_the_pods() {
        let now = Instant::now();
        let agents = listed(vec![pod("a1", "n1", "Running")], 1, now);
        agents.set_bus(true, now);
        agents.receive(report("a1", "s", 1, &empty_set()), now);
        agents.receive(report("stranger", "s", 1, &empty_set()), now);
        assert_eq!(agents.reporting(now), 1);
        assert_eq!(agents.view(now).known().unwrap().nodes.keys().collect::<Vec<_>>(), ["n1"]);
    }

    #[test]
    fn an_agent_is_not_silent_because_nobody_listened() {
        let start = Instant::now();
        let agents = listed(vec![pod("a1", "n1", "Running")], 1, start);
        agents.set_bus(true, start);
        agents.receive(report("a1", "s", 1, &empty_set()), start);
        agents.set_bus(false, start);
        let later = start + SILENCE * 2;
        assert!(agents.view(later).known().is_none());
        agents.set_bus(true, later);
        let view = agents.view(later + SILENCE);
        let fleet = view.known().unwrap();
        assert!(!is_silent(&fleet.nodes["n1"][0], later + SILENCE));
        assert!(is_silent(&fleet.nodes["n1"][0], later + SILENCE + Duration::from_secs(1)));
    }

    #[test]
    fn without_the_bus_nobody_is_heard_after_three_heartbeats() {
        let start = Instant::now();
        let agents = listed(vec![], 1, start);
        let is_unreachable = |at| matches!(agents.view(at), FleetView::Unreachable);
        let just = |since: Instant| since + SILENCE + Duration::from_secs(1);
        assert!(!is_unreachable(start + SILENCE) && is_unreachable(just(start)), "counted from the start");
        agents.set_bus(true, just(start));
        assert!(!is_unreachable(just(just(start))));
        agents.set_bus(false, just(start));
        assert!(!is_unreachable(just(start)) && is_unreachable(just(just(start))));
    }

    #[test]
    fn a_report_is_bounded_before_it_is_kept() {
        let exception = |n: usize| Exception {
            key: RuleKey::namespaced("a", format!("r{n}")),
            wanted: Revision::from("r".to_owned()),
            active: None,
            state: ExceptionState::Progressing,
            message: "x\u{1b}\n".repeat(MESSAGE_MAX),
        };
        let mut large = report("a1", "s", 1, &empty_set());
        large.exceptions = (0..EXCEPTIONS_MAX + 3).map(exception).collect();
        large.unsound = (0..EXCEPTIONS_MAX + 3)
            .map(|n| Unsound { key: exception(n).key, revision: Revision::from("r".to_owned()) })
            .collect();
        let kept = bounded(large);
        assert_eq!((kept.exceptions.len(), kept.more), (EXCEPTIONS_MAX, 3));
        assert_eq!(kept.unsound.len(), EXCEPTIONS_MAX);
        let message = &kept.exceptions[0].message;
        assert!(message.chars().count() == MESSAGE_MAX && !message.contains(char::is_control));
    }
}
