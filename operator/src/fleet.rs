//! The agents that should run the rules, by what Kubernetes says, and what each of them said last.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
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
    /// When it was last heard, or first expected to say something.
    pub(crate) heard: Instant,
}

/// Agents by node. The names come from Kubernetes, never from a report.
pub(crate) type Fleet = BTreeMap<String, Vec<Agent>>;

/// Keeps the last report of each agent.
#[derive(Debug)]
pub(crate) struct Agents {
    pods: Store<Pod>,
    nodes: Store<Node>,
    heard: Mutex<Heard>,
    /// Something changed that may change a status.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Heard {
    /// By name of the pod; only of pods that exist.
    agents: HashMap<String, Agent>,
    /// Since when we can hear anything; `None` while the bus is away, and silence says nothing about agents.
    listening: Option<Instant>,
}

// === impl Agents ===

impl Agents {
    /// `pods` holds the node-agent pods of this release.
    pub(crate) fn new(pods: Store<Pod>, nodes: Store<Node>) -> Self {
        Self { pods, nodes, heard: Mutex::default(), changed: Notify::new() }
    }

    /// Takes a report. One of a pod that does not exist is dropped: nothing that is kept is sized by reports.
    pub(crate) fn hear(&self, report: Report, now: Instant) {
        let known = self.pods.find(|pod| pod.name_any() == report.agent).is_some();
        if !known {
            tracing::debug!(agent = %report.agent.chars().take(63).collect::<String>(), "a report of an unknown agent");
            return;
        }
        let report = Arc::new(bounded(report));
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let name = report.agent.clone();
        let previous = heard.agents.insert(name, Agent { report: Some(report.clone()), heard: now });
        let spoke_again = previous
            .is_none_or(|agent| is_silent(&agent, now) || !says_the_same(agent.report.as_deref(), &report));
        drop(heard);
        if spoke_again {
            self.changed.notify_one();
        }
    }

    /// The bus is there, or not.
    pub(crate) fn listening(&self, up: bool, now: Instant) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if up != heard.listening.is_some() {
            heard.listening = up.then_some(now);
            drop(heard);
            self.changed.notify_one();
        }
    }

    /// A pod or node changed.
    pub(crate) fn touched(&self) {
        self.changed.notify_one();
    }

    /// Returns when something changed since the last call.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How many agents were heard within three heartbeats.
    pub(crate) fn reporting(&self, now: Instant) -> usize {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.agents.values().filter(|agent| agent.report.is_some() && !is_silent(agent, now)).count()
    }

    /// Who should run the rules now; `None` while nobody can be heard.
    pub(crate) fn view(&self, now: Instant) -> Option<Fleet> {
        let nodes = self.nodes.state();
        let ready: BTreeSet<&str> = nodes
            .iter()
            .filter(|node| is_ready(node))
            .filter_map(|node| node.metadata.name.as_deref())
            .collect();
        let pods = self.pods.state();
        let names: BTreeSet<&str> = pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.agents.retain(|name, _| names.contains(name.as_str()));
        let listening = heard.listening?;
        let mut fleet = Fleet::new();
        for pod in &pods {
            let Some(node) = node_of(pod).filter(|node| ready.contains(node)) else { continue };
            let agent = heard.agents.entry(pod.name_any()).or_insert(Agent { report: None, heard: now });
            // What was not heard while nobody listened is no silence of the agent's.
            let agent = Agent { heard: agent.heard.max(listening), ..agent.clone() };
            fleet.entry(node.to_owned()).or_default().push(agent);
        }
        Some(fleet)
    }
}

/// Whether an agent has said nothing for three heartbeats.
pub(crate) fn is_silent(agent: &Agent, now: Instant) -> bool {
    now.saturating_duration_since(agent.heard) > SILENCE
}

/// The node of an agent that should run the rules: scheduled, not on its way out, not finished.
fn node_of(pod: &Pod) -> Option<&str> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let gone = pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Failed" | "Succeeded"));
    pod.spec.as_ref().filter(|_| !gone)?.node_name.as_deref()
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|list| list.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// An agent may send anything: what is kept of it is bounded, and fit to be shown.
fn bounded(mut report: Report) -> Report {
    if report.exceptions.len() > EXCEPTIONS_MAX {
        report.more = report.more.saturating_add((report.exceptions.len() - EXCEPTIONS_MAX) as u64);
        report.exceptions.truncate(EXCEPTIONS_MAX);
    }
    report.unsound.truncate(EXCEPTIONS_MAX);
    for exception in &mut report.exceptions {
        let shown = exception.message.chars().map(|c| if c.is_control() { ' ' } else { c });
        exception.message = shown.take(MESSAGE_MAX).collect();
    }
    report
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
            more: 0,
            unsound: vec![],
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn pod(name: &str, node: &str, phase: &str) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {"name": name, "namespace": "ns"},
            "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase}}))
        .unwrap()
    }

    fn node(name: &str, ready: &str) -> Node {
        serde_json::from_value(serde_json::json!({"metadata": {"name": name},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
        .unwrap()
    }

    fn agents(pods: Vec<Pod>, nodes: Vec<Node>) -> Agents {
        let (pod_store, mut pod_writer) = store();
        let (node_store, mut node_writer) = store();
        for pod in pods {
            pod_writer.apply_watcher_event(&Event::Apply(pod));
        }
        for node in nodes {
            node_writer.apply_watcher_event(&Event::Apply(node));
        }
        Agents::new(pod_store, node_store)
    }

    fn empty_set() -> SetHash {
        SetHash::of(std::iter::empty())
    }

    #[test]
    fn desired_are_agents_on_ready_nodes_that_are_not_on_their_way_out() {
        let mut leaving = pod("leaving", "n1", "Running");
        leaving.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        let pods = vec![
            pod("a1", "n1", "Running"),
            pod("a2", "n1", "Pending"),
            leaving,
            pod("evicted", "n1", "Failed"),
            pod("b1", "n2", "Running"),
        ];
        let agents = agents(pods, vec![node("n1", "True"), node("n2", "Unknown")]);
        let now = Instant::now();
        assert!(agents.view(now).is_none(), "nobody listens yet");
        agents.listening(true, now);
        let fleet = agents.view(now).unwrap();
        assert_eq!(fleet.iter().map(|(n, a)| (n.as_str(), a.len())).collect::<Vec<_>>(), [("n1", 2)]);
    }

    #[test]
    fn a_report_of_an_unknown_agent_is_dropped_and_the_node_is_the_pods() {
        let agents = agents(vec![pod("a1", "n1", "Running")], vec![node("n1", "True")]);
        let now = Instant::now();
        agents.listening(true, now);
        agents.hear(report("a1", "s", 1, &empty_set()), now);
        agents.hear(report("stranger", "s", 1, &empty_set()), now);
        assert_eq!(agents.reporting(now), 1);
        assert_eq!(agents.view(now).unwrap().keys().collect::<Vec<_>>(), ["n1"]);
    }

    #[test]
    fn an_agent_is_not_silent_because_nobody_listened() {
        let agents = agents(vec![pod("a1", "n1", "Running")], vec![node("n1", "True")]);
        let start = Instant::now();
        agents.listening(true, start);
        agents.hear(report("a1", "s", 1, &empty_set()), start);
        agents.listening(false, start);
        let later = start + SILENCE * 2;
        assert!(agents.view(later).is_none());
        agents.listening(true, later);
        let fleet = agents.view(later + SILENCE).unwrap();
        assert!(!is_silent(&fleet["n1"][0], later + SILENCE));
        assert!(is_silent(&fleet["n1"][0], later + SILENCE + Duration::from_secs(1)));
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
