//! What agents may say, and what becomes of it.

use std::sync::Arc;

use portcullis_crds::bus::{Kept, SetHash, Unsound};

use std::cell::OnceCell;

use portcullis_crds::bus::{Exception, ExceptionState, Mark};
use portcullis_crds::{Revision, RuleKey};

use super::super::rule_target::{Place, RuleTarget};
use super::*;
use crate::fleet::tests::report;

/// What was found before.
#[derive(Clone, Default)]
struct Before {
    ready: bool,
    waiting: Waiting,
}

struct World {
    key: RuleKey,
    revision: Revision,
    candidate: Option<Revision>,
    set: SetHash,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self {
            key: RuleKey::namespaced("shop", "bots"),
            revision: Revision::from("r2".to_owned()),
            candidate: None,
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
        Agent { report: report.map(Arc::new), last_seen: self.now }
    }

    fn judge(&self, nodes: Vec<Vec<Agent>>, before: &Before) -> Rollout {
        self.judge_at(Place::Published { sequence: 10, head: 12, set: &self.set }, nodes, 0, before)
    }

    fn judge_at(
        &self,
        place: Place<'_>,
        nodes: Vec<Vec<Agent>>,
        without_agent: usize,
        before: &Before,
    ) -> Rollout {
        let (key, revision) = (&self.key, &self.revision);
        let target = RuleTarget {
            key,
            revision,
            candidate: self.candidate.as_ref(),
            stream: "s1",
            place,
            mark: OnceCell::new(),
        };
        let nodes = nodes.into_iter().enumerate().map(|(i, agents)| (format!("n{i}"), agents)).collect();
        let fleet = Fleet { nodes, without_agent };
        aggregate(&target, &fleet, before.ready, &before.waiting, self.now)
    }

    /// One healthy node beside one whose only agent said this.
    fn beside(&self, report: Option<Report>) -> Rollout {
        self.judge(vec![vec![self.agent(Some(self.report()))], vec![self.agent(report)]], &Before::default())
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
fn a_node_that_does_not_use_the_prefilter_of_this_revision_is_named() {
    let world = World::new();
    let unsound = |revision: &str| Report {
        unsound: vec![Unsound { key: world.key.clone(), revision: Revision::from(revision.to_owned()) }],
        ..world.report()
    };
    let rollout = world.beside(Some(unsound("r2")));
    assert_eq!((rollout.verdict, rollout.unsound), (Verdict::Active { in_grace: 0 }, vec!["n1".to_owned()]));
    assert_eq!(world.beside(Some(unsound("r1"))).unsound, Vec::<String>::new());
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
fn a_report_without_room_for_every_text_still_tells_which_rules_run() {
    let world = World::new();
    let marks =
        |mark| Report { marks: [(ExceptionState::CompileFailed, [mark].into())].into(), ..world.report() };
    let other = Mark::of(&RuleKey::namespaced("shop", "other"), &world.revision);
    let rollout = world.beside(Some(marks(other)));
    assert_eq!(rollout.verdict, Verdict::Active { in_grace: 0 }, "another rule has no room");
    let rollout = world.beside(Some(marks(Mark::of(&world.key, &world.revision))));
    assert_eq!(rollout.verdict, Verdict::Failed { stuck: true });
    assert_eq!(
        (rollout.failing[0].node.as_str(), rollout.failing[0].reason.as_str()),
        ("n1", "CompileFailed")
    );
}

#[test]
fn a_node_without_an_agent_is_never_counted_out() {
    let world = World::new();
    let published = Place::Published { sequence: 10, head: 12, set: &world.set };
    let healthy = || vec![vec![world.agent(Some(world.report()))]];
    let fresh = world.judge_at(published, healthy(), 1, &Before::default());
    assert_eq!((fresh.verdict, fresh.counts.ready, fresh.counts.desired), (Verdict::Progressing, 1, 2));
    let waiting = |before: Before, since: Duration| Before {
        waiting: [(WITHOUT_AGENT.to_owned(), world.now.checked_sub(since).unwrap())].into(),
        ..before
    };
    let ready = Before { ready: true, ..Before::default() };
    let in_grace = world.judge_at(published, healthy(), 1, &waiting(ready.clone(), Duration::from_secs(1)));
    assert_eq!(in_grace.verdict, Verdict::Active { in_grace: 1 });
    let silent = world.judge_at(published, healthy(), 1, &waiting(ready, SILENCE));
    assert_eq!(silent.verdict, Verdict::Silent { nodes: vec!["1 node without an agent".into()] });
}

#[test]
fn of_a_rule_that_the_stream_has_lost_only_nodes_that_say_so_run_it() {
    let world = World::new();
    let kept = |uid: &str, revision: &str| Report {
        kept: vec![Kept {
            key: world.key.clone(),
            uid: uid.into(),
            revision: Revision::from(revision.to_owned()),
        }],
        ..world.report()
    };
    let judge = |report: Report| {
        let nodes = vec![vec![world.agent(Some(kept("u1", "r2")))], vec![world.agent(Some(report))]];
        world.judge_at(Place::Kept { uid: "u1" }, nodes, 0, &Before::default()).counts.ready
    };
    assert_eq!(judge(kept("u1", "r2")), 2);
    for other in [
        world.report(),
        kept("u2", "r2"),
        kept("u1", "r1"),
        Report { stream: "s0".into(), ..kept("u1", "r2") },
    ] {
        assert_eq!(judge(other), 1);
    }
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
        (ExceptionState::ConfigInvalid, "ConfigInvalid", true),
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
    assert!(first_seen.settling, "the numbers are about to change");
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
        last_seen: world.now.checked_sub(SILENCE + Duration::from_secs(1)).unwrap(),
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

#[test]
fn what_a_node_says_of_the_candidate_says_nothing_about_the_stable_revision() {
    let candidate = Revision::from("r3".to_owned());
    let world = World { candidate: Some(candidate.clone()), ..World::new() };
    let mut failed = world.exception(ExceptionState::CompileFailed);
    failed.exceptions[0].wanted = candidate;
    assert_eq!(world.beside(Some(failed.clone())).verdict, Verdict::Active { in_grace: 0 });
    // Its own exception still counts, whichever comes first.
    failed.exceptions.extend(world.exception(ExceptionState::ProbeFailed).exceptions);
    assert_eq!(world.beside(Some(failed)).counts.failed, 1);
}
