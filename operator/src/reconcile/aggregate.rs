//! From what the agents said to what a rule's status says of its nodes. No I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_crds::bus::Report;
use portcullis_crds::condition::Reason;
use portcullis_crds::status::{FAILING_MAX, FailingNode, NodeCounts};
use tokio::time::Instant;

use crate::fleet::{Agent, Fleet, SILENCE, is_silent};

/// How long a node may join, restart or be away before a rule that was Ready is not.
pub(crate) const GRACE: Duration = Duration::from_secs(60);

/// Stands for the nodes without an agent among those that wait.
const WITHOUT_AGENT: &str = "";

/// What agents are asked about.
pub(crate) trait Target {
    /// What a report says of it.
    fn state(&self, report: &Report) -> State;

    /// Whether it runs, but not as its author may think.
    fn is_unsound(&self, _report: &Report) -> bool {
        false
    }
}

/// Nodes that are not ready, and since when.
pub(crate) type Waiting = BTreeMap<String, Instant>;

/// The worst of what is not right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every desired node runs the revision, or will within its grace period.
    Active {
        /// Nodes in their grace period.
        in_grace: usize,
    },
    /// Nodes are taking it up.
    Progressing,
    /// Nodes have said nothing for three heartbeats.
    Silent {
        /// Which.
        nodes: Vec<String>,
    },
    /// Nodes cannot run it.
    Failed {
        /// No node that is not ready yet can become so without a change.
        stuck: bool,
    },
    /// There is no node.
    NoNodes,
}

/// What all agents together say of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rollout {
    /// The worst of what is not right.
    pub(crate) verdict: Verdict,
    /// Nodes by what they reported.
    pub(crate) counts: Counts,
    /// Nodes that cannot run it, at most [`FAILING_MAX`].
    pub(crate) failing: Vec<FailingNode>,
    /// Nodes that run it on every request, because its prefilter hid one from it that it does not allow.
    pub(crate) unsound: Vec<String>,
    /// Nodes that do not run it now, and since when.
    pub(crate) waiting: Waiting,
    /// A node is in its grace period, or an agent has not reported yet: the numbers are about to change.
    pub(crate) settling: bool,
    /// When the answer changes by the mere passing of time.
    pub(crate) look_again: Option<Instant>,
}

/// [`NodeCounts`] before they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) desired: usize,
    pub(crate) updated: usize,
    pub(crate) ready: usize,
    pub(crate) failed: usize,
}

/// What one agent, or the worst of a node's agents, says of the revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It does what is wanted.
    Active,
    /// It is about to.
    Progressing {
        /// Whether it knows what is wanted.
        updated: bool,
    },
    /// It cannot.
    Failed { reason: Reason, message: String },
    /// It has said nothing for three heartbeats.
    Silent,
}

// === impl Rollout ===

impl Rollout {
    /// Whether a node cannot get the module.
    pub(crate) fn misses_module(&self) -> bool {
        self.failing.iter().any(|node| node.reason == Reason::ModuleUnavailable.as_str())
    }
}

// === impl Counts ===

impl From<Counts> for NodeCounts {
    fn from(counts: Counts) -> Self {
        let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        Self {
            desired: number(counts.desired),
            updated: number(counts.updated),
            ready: number(counts.ready),
            failed: number(counts.failed),
            summary: format!("{}/{}", counts.ready, counts.desired),
        }
    }
}

/// Ready only if every desired node itself said that it runs this very revision. Joining nodes have their grace if the rule
/// `was_ready` with it; `waiting_before` are those that were not ready before.
pub(crate) fn aggregate(
    target: &impl Target,
    fleet: &Fleet,
    was_ready: bool,
    waiting_before: &Waiting,
    now: Instant,
) -> Rollout {
    let desired = fleet.nodes.len() + fleet.without_agent;
    let mut counts = Counts { desired, ..Counts::default() };
    let mut failing = Vec::new();
    let mut unsound = Vec::new();
    let mut silent = Vec::new();
    let mut waiting = Waiting::new();
    let (mut late, mut stuck, mut settling) = (0, true, false);
    let mut look_again = None::<Instant>;
    let mut earlier = |at: Instant| look_again = Some(look_again.map_or(at, |before| before.min(at)));
    for (node, agents) in &fleet.nodes {
        settling |= agents.iter().any(|agent| agent.report.is_none() && !is_silent(agent, now));
        agents.iter().filter(|a| !is_silent(a, now)).for_each(|a| earlier(a.last_seen + SILENCE));
        let state = worst(agents.iter().map(|agent| state_of(target, agent, now)));
        counts.updated +=
            usize::from(!matches!(state, State::Progressing { updated: false } | State::Silent));
        if state == State::Active {
            counts.ready += 1;
            if agents.iter().filter_map(|agent| agent.report.as_ref()).any(|report| target.is_unsound(report))
            {
                unsound.push(node.clone());
            }
            continue;
        }
        let since = waiting_before.get(node).copied().unwrap_or(now);
        waiting.insert(node.clone(), since);
        let in_grace = was_ready && now.saturating_duration_since(since) < GRACE;
        match state {
            State::Failed { reason, message } => {
                counts.failed += 1;
                stuck &= !matches!(reason, Reason::ModuleUnavailable);
                failing.push(FailingNode { node: node.clone(), reason: reason.as_str().into(), message });
            }
            State::Silent => silent.push(node.clone()),
            State::Active | State::Progressing { .. } => {
                stuck = false;
                late += usize::from(!in_grace);
                if in_grace {
                    earlier(since + GRACE);
                }
            }
        }
    }
    if fleet.without_agent > 0 {
        let since = waiting_before.get(WITHOUT_AGENT).copied().unwrap_or(now);
        waiting.insert(WITHOUT_AGENT.to_owned(), since);
        stuck = false;
        let in_grace = was_ready && now.saturating_duration_since(since) < GRACE;
        if now.saturating_duration_since(since) >= SILENCE {
            silent.push(format!("{} without an agent", plural(fleet.without_agent)));
        } else {
            late += if in_grace { 0 } else { fleet.without_agent };
            earlier(since + if in_grace { GRACE } else { SILENCE });
        }
    }
    let verdict = if counts.desired == 0 {
        Verdict::NoNodes
    } else if counts.failed > 0 {
        Verdict::Failed { stuck }
    } else if !silent.is_empty() {
        Verdict::Silent { nodes: silent }
    } else if late > 0 {
        Verdict::Progressing
    } else {
        Verdict::Active { in_grace: counts.desired - counts.ready }
    };
    failing.truncate(FAILING_MAX);
    settling |= matches!(verdict, Verdict::Active { in_grace: 1.. });
    Rollout { verdict, counts, failing, unsound, waiting, settling, look_again }
}

fn plural(nodes: usize) -> String {
    if nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") }
}

/// A node is as well as the worst of its agents: during an upgrade both answer requests.
fn worst(states: impl Iterator<Item = State>) -> State {
    let rank = |state: &State| match state {
        State::Failed { .. } => 3,
        State::Silent => 2,
        State::Progressing { .. } => 1,
        State::Active => 0,
    };
    // A desired node has at least one agent; without any it would not be in the fleet.
    states.max_by_key(rank).unwrap_or(State::Progressing { updated: false })
}

fn state_of(target: &impl Target, agent: &Agent, now: Instant) -> State {
    if is_silent(agent, now) {
        return State::Silent;
    }
    agent.report.as_ref().map_or(State::Progressing { updated: false }, |report| target.state(report))
}

#[cfg(test)]
mod tests;
