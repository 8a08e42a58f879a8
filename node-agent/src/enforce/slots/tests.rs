use super::*;
use crate::desired::tests::a_version;

type Wanted = BTreeMap<RuleKey, Arc<Version>>;

fn wanted(versions: impl IntoIterator<Item = Version>) -> Wanted {
    versions.into_iter().map(|v| (v.rule.key.clone(), Arc::new(v))).collect()
}

fn failed(state: ExceptionState, retry: bool) -> Failure {
    Failure { state, message: format!("{state:?}"), retry }
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

    fn want(&mut self, versions: impl IntoIterator<Item = Version>) -> Vec<Arc<Version>> {
        self.slots.want(&wanted(versions), self.now);
        self.slots.take_due(self.now)
    }

    fn ready(&mut self, version: &Version) {
        self.slots.prepared(version, Ok(version.generation), self.now);
    }

    fn fail(&mut self, version: &Version, state: ExceptionState, retry: bool) {
        self.slots.prepared(version, Err(failed(state, retry)), self.now);
    }

    /// What runs after a commit: name and module, where it is not Disabled.
    fn commit(&mut self) -> Vec<(String, Option<i64>)> {
        self.slots.commit(jiff::Timestamp::UNIX_EPOCH);
        let running = self.slots.rules();
        running.map(|(wanted, r)| (wanted.rule.key.name.clone(), r.and_then(|r| r.module))).collect()
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
    world.ready(due.iter().find(|v| v.rule.key.name == "quick").unwrap());
    let wake = world.slots.wake_at().unwrap();
    assert!(!world.slots.is_due(wake - Duration::from_millis(1)));
    assert!(world.slots.is_due(wake));
    assert_eq!(world.commit(), [("quick".into(), Some(1)), ("slow".into(), None)]);
    assert_eq!(world.exceptions(), [("slow".into(), ExceptionState::Progressing)]);
    world.ready(due.iter().find(|v| v.rule.key.name == "slow").unwrap());
    assert!(world.slots.is_due(wake));
    assert_eq!(world.commit(), [("quick".into(), Some(1)), ("slow".into(), Some(1))]);
}

#[test]
fn a_module_that_could_not_be_had_is_tried_again_and_one_that_is_bad_is_not() {
    let mut world = World::new();
    let due = world.want([a_version("shop", "absent", 1), a_version("shop", "bad", 1)]);
    for version in &due {
        if version.rule.key.name == "absent" {
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
    assert_eq!(again[0].rule.key.name, "absent");
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
    disabled.rule.mode = Mode::Disabled;
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
    monitored.rule.mode = Mode::Monitor;
    world.want([monitored]);
    assert_eq!(world.slots.waiting_since(), None);
    world.want([a_version("shop", "a", 1)]);
    assert_eq!(world.slots.waiting_since(), Some(world.now));
}
