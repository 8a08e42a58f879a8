//! From what the agents said to what a rule's status says of its nodes. No I/O.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_crds::bus::{Exception, ExceptionState, Mark, Report, SetHash};
use portcullis_crds::condition::Reason;
use portcullis_crds::status::{FAILING_MAX, FailingNode, NodeCounts};
use portcullis_crds::{Revision, RuleKey};
use tokio::time::Instant;

use crate::fleet::{Agent, Fleet, SILENCE, is_silent};

/// How long a node may join, restart or be away before a rule that was Ready is not.
pub(crate) const GRACE: Duration = Duration::from_secs(60);

/// Stands for the nodes without an agent among those that wait.
const WITHOUT_AGENT: &str = "";

/// In place of a message that did not fit into a report.
const NO_ROOM: &str =
    "the node has more failing rules than its report has room for; its agent's log says why";

/// What agents are asked about.
#[derive(Clone, Debug)]
pub(crate) struct Target<'a> {
    /// Which rule.
    pub(crate) key: &'a RuleKey,
    /// What should be active.
    pub(crate) revision: &'a Revision,
    /// What is wanted beside it. What an agent says of that says nothing about `revision`.
    pub(crate) candidate: Option<&'a Revision>,
    /// The stream that agents should follow.
    pub(crate) stream: &'a str,
    /// Whether the stream has the rule.
    pub(crate) place: Place<'a>,
    /// Stands for rule and revision; made when a report has marks.
    pub(crate) mark: OnceCell<Mark>,
}

/// Where agents have a rule from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// The stream has it.
    Published {
        /// Sequence at which it was published.
        sequence: u64,
        /// Sequence of the last rule or tombstone on the stream.
        head: u64,
        /// Hash of the set at that sequence.
        set: &'a SetHash,
    },
    /// The stream has lost it. An agent may still keep it, and then says so.
    Kept {
        /// Uid of the object.
        uid: &'a str,
    },
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
enum State {
    Active,
    Progressing { updated: bool },
    Failed { reason: Reason, message: String },
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
    target: &Target<'_>,
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
            if agents.iter().any(|agent| is_unsound(target, agent)) {
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

fn state_of(target: &Target<'_>, agent: &Agent, now: Instant) -> State {
    if is_silent(agent, now) {
        return State::Silent;
    }
    let Some(report) = &agent.report else { return State::Progressing { updated: false } };
    if !knows(target, report) {
        return State::Progressing { updated: false };
    }
    let concerns = |exception: &&Exception| {
        exception.key == *target.key
            && (exception.wanted == *target.revision || Some(&exception.wanted) != target.candidate)
    };
    match report.exceptions.iter().find(concerns) {
        // An exception about an older revision: it has not come to this one.
        Some(exception) if exception.wanted != *target.revision => State::Progressing { updated: false },
        Some(exception) => failure(exception),
        None => match marked(target, report) {
            Some(state) => failed(state, NO_ROOM),
            // What did not fit into the report may be this rule.
            None if report.more > 0 => State::Progressing { updated: true },
            None => State::Active,
        },
    }
}

fn is_unsound(target: &Target<'_>, agent: &Agent) -> bool {
    let unsound = agent.report.iter().flat_map(|report| &report.unsound);
    unsound.into_iter().any(|rule| rule.key == *target.key && rule.revision == *target.revision)
}

/// Whether the agent has taken note of the revision.
fn knows(target: &Target<'_>, report: &Report) -> bool {
    if report.stream != target.stream {
        return false;
    }
    match target.place {
        // At the same sequence an agent must have read the same set.
        Place::Published { sequence, head, set } => {
            report.sequence >= sequence && (report.sequence < head || report.desired == *set)
        }
        Place::Kept { uid } => report
            .kept
            .iter()
            .any(|kept| kept.key == *target.key && kept.uid == uid && kept.revision == *target.revision),
    }
}

/// The state of a rule for whose text a report had no room.
fn marked(target: &Target<'_>, report: &Report) -> Option<ExceptionState> {
    if report.marks.is_empty() {
        return None;
    }
    let mark = target.mark.get_or_init(|| Mark::of(target.key, target.revision));
    report.marks.iter().find(|(_, marks)| marks.contains(mark)).map(|(state, _)| *state)
}

fn failure(exception: &Exception) -> State {
    failed(exception.state, &exception.message)
}

fn failed(state: ExceptionState, message: &str) -> State {
    let reason = match state {
        ExceptionState::Progressing => return State::Progressing { updated: true },
        ExceptionState::ModuleUnavailable => Reason::ModuleUnavailable,
        ExceptionState::DigestMismatch => Reason::DigestMismatch,
        ExceptionState::CompileFailed => Reason::CompileFailed,
        ExceptionState::ConfigInvalid => Reason::ConfigInvalid,
        ExceptionState::ProbeFailed => Reason::ProbeFailed,
        ExceptionState::Unsupported => Reason::Unsupported,
    };
    State::Failed { reason, message: message.to_owned() }
}

#[cfg(test)]
mod tests;
