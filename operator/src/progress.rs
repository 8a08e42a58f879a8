//! How far each rule has come, and what is to be done for it now. Lost with the process: a new leader finds
//! the rest in the status and on the bus.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_crds::condition::Reason;
use tokio::time::Instant;

use crate::backoff;
use crate::halt::{Halt, Retry};
use crate::object::Object;
use crate::outcome::{Outcome, Published};
use crate::reconcile::aggregate::Waiting;

/// What only a person can correct, in the registry or in a Secret, is looked at again this often.
const SLOWLY: Duration = Duration::from_secs(60);
/// A module that nodes miss is put on the bus again at most this often.
const REPUBLISH: Duration = Duration::from_secs(60);

/// What is known of one generation of a rule.
#[derive(Debug)]
pub(crate) struct Progress {
    generation: i64,
    pub(crate) outcome: Outcome,
    /// Why the last look at a polled tag failed.
    pub(crate) poll_failure: Option<String>,
    /// Nodes that do not run it, and since when.
    pub(crate) waiting: Waiting,
    failures: u32,
    retry_at: Option<Instant>,
    poll_at: Option<Instant>,
    /// Nodes miss the module.
    republish: bool,
    republished_at: Option<Instant>,
}

/// What is to be done for a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Nothing but to look at the nodes.
    Nothing,
    /// The steps up to publish.
    Advance {
        /// The tag is to be asked for again.
        poll: bool,
    },
}

/// How a tag is looked at again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Polling {
    /// The registry was asked for the tag just now.
    pub(crate) asked: bool,
    /// How often it is asked; `None` if it is not.
    pub(crate) every: Option<Duration>,
}

/// How far all rules have come, by the uid of their objects.
#[derive(Debug, Default)]
pub(crate) struct AllProgress(Mutex<HashMap<String, Progress>>);

// === impl Progress ===

impl Progress {
    /// What came of the steps, after `before` (of the same generation).
    fn new(generation: i64, outcome: Outcome, before: Option<Self>, now: Instant) -> Self {
        let before = before.filter(|before| before.generation == generation);
        let mut failures = before.as_ref().map_or(0, |b| b.failures);
        let retry_at = match &outcome {
            Outcome::Halted { halt: Halt { retry: Retry::Soon, .. }, .. } => {
                failures = failures.saturating_add(1);
                Some(now + backoff::delay(failures))
            }
            Outcome::Halted { halt: Halt { retry: Retry::Slowly, .. }, .. } => {
                Some(now + backoff::spread(SLOWLY))
            }
            Outcome::Halted { halt: Halt { retry: Retry::OnChange, .. }, .. } => None,
            Outcome::Published(_) => {
                failures = 0;
                None
            }
        };
        Self {
            generation,
            outcome,
            poll_failure: None,
            failures,
            retry_at,
            republished_at: before.as_ref().and_then(|b| b.republished_at),
            waiting: before.map_or_else(Waiting::new, |b| b.waiting),
            poll_at: None,
            republish: false,
        }
    }

    /// Whether its module may be put on the bus again, as it is then at once.
    fn may_put_module(&mut self, now: Instant) -> bool {
        let lately = self.republished_at.is_some_and(|at| now.saturating_duration_since(at) < REPUBLISH);
        if !lately {
            self.republished_at = Some(now);
        }
        !lately
    }

    /// Whether it waits for nothing but the bus.
    fn waits_for_bus(&self) -> bool {
        matches!(&self.outcome, Outcome::Halted { halt, .. } if halt.reason == Reason::BusUnavailable)
    }

    fn work(&self, on_the_bus: Option<bool>, now: Instant) -> Work {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let poll = due(self.poll_at);
        match &self.outcome {
            // What the bus lacks goes there first, whatever the tag leads to by now: nodes may be without it. While it is
            // not known what the bus has, there is nothing to publish that would be missing.
            Outcome::Published(_) if on_the_bus == Some(false) || self.republish => {
                Work::Advance { poll: false }
            }
            Outcome::Halted { .. } if due(self.retry_at) => Work::Advance { poll },
            _ if poll => Work::Advance { poll },
            _ => Work::Nothing,
        }
    }

    /// When there is something to do again.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.retry_at.into_iter().chain(self.poll_at).min()
    }
}

// === impl AllProgress ===

impl AllProgress {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what is known of this generation. Nothing else can be looked at meanwhile.
    pub(crate) fn look<T>(&self, object: Object<'_>, look: impl FnOnce(&Progress) -> T) -> Option<T> {
        self.lock().get(object.uid).filter(|progress| progress.generation == object.generation).map(look)
    }

    /// What is to be done for this generation of a rule. `on_the_bus` tells whether the bus has what was
    /// published, if that is known.
    pub(crate) fn work(
        &self,
        object: Object<'_>,
        on_the_bus: impl FnOnce(&Published) -> Option<bool>,
        now: Instant,
    ) -> Work {
        let work = self.look(object, |progress| {
            let on_the_bus = match &progress.outcome {
                Outcome::Published(published) => on_the_bus(published),
                Outcome::Halted { .. } => None,
            };
            progress.work(on_the_bus, now)
        });
        work.unwrap_or(Work::Advance { poll: false })
    }

    /// The steps came to this. The next look at a polled tag is counted from the last one.
    pub(crate) fn record(&self, object: Object<'_>, outcome: Outcome, polling: Polling, now: Instant) {
        let mut all = self.lock();
        let before = all.remove(object.uid);
        let due_before = before.as_ref().filter(|b| b.generation == object.generation && !polling.asked);
        let due_before = due_before.and_then(|b| b.poll_at);
        let mut progress = Progress::new(object.generation, outcome, before, now);
        progress.poll_at =
            polling.every.map(|every| due_before.unwrap_or_else(|| now + backoff::spread(every)));
        all.insert(object.uid.to_owned(), progress);
    }

    /// A polled tag was looked at: it has not moved, or the look failed. What was known stays.
    pub(crate) fn polled(&self, uid: &str, failure: Option<String>, every: Option<Duration>, now: Instant) {
        if let Some(progress) = self.lock().get_mut(uid) {
            progress.poll_failure = failure;
            progress.poll_at = every.map(|every| now + backoff::spread(every));
        }
    }

    /// Which nodes do not run the rule, and since when.
    pub(crate) fn set_waiting(&self, uid: &str, waiting: Waiting) {
        if let Some(progress) = self.lock().get_mut(uid) {
            progress.waiting = waiting;
        }
    }

    /// Whether the steps still lead to the bus for this generation by themselves: they have not run yet, or only the bus
    /// was away, or what was published is published again.
    pub(crate) fn is_coming(&self, object: Object<'_>) -> bool {
        self.look(object, |p| p.outcome.is_published() || p.waits_for_bus()).unwrap_or(true)
    }

    /// Nodes miss the module of a rule. True if the steps are to put it on the bus again now; a halted rule's do not lead
    /// there.
    pub(crate) fn republish_module(&self, uid: &str, now: Instant) -> bool {
        let mut all = self.lock();
        let Some(progress) = all.get_mut(uid).filter(|progress| progress.outcome.is_published()) else {
            return false;
        };
        let is_time = progress.may_put_module(now);
        progress.republish |= is_time;
        is_time
    }

    /// Nodes miss the module of a rule whose steps do not lead to the bus. True if an agent is to be asked for it now.
    pub(crate) fn recall_module(&self, uid: &str, now: Instant) -> bool {
        self.lock().get_mut(uid).is_some_and(|progress| progress.may_put_module(now))
    }

    /// The bus is back: what waited for it waits no longer.
    pub(crate) fn bus_is_back(&self, now: Instant) {
        for progress in self.lock().values_mut().filter(|progress| progress.waits_for_bus()) {
            progress.retry_at = Some(now);
        }
    }

    /// The object is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use portcullis_crds::condition::ConditionType;
    use portcullis_crds::status::ResolvedModule;

    use super::*;

    pub(crate) fn published() -> Published {
        let entry = crate::published_state::tests::entry("a", "u1", 1);
        let module = entry.module().unwrap();
        let resolved = ResolvedModule {
            reference: module.reference.clone(),
            manifest_digest: module.manifest_digest.clone(),
            module_digest: module.digest.to_string(),
            signer: None,
            abi: 1,
            size: 6,
            resolved_at: Time(Timestamp::UNIX_EPOCH),
        };
        Published::new(entry, resolved)
    }

    fn halted(retry: Retry, reason: Reason) -> Outcome {
        let halt = Halt::new(ConditionType::Resolved, reason, "why".into(), retry);
        Outcome::Halted { halt, resolved: None }
    }

    const U1: Object<'_> = Object { uid: "u1", generation: 1 };

    struct World {
        all: AllProgress,
        now: Instant,
    }

    impl World {
        fn with(outcome: Outcome, poll: Option<Duration>) -> Self {
            let world = Self { all: AllProgress::default(), now: Instant::now() };
            world.all.record(U1, outcome, Polling { asked: false, every: poll }, world.now);
            world
        }

        fn work(&self, generation: i64, on_the_bus: Option<bool>, after: Duration) -> Work {
            self.all.work(Object { generation, ..U1 }, |_| on_the_bus, self.now + after)
        }
    }

    const LONG: Duration = Duration::from_secs(86_400);
    const ADVANCE: Work = Work::Advance { poll: false };
    const NEVER: Polling = Polling { asked: false, every: None };

    #[test]
    fn a_due_poll_does_not_hide_that_the_bus_lacks_the_rule() {
        let every = Duration::from_secs(300);
        let world = World::with(Outcome::Published(published()), Some(every));
        assert_eq!(world.work(1, Some(false), every), ADVANCE, "it is published before the tag is asked for");
        let polling = Polling { asked: false, every: Some(every) };
        let now = world.now + every;
        world.all.record(U1, Outcome::Published(published()), polling, now);
        assert_eq!(world.work(1, Some(true), every), Work::Advance { poll: true }, "and then it is");
    }

    #[test]
    fn a_new_generation_starts_over() {
        let world = World::with(Outcome::Published(published()), None);
        assert_eq!(world.work(1, Some(true), Duration::ZERO), Work::Nothing);
        assert_eq!(world.work(2, Some(true), Duration::ZERO), ADVANCE);
    }

    #[test]
    fn what_is_invalid_waits_for_a_change() {
        let world = World::with(halted(Retry::OnChange, Reason::NotWasm), None);
        assert_eq!(world.work(1, None, LONG), Work::Nothing);
    }

    #[test]
    fn what_is_unreachable_is_tried_again_after_a_growing_wait() {
        let world = World::with(halted(Retry::Soon, Reason::RegistryUnreachable), None);
        assert_eq!(world.work(1, None, Duration::ZERO), Work::Nothing);
        assert_eq!(world.work(1, None, Duration::from_secs(1)), ADVANCE);
        for _ in 0..3 {
            let outcome = halted(Retry::Soon, Reason::RegistryUnreachable);
            world.all.record(U1, outcome, NEVER, world.now);
        }
        assert_eq!(world.work(1, None, Duration::from_secs(3)), Work::Nothing);
        assert_eq!(world.work(1, None, Duration::from_secs(8)), ADVANCE);
    }

    #[test]
    fn what_the_bus_lost_is_published_again() {
        let world = World::with(Outcome::Published(published()), None);
        assert_eq!(world.work(1, Some(false), Duration::ZERO), ADVANCE);
        assert_eq!(world.work(1, None, LONG), Work::Nothing, "what the bus has is not known");
    }

    #[test]
    fn what_waited_for_the_bus_goes_on_when_it_is_back() {
        let world = World::with(halted(Retry::Soon, Reason::BusUnavailable), None);
        assert_eq!(world.work(1, None, Duration::ZERO), Work::Nothing);
        world.all.bus_is_back(world.now);
        assert_eq!(world.work(1, None, Duration::ZERO), ADVANCE);
    }

    #[test]
    fn a_tag_is_asked_for_again_only_when_it_is_polled() {
        let world = World::with(Outcome::Published(published()), None);
        assert_eq!(world.work(1, Some(true), LONG), Work::Nothing);
        let every = Duration::from_secs(300);
        let polled = World::with(Outcome::Published(published()), Some(every));
        assert_eq!(polled.work(1, Some(true), Duration::from_secs(149)), Work::Nothing);
        assert_eq!(polled.work(1, Some(true), every), Work::Advance { poll: true });
        polled.all.polled("u1", Some("down".into()), Some(every), polled.now + every);
        assert_eq!(polled.work(1, Some(true), every), Work::Nothing);
        assert!(polled.all.look(U1, |progress| progress.poll_failure.is_some()).unwrap());
    }

    #[test]
    fn a_module_that_nodes_miss_is_put_back_at_most_once_a_minute() {
        let world = World::with(Outcome::Published(published()), None);
        assert!(world.all.republish_module("u1", world.now));
        assert_eq!(world.work(1, Some(true), Duration::ZERO), ADVANCE);
        world.all.record(U1, Outcome::Published(published()), NEVER, world.now);
        assert_eq!(world.work(1, Some(true), Duration::ZERO), Work::Nothing);
        assert!(!world.all.republish_module("u1", world.now));
        assert!(world.all.republish_module("u1", world.now + REPUBLISH));
    }
    #[test]
    fn a_look_at_the_nodes_leaves_the_module_of_a_halted_rule_to_the_agents() {
        let world = World::with(halted(Retry::OnChange, Reason::NotWasm), None);
        assert!(!world.all.republish_module("u1", world.now), "its steps would not put it there");
        assert!(world.all.recall_module("u1", world.now), "so an agent is asked without a wait");
        assert!(
            !world.all.recall_module("u1", world.now) && world.all.recall_module("u1", world.now + REPUBLISH)
        );
    }
}
