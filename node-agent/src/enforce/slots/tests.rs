use portcullis_crds::bus::Share;

use super::*;
use crate::desired::tests::{a_version, with_candidate};

type Wanted = BTreeMap<RuleKey, Arc<Version>>;

fn wanted(versions: impl IntoIterator<Item = Version>) -> Wanted {
    versions.into_iter().map(|v| (v.rule.key.clone(), Arc::new(v))).collect()
}

fn failed(state: ExceptionState, retry: bool) -> Failure {
    Failure { state, message: format!("{state:?}"), retry }
}

/// The generation of which this is the stable revision.
fn made_for(revision: &RuleRevision) -> i64 {
    let is_it =
        |generation: &i64| a_version("", "", *generation).rule.stable.module == revision.spec().module;
    (0..10).find(is_it).unwrap()
}

/// Modules are the generations that they were made for.
struct World {
    slots: Slots<i64>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self { slots: Slots::default(), now: Instant::now() }
    }

    fn want(&mut self, versions: impl IntoIterator<Item = Version>) -> Vec<RuleRevision> {
        self.slots.want(&wanted(versions), self.now);
        self.slots.take_due(self.now)
    }

    fn ready(&mut self, revision: &RuleRevision) {
        self.slots.prepared(revision, &Ok(made_for(revision)), self.now);
    }

    fn fail(&mut self, revision: &RuleRevision, state: ExceptionState, retry: bool) {
        self.slots.prepared(revision, &Err(failed(state, retry)), self.now);
    }

    /// What runs after a commit: name and module, where it is not Disabled.
    fn commit(&mut self) -> Vec<(String, Option<i64>)> {
        self.slots.commit(jiff::Timestamp::UNIX_EPOCH);
        let rules = self.slots.rules();
        rules.map(|rule| (rule.wanted.rule.key.name.clone(), rule.stable.and_then(|r| r.module))).collect()
    }

    /// Stable revision and candidate of the only rule that are active after a commit.
    fn commit_one(&mut self) -> (Option<i64>, Option<i64>) {
        self.slots.commit(jiff::Timestamp::UNIX_EPOCH);
        let rule = self.slots.rules().next().unwrap();
        (rule.stable.and_then(|r| r.module), rule.candidate.and_then(|r| r.module))
    }

    fn exceptions(&self) -> Vec<(String, ExceptionState)> {
        self.slots.exceptions().map(|e| (e.key.name, e.state)).collect()
    }
}

#[test]
fn a_set_is_due_when_all_of_it_is_ready_or_known_to_fail() {
    let mut world = World::new();
    let due = world.want([a_version("shop", "a", 1), a_version("shop", "b", 1)]);
    assert_eq!(due.len(), 2);
    world.ready(&due[0]);
    assert!(!world.slots.is_due(world.now));
    world.fail(&due[1], ExceptionState::CompileFailed, false);
    assert!(world.slots.is_due(world.now));
    assert_eq!(world.commit(), [("a".into(), Some(1)), ("b".into(), None)]);
    assert_eq!(world.exceptions(), [("b".into(), ExceptionState::CompileFailed)]);
    assert!(!world.slots.is_changed());
}

#[test]
fn a_rule_whose_new_version_fails_goes_on_with_the_one_before() {
    let mut world = World::new();
    let due = world.want([a_version("shop", "a", 1)]);
    world.ready(&due[0]);
    world.commit();
    let due = world.want([a_version("shop", "a", 2)]);
    world.fail(&due[0], ExceptionState::ProbeFailed, false);
    assert_eq!(world.commit(), [("a".into(), Some(1))]);
    let exception = world.slots.exceptions().next().unwrap();
    assert_eq!(exception.active, Some(a_version("shop", "a", 1).revision));
    assert_eq!(exception.wanted, a_version("shop", "a", 2).revision);
}

#[test]
fn back_to_the_version_that_runs_needs_no_work() {
    let mut world = World::new();
    let due = world.want([a_version("shop", "a", 1)]);
    world.ready(&due[0]);
    world.commit();
    assert_eq!(world.want([a_version("shop", "a", 2)]).len(), 1);
    assert!(world.want([a_version("shop", "a", 1)]).is_empty());
    assert!(world.slots.is_due(world.now));
    assert_eq!(world.commit(), [("a".into(), Some(1))]);
    assert_eq!(world.exceptions(), []);
}

#[test]
fn an_outcome_of_a_version_that_is_no_longer_wanted_is_dropped() {
    let mut world = World::new();
    let old = world.want([a_version("shop", "a", 1)]);
    let new = world.want([a_version("shop", "a", 2)]);
    world.ready(&old[0]);
    assert!(!world.slots.is_due(world.now));
    world.ready(&new[0]);
    assert_eq!(world.commit(), [("a".into(), Some(2))]);
}

#[test]
fn a_slow_rule_does_not_hold_the_others_back_for_long() {
    let mut world = World::new();
    let due = world.want([a_version("shop", "quick", 1), a_version("shop", "slow", 1)]);
    world.ready(due.iter().find(|v| v.key().name == "quick").unwrap());
    let wake = world.slots.wake_at().unwrap();
    assert!(!world.slots.is_due(wake - Duration::from_millis(1)));
    assert!(world.slots.is_due(wake));
    assert_eq!(world.commit(), [("quick".into(), Some(1)), ("slow".into(), None)]);
    assert_eq!(world.exceptions(), [("slow".into(), ExceptionState::Progressing)]);
    world.ready(due.iter().find(|v| v.key().name == "slow").unwrap());
    assert!(world.slots.is_due(wake));
    assert_eq!(world.commit(), [("quick".into(), Some(1)), ("slow".into(), Some(1))]);
}

#[test]
fn a_module_that_could_not_be_had_is_tried_again_and_one_that_is_bad_is_not() {
    let mut world = World::new();
    let due = world.want([a_version("shop", "absent", 1), a_version("shop", "bad", 1)]);
    for version in &due {
        if version.key().name == "absent" {
            world.fail(version, ExceptionState::ModuleUnavailable, true);
        } else {
            world.fail(version, ExceptionState::CompileFailed, false);
        }
    }
    world.commit();
    assert!(world.slots.take_due(world.now).is_empty());
    world.now = world.slots.wake_at().unwrap();
    let again = world.slots.take_due(world.now);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].key().name, "absent");
    assert_eq!(world.slots.wake_at(), None);
    world.ready(&again[0]);
    assert!(world.slots.is_due(world.now));
}

#[test]
fn the_same_failure_again_changes_nothing() {
    let mut world = World::new();
    let due = world.want([a_version("shop", "a", 1)]);
    world.fail(&due[0], ExceptionState::ModuleUnavailable, true);
    world.commit();
    world.slots.retry_now(world.now);
    let again = world.slots.take_due(world.now);
    world.fail(&again[0], ExceptionState::ModuleUnavailable, true);
    assert!(!world.slots.is_changed());
}

#[test]
fn a_disabled_rule_needs_no_module_and_runs_nothing() {
    let mut world = World::new();
    let due = world.want([a_version("shop", "a", 1)]);
    world.ready(&due[0]);
    world.commit();
    let mut disabled = a_version("shop", "a", 2);
    disabled.rule.stable.mode = Mode::Disabled;
    assert!(world.want([disabled]).is_empty());
    assert!(world.slots.is_due(world.now));
    assert_eq!(world.commit(), [("a".into(), None)]);
    assert_eq!(world.exceptions(), []);
}

#[test]
fn a_rule_that_is_gone_leaves_the_set_at_once() {
    let mut world = World::new();
    let due = world.want([a_version("shop", "a", 1)]);
    world.ready(&due[0]);
    world.commit();
    world.want([]);
    assert!(world.slots.is_due(world.now));
    assert_eq!(world.commit(), []);
}

#[test]
fn a_new_generation_of_the_same_revision_changes_nothing() {
    let mut world = World::new();
    let due = world.want([a_version("shop", "a", 1)]);
    world.ready(&due[0]);
    world.commit();
    let same = Version { generation: 7, sequence: 90, ..a_version("shop", "a", 1) };
    assert!(world.want([same]).is_empty());
    assert!(!world.slots.is_changed());
}

#[test]
fn readiness_waits_for_enforced_rules_only() {
    let mut world = World::new();
    let mut monitored = a_version("shop", "watch", 1);
    monitored.rule.stable.mode = Mode::Monitor;
    world.want([monitored]);
    assert_eq!(world.slots.waiting_since(), None);
    world.want([a_version("shop", "a", 1)]);
    assert_eq!(world.slots.waiting_since(), Some(world.now));
}

#[test]
fn a_candidate_joins_when_it_is_ready_and_holds_nothing_up() {
    let mut world = World::new();
    let due = world.want([with_candidate(a_version("shop", "a", 1), 2)]);
    assert_eq!(due.iter().map(made_for).collect::<Vec<_>>(), [1, 2]);
    world.ready(&due[0]);
    assert!(world.slots.is_due(world.now), "the stable revision does not wait");
    assert_eq!(world.commit_one(), (Some(1), None));
    let exception = world.slots.exceptions().next().unwrap();
    assert_eq!((exception.state, &exception.wanted), (ExceptionState::Progressing, due[1].revision()));
    world.ready(&due[1]);
    assert_eq!(world.commit_one(), (Some(1), Some(2)));
    assert_eq!(world.exceptions(), []);
}

#[test]
fn a_candidate_that_fails_is_an_exception_of_its_own_and_hurts_nothing() {
    let mut world = World::new();
    let due = world.want([with_candidate(a_version("shop", "a", 1), 2)]);
    world.fail(&due[1], ExceptionState::CompileFailed, false);
    world.ready(&due[0]);
    assert_eq!(world.commit_one(), (Some(1), None));
    let exceptions: Vec<_> = world.slots.exceptions().map(|e| (e.wanted, e.active)).collect();
    assert_eq!(exceptions, [(due[1].revision().clone(), Some(due[0].revision().clone()))]);
    assert_eq!(world.slots.waiting_since(), None);
}

#[test]
fn a_stable_revision_that_fails_leaves_the_one_before_beside_the_candidate() {
    let mut world = World::new();
    let due = world.want([a_version("shop", "a", 1)]);
    world.ready(&due[0]);
    world.commit();
    let due = world.want([with_candidate(a_version("shop", "a", 2), 3)]);
    world.fail(&due[0], ExceptionState::ProbeFailed, false);
    world.ready(&due[1]);
    assert_eq!(world.commit_one(), (Some(1), Some(3)));
    assert_eq!(world.exceptions(), [("a".into(), ExceptionState::ProbeFailed)]);
}

#[test]
fn a_candidate_that_becomes_stable_is_not_made_ready_again() {
    let mut world = World::new();
    let due = world.want([with_candidate(a_version("shop", "a", 1), 2)]);
    world.ready(&due[0]);
    world.ready(&due[1]);
    world.commit();
    assert!(world.want([a_version("shop", "a", 2)]).is_empty());
    assert!(world.slots.is_due(world.now));
    assert_eq!(world.commit_one(), (Some(2), None));
    // And back, with the two in each other's place.
    let due = world.want([with_candidate(a_version("shop", "a", 2), 1)]);
    world.ready(&due[0]);
    assert_eq!(world.commit_one(), (Some(2), Some(1)));
    assert!(world.want([with_candidate(a_version("shop", "a", 1), 2)]).is_empty());
    assert_eq!(world.commit_one(), (Some(1), Some(2)));
}

#[test]
fn a_candidate_that_is_still_on_its_way_may_become_stable() {
    let mut world = World::new();
    let due = world.want([with_candidate(a_version("shop", "a", 1), 2)]);
    world.ready(&due[0]);
    world.commit();
    assert!(world.want([a_version("shop", "a", 2)]).is_empty(), "it is being made ready already");
    world.ready(&due[1]);
    assert_eq!(world.commit_one(), (Some(2), None));
}

#[test]
fn a_candidate_that_is_no_longer_wanted_leaves_the_set() {
    let mut world = World::new();
    let due = world.want([with_candidate(a_version("shop", "a", 1), 2)]);
    world.ready(&due[0]);
    world.ready(&due[1]);
    world.commit();
    assert!(world.want([a_version("shop", "a", 1)]).is_empty());
    assert!(world.slots.is_due(world.now));
    assert_eq!(world.commit_one(), (Some(1), None));
}

#[test]
fn another_weight_is_another_set_and_needs_no_work() {
    let mut world = World::new();
    let version = with_candidate(a_version("shop", "a", 1), 2);
    let due = world.want([version.clone()]);
    world.ready(&due[0]);
    world.ready(&due[1]);
    world.commit();
    let mut heavier = version;
    heavier.rule.candidate.as_mut().unwrap().weight = Share::ALL;
    assert!(world.want([heavier]).is_empty());
    assert!(world.slots.is_due(world.now));
    world.commit();
    let rule = world.slots.rules().next().unwrap();
    assert_eq!(rule.candidate.unwrap().revision.as_candidate().unwrap().weight, Share::ALL);
}

#[test]
fn what_is_active_is_kept_as_the_desired_version_or_as_one_of_its_own() {
    let mut world = World::new();
    let wanted = with_candidate(a_version("shop", "a", 1), 2);
    let runs = |world: &World| world.slots.rule(&wanted.rule.key).unwrap().runs();
    let before = |version: Version| Runs::Before(Box::new(version));
    let due = world.want([wanted.clone()]);
    assert_eq!(runs(&world), Runs::Nothing);
    world.ready(&due[0]);
    world.commit();
    assert_eq!(runs(&world), before(a_version("shop", "a", 1)), "the candidate is not ready");
    world.ready(&due[1]);
    world.commit();
    assert_eq!(runs(&world), Runs::Desired);
    let due = world.want([with_candidate(a_version("shop", "a", 3), 2)]);
    world.fail(&due[0], ExceptionState::ProbeFailed, false);
    world.commit();
    assert_eq!(runs(&world), before(wanted.clone()));
}
