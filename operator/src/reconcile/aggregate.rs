//! From what the agents said to what a rule's status says of its nodes. No I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_crds::bus::{Exception, ExceptionState, Report, SetHash};
use portcullis_crds::condition::Reason;
use portcullis_crds::status::{FAILING_MAX, FailingNode, NodeCounts};
use portcullis_crds::{Revision, RuleKey};
use tokio::time::Instant;

use crate::fleet::{Agent, Fleet, SILENCE, is_silent};

/// How long a node may join, restart or be away before a rule that was Ready is not.
pub(crate) const GRACE: Duration = Duration::from_secs(60);

/// What agents are asked about.
#[derive(Clone, Debug)]
pub(crate) struct Target<'a> {
    /// Which rule.
    pub(crate) key: &'a RuleKey,
    /// What should be active.
    pub(crate) revision: &'a Revision,
    /// Sequence at which it was published.
    pub(crate) sequence: u64,
    /// The stream that the sequence belongs to.
    pub(crate) stream: &'a str,
    /// Sequence of the last rule or tombstone on the stream.
    pub(crate) head: u64,
    /// Hash of the set at that sequence.
    pub(crate) set: &'a SetHash,
}

/// What was found before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Before {
    /// The rule was Ready with this very revision.
    pub(crate) ready: bool,
    /// Since when each node that is not ready has not been.
    pub(crate) waiting: Waiting,
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
    /// Nodes that do not run it now, and since when.
    pub(crate) waiting: Waiting,
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

/// Ready only if every desired node itself said that it runs this very revision.
pub(crate) fn aggregate(target: &Target<'_>, fleet: &Fleet, before: &Before, now: Instant) -> Rollout {
    let mut counts = Counts { desired: fleet.len(), ..Counts::default() };
    let mut failing = Vec::new();
    let mut silent = Vec::new();
    let mut waiting = Waiting::new();
    let (mut late, mut stuck) = (0, true);
    let mut deadlines = Vec::new();
    for (node, agents) in fleet {
        deadlines.extend(agents.iter().filter(|a| !is_silent(a, now)).map(|a| a.heard + SILENCE));
        let state = worst(agents.iter().map(|agent| state_of(target, agent, now)));
        counts.updated +=
            usize::from(!matches!(state, State::Progressing { updated: false } | State::Silent));
        if state == State::Active {
            counts.ready += 1;
            continue;
        }
        let since = before.waiting.get(node).copied().unwrap_or(now);
        waiting.insert(node.clone(), since);
        let in_grace = before.ready && now.saturating_duration_since(since) < GRACE;
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
                    deadlines.push(since + GRACE);
                }
            }
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
    Rollout { verdict, counts, failing, waiting, look_again: deadlines.into_iter().min() }
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
    let knows_it = report.stream == target.stream && report.sequence >= target.sequence;
    if !knows_it || read_another_set(target, report) {
        return State::Progressing { updated: false };
    }
    match report.exceptions.iter().find(|e| e.key == *target.key) {
        // An exception about an older revision: it has not come to this one.
        Some(exception) if exception.wanted != *target.revision => State::Progressing { updated: false },
        Some(exception) => failure(exception),
        // What did not fit into the report may be this rule.
        None if report.more > 0 => State::Progressing { updated: true },
        None => State::Active,
    }
}

/// At the same sequence an agent must have read the same set.
fn read_another_set(target: &Target<'_>, report: &Report) -> bool {
    report.sequence >= target.head && report.desired != *target.set
}

fn failure(exception: &Exception) -> State {
    let reason = match exception.state {
        ExceptionState::Progressing => return State::Progressing { updated: true },
        ExceptionState::ModuleUnavailable => Reason::ModuleUnavailable,
        ExceptionState::DigestMismatch => Reason::DigestMismatch,
        ExceptionState::CompileFailed => Reason::CompileFailed,
        ExceptionState::ProbeFailed => Reason::ProbeFailed,
        ExceptionState::Unsupported => Reason::Unsupported,
    };
    State::Failed { reason, message: exception.message.clone() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portcullis_crds::bus::SetHash;

    use super::*;
    use crate::fleet::tests::report;

    struct World {
        key: RuleKey,
        revision: Revision,
        set: SetHash,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            Self {
                key: RuleKey::namespaced("shop", "bots"),
                revision: Revision::from("r2".to_owned()),
                set: SetHash::of(std::iter::empty()),
                now: Instant::now(),
            }
        }

        fn report(&self) -> Report {
            report("a", "s1", 20, &self.set)
        }

        fn exception(&self, state: ExceptionState) -> Report {
            let exception = Exception {
                key: self.key.clone(),
                wanted: self.revision.clone(),
                active: None,
                state,
                message: "why".into(),
            };
            Report { exceptions: vec![exception], ..self.report() }
        }

        fn agent(&self, report: Option<Report>) -> Agent {
            Agent { report: report.map(Arc::new), heard: self.now }
        }

        fn judge(&self, nodes: Vec<Vec<Agent>>, before: &Before) -> Rollout {
            let target = Target {
                key: &self.key,
                revision: &self.revision,
                sequence: 10,
                stream: "s1",
                head: 12,
                set: &self.set,
            };
            let fleet = nodes.into_iter().enumerate().map(|(i, agents)| (format!("n{i}"), agents)).collect();
            aggregate(&target, &fleet, before, self.now)
        }

        /// One healthy node beside one whose only agent said this.
        fn beside(&self, report: Option<Report>) -> Rollout {
            self.judge(
                vec![vec![self.agent(Some(self.report()))], vec![self.agent(report)]],
                &Before::default(),
            )
        }

        fn was_ready(&self, waiting_for: Duration) -> Before {
            let since = self.now.checked_sub(waiting_for).unwrap();
            Before { ready: true, waiting: [("n1".to_owned(), since)].into() }
        }
    }

    #[test]
    fn ready_only_when_every_desired_node_reported_this_revision() {
        let world = World::new();
        let rollout = world.beside(Some(world.report()));
        assert_eq!(rollout.verdict, Verdict::Active { in_grace: 0 });
        assert_eq!(rollout.counts, Counts { desired: 2, updated: 2, ready: 2, failed: 0 });
        assert_eq!(NodeCounts::from(rollout.counts).summary, "2/2");
    }

    #[test]
    fn without_nodes_nothing_is_ready() {
        assert_eq!(World::new().judge(vec![], &Before::default()).verdict, Verdict::NoNodes);
    }

    #[test]
    fn a_node_that_does_not_know_the_revision_is_progressing() {
        let world = World::new();
        let cases = [
            ("no report", None),
            ("behind", Some(Report { sequence: 9, ..world.report() })),
            ("another stream", Some(Report { stream: "s0".into(), ..world.report() })),
        ];
        for (case, report) in cases {
            let rollout = world.beside(report);
            assert_eq!(rollout.verdict, Verdict::Progressing, "{case}");
            assert_eq!((rollout.counts.ready, rollout.counts.updated), (1, 1), "{case}");
        }
    }

    #[test]
    fn an_agent_that_read_another_set_at_the_same_sequence_is_not_ready() {
        let world = World::new();
        let other = {
            let key = RuleKey::namespaced("x", "y");
            SetHash::of([(&key, "u", &world.revision)].into_iter())
        };
        let at_head = Report { desired: other.clone(), ..world.report() };
        assert_eq!(world.beside(Some(at_head)).verdict, Verdict::Progressing);
        let before_head = Report { desired: other, sequence: 11, ..world.report() };
        assert_eq!(world.beside(Some(before_head)).verdict, Verdict::Active { in_grace: 0 });
    }

    #[test]
    fn a_truncated_report_says_nothing_of_rules_that_it_does_not_list() {
        let world = World::new();
        let rollout = world.beside(Some(Report { more: 1, ..world.report() }));
        assert_eq!((rollout.verdict, rollout.counts.ready), (Verdict::Progressing, 1));
    }

    #[test]
    fn an_exception_about_an_older_revision_is_no_failure_of_this_one() {
        let world = World::new();
        let mut report = world.exception(ExceptionState::CompileFailed);
        report.exceptions[0].wanted = Revision::from("r1".to_owned());
        let rollout = world.beside(Some(report));
        assert_eq!((rollout.verdict, rollout.counts.failed), (Verdict::Progressing, 0));
    }

    #[test]
    fn a_node_that_cannot_run_it_fails_the_rule_and_says_why() {
        let world = World::new();
        for (state, reason, stuck) in [
            (ExceptionState::CompileFailed, "CompileFailed", true),
            (ExceptionState::ProbeFailed, "ProbeFailed", true),
            (ExceptionState::Unsupported, "Unsupported", true),
            (ExceptionState::DigestMismatch, "DigestMismatch", true),
            (ExceptionState::ModuleUnavailable, "ModuleUnavailable", false),
        ] {
            let rollout = world.beside(Some(world.exception(state)));
            assert_eq!(rollout.verdict, Verdict::Failed { stuck }, "{reason}");
            let failing = FailingNode { node: "n1".into(), reason: reason.into(), message: "why".into() };
            assert_eq!(rollout.failing, [failing]);
            assert_eq!(rollout.counts, Counts { desired: 2, updated: 2, ready: 1, failed: 1 });
        }
    }

    #[test]
    fn a_failure_has_no_grace() {
        let world = World::new();
        let nodes = vec![
            vec![world.agent(Some(world.report()))],
            vec![world.agent(Some(world.exception(ExceptionState::ProbeFailed)))],
        ];
        let rollout = world.judge(nodes, &world.was_ready(Duration::ZERO));
        assert_eq!(rollout.verdict, Verdict::Failed { stuck: true });
    }

    #[test]
    fn at_most_five_failing_nodes_are_listed() {
        let world = World::new();
        let failed = || vec![world.agent(Some(world.exception(ExceptionState::CompileFailed)))];
        let rollout = world.judge((0..8).map(|_| failed()).collect(), &Before::default());
        assert_eq!((rollout.failing.len(), rollout.counts.failed), (FAILING_MAX, 8));
    }

    #[test]
    fn a_node_is_ready_when_all_its_agents_are() {
        let world = World::new();
        let both = vec![world.agent(Some(world.report())), world.agent(None)];
        let rollout = world.judge(vec![both], &Before::default());
        assert_eq!((rollout.verdict, rollout.counts.ready), (Verdict::Progressing, 0));
    }

    #[test]
    fn a_joining_node_leaves_a_ready_rule_ready_for_a_minute() {
        let world = World::new();
        let nodes = || vec![vec![world.agent(Some(world.report()))], vec![world.agent(None)]];
        let first_seen = world.judge(nodes(), &Before { ready: true, waiting: Waiting::new() });
        assert_eq!(first_seen.verdict, Verdict::Active { in_grace: 1 });
        assert_eq!(first_seen.waiting["n1"], world.now);
        assert_eq!(first_seen.look_again, Some(world.now + GRACE));
        assert_eq!((first_seen.counts.ready, first_seen.counts.desired), (1, 2));
        let over = world.judge(nodes(), &world.was_ready(GRACE));
        assert_eq!(over.verdict, Verdict::Progressing);
    }

    #[test]
    fn a_rule_that_was_not_ready_gets_no_grace() {
        let world = World::new();
        assert_eq!(world.beside(None).verdict, Verdict::Progressing);
    }

    #[test]
    fn an_agent_silent_for_three_heartbeats_makes_the_rule_unknown() {
        let world = World::new();
        let silent = Agent {
            heard: world.now.checked_sub(SILENCE + Duration::from_secs(1)).unwrap(),
            ..world.agent(Some(world.report()))
        };
        let nodes = vec![vec![world.agent(Some(world.report()))], vec![silent]];
        let rollout = world.judge(nodes, &world.was_ready(Duration::ZERO));
        assert_eq!(rollout.verdict, Verdict::Silent { nodes: vec!["n1".into()] });
        assert_eq!(rollout.counts.ready, 1);
    }

    #[test]
    fn an_agent_heard_lately_is_looked_at_again_when_it_would_be_silent() {
        let world = World::new();
        let rollout = world.judge(vec![vec![world.agent(Some(world.report()))]], &Before::default());
        assert_eq!(rollout.look_again, Some(world.now + SILENCE));
    }
}
