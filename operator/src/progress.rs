//! How far each rule has come, and what is to be done for it now. Lost with the process: a new leader finds
//! the rest in the status and on the bus.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_crds::RuleKey;
use portcullis_crds::condition::Reason;
use portcullis_crds::status::ResolvedModule;
use tokio::time::Instant;

use crate::backoff;
use crate::reconcile::aggregate::Waiting;
use crate::reconcile::publish::Published;
use crate::reconcile::{Halt, Retry};

/// What only a person can correct, in the registry or in a Secret, is looked at again this often.
const SLOWLY: Duration = Duration::from_secs(60);
/// A module that nodes miss is put on the bus again at most this often.
const REPUBLISH: Duration = Duration::from_secs(60);

/// How far a generation of a rule has come.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Not all the way.
    Halted(Halt),
    /// On the bus.
    Published(Box<Published>),
}

/// What is known of one generation of a rule.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) uid: String,
    pub(crate) generation: i64,
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

/// How far all rules have come.
#[derive(Debug, Default)]
pub(crate) struct Rules(Mutex<HashMap<RuleKey, Progress>>);

// === impl Outcome ===

impl Outcome {
    /// What the reference led to, as far as it is known.
    pub(crate) fn resolved(&self) -> Option<&ResolvedModule> {
        match self {
            Self::Halted(halt) => halt.resolved.as_ref(),
            Self::Published(published) => Some(&published.resolved),
        }
    }
}

// === impl Progress ===

impl Progress {
    /// What came of the steps, after `before` (of the same generation).
    fn new(uid: &str, generation: i64, outcome: Outcome, before: Option<Self>, now: Instant) -> Self {
        let before = before.filter(|b| b.uid == uid && b.generation == generation);
        let mut failures = before.as_ref().map_or(0, |b| b.failures);
        let mut retry_at = None;
        match &outcome {
            Outcome::Halted(Halt { retry: Retry::Soon, .. }) => {
                failures = failures.saturating_add(1);
                retry_at = Some(now + backoff::delay(failures));
            }
            Outcome::Halted(Halt { retry: Retry::Slowly, .. }) => {
                retry_at = Some(now + backoff::spread(SLOWLY));
            }
            Outcome::Halted(Halt { retry: Retry::OnChange, .. }) => {}
            Outcome::Published(_) => failures = 0,
        }
        Self {
            uid: uid.to_owned(),
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

    fn work(&self, on_the_bus: Option<bool>, now: Instant) -> Work {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let poll = due(self.poll_at);
        match &self.outcome {
            // What the bus lacks goes there first, whatever the tag leads to by now: nodes may be without it. While it is
            // not known what the bus has, there is nothing to publish that would be missing.
            Outcome::Published(_) if on_the_bus == Some(false) || self.republish => {
                Work::Advance { poll: false }
            }
            Outcome::Halted(_) if due(self.retry_at) => Work::Advance { poll },
            _ if poll => Work::Advance { poll },
            _ => Work::Nothing,
        }
    }

    /// When there is something to do again.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.retry_at.into_iter().chain(self.poll_at).min()
    }
}

// === impl Rules ===

impl Rules {
    fn lock(&self) -> MutexGuard<'_, HashMap<RuleKey, Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be done for this generation of a rule. `on_the_bus` tells whether the bus has what was
    /// published, if that is known.
    pub(crate) fn work(
        &self,
        key: &RuleKey,
        uid: &str,
        generation: i64,
        on_the_bus: impl FnOnce(&Published) -> Option<bool>,
        now: Instant,
    ) -> Work {
        let rules = self.lock();
        let Some(progress) = rules.get(key).filter(|p| p.uid == uid && p.generation == generation) else {
            return Work::Advance { poll: false };
        };
        let on_the_bus = match &progress.outcome {
            Outcome::Published(published) => on_the_bus(published),
            Outcome::Halted(_) => None,
        };
        progress.work(on_the_bus, now)
    }

    /// What is known of this generation.
    pub(crate) fn get(&self, key: &RuleKey, uid: &str, generation: i64) -> Option<Progress> {
        self.lock().get(key).filter(|p| p.uid == uid && p.generation == generation).cloned()
    }

    /// The steps came to this. The next look at a polled tag is counted from the last one.
    pub(crate) fn record(
        &self,
        key: &RuleKey,
        uid: &str,
        generation: i64,
        outcome: Outcome,
        polling: Polling,
        now: Instant,
    ) {
        let mut rules = self.lock();
        let before = rules.remove(key);
        let due_before = before.as_ref().filter(|b| b.uid == uid && b.generation == generation);
        let due_before = due_before.and_then(|b| b.poll_at).filter(|_| !polling.asked);
        let mut progress = Progress::new(uid, generation, outcome, before, now);
        progress.poll_at =
            polling.every.map(|every| due_before.unwrap_or_else(|| now + backoff::spread(every)));
        rules.insert(key.clone(), progress);
    }

    /// A polled tag was looked at: it has not moved, or the look failed. What was known stays.
    pub(crate) fn polled(
        &self,
        key: &RuleKey,
        failure: Option<String>,
        every: Option<Duration>,
        now: Instant,
    ) {
        if let Some(progress) = self.lock().get_mut(key) {
            progress.poll_failure = failure;
            progress.poll_at = every.map(|every| now + backoff::spread(every));
        }
    }

    /// Which nodes do not run the rule, and since when.
    pub(crate) fn set_waiting(&self, key: &RuleKey, waiting: Waiting) {
        if let Some(progress) = self.lock().get_mut(key) {
            progress.waiting = waiting;
        }
    }

    /// Whether the steps still lead to the bus for this generation by themselves: they have not run yet, or only the bus
    /// was away, or what was published is published again.
    pub(crate) fn is_coming(&self, key: &RuleKey, uid: &str, generation: i64) -> bool {
        let rules = self.lock();
        let progress = rules.get(key).filter(|p| p.uid == uid && p.generation == generation);
        progress.is_none_or(|progress| match &progress.outcome {
            Outcome::Published(_) => true,
            Outcome::Halted(halt) => halt.reason == Reason::BusUnavailable,
        })
    }

    /// Nodes miss the module. True if it is to be put on the bus again now.
    pub(crate) fn miss_module(&self, key: &RuleKey, now: Instant) -> bool {
        let mut rules = self.lock();
        let Some(progress) = rules.get_mut(key) else { return false };
        let lately = progress.republished_at.is_some_and(|at| now.saturating_duration_since(at) < REPUBLISH);
        if lately {
            return false;
        }
        progress.republish = true;
        progress.republished_at = Some(now);
        true
    }

    /// The bus is back: what waited for it waits no longer.
    pub(crate) fn bus_is_back(&self, now: Instant) {
        for progress in self.lock().values_mut() {
            if matches!(&progress.outcome, Outcome::Halted(halt) if halt.reason == Reason::BusUnavailable) {
                progress.retry_at = Some(now);
            }
        }
    }

    /// The object is gone.
    pub(crate) fn forget(&self, key: &RuleKey, uid: &str) {
        let mut rules = self.lock();
        if rules.get(key).is_some_and(|progress| progress.uid == uid) {
            rules.remove(key);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use portcullis_crds::condition::ConditionType;

    use super::*;

    pub(crate) fn published() -> Published {
        let rule = crate::board::tests::rule("a");
        let resolved = ResolvedModule {
            reference: rule.module.reference.clone(),
            manifest_digest: rule.module.manifest_digest.clone(),
            module_digest: rule.module.digest.to_string(),
            signer: None,
            abi: 1,
            size: 6,
            resolved_at: Time(Timestamp::UNIX_EPOCH),
        };
        Published { rule, resolved }
    }

    fn halted(retry: Retry, reason: Reason) -> Outcome {
        Outcome::Halted(Halt::new(ConditionType::Resolved, reason, "why".into(), retry))
    }

    struct World {
        rules: Rules,
        key: RuleKey,
        now: Instant,
    }

    impl World {
        fn with(outcome: Outcome, poll: Option<Duration>) -> Self {
            let world =
                Self { rules: Rules::default(), key: RuleKey::namespaced("shop", "a"), now: Instant::now() };
            world.rules.record(
                &world.key,
                "u1",
                1,
                outcome,
                Polling { asked: false, every: poll },
                world.now,
            );
            world
        }

        fn work(&self, generation: i64, on_the_bus: Option<bool>, after: Duration) -> Work {
            self.rules.work(&self.key, "u1", generation, |_| on_the_bus, self.now + after)
        }
    }

    const LONG: Duration = Duration::from_secs(86_400);
    const ADVANCE: Work = Work::Advance { poll: false };
    const NEVER: Polling = Polling { asked: false, every: None };

    #[test]
    fn a_due_poll_does_not_hide_that_the_bus_lacks_the_rule() {
        let every = Duration::from_secs(300);
        let world = World::with(Outcome::Published(Box::new(published())), Some(every));
        assert_eq!(world.work(1, Some(false), every), ADVANCE, "it is published before the tag is asked for");
        let polling = Polling { asked: false, every: Some(every) };
        let now = world.now + every;
        world.rules.record(&world.key, "u1", 1, Outcome::Published(Box::new(published())), polling, now);
        assert_eq!(world.work(1, Some(true), every), Work::Advance { poll: true }, "and then it is");
    }

    #[test]
    fn a_new_generation_starts_over() {
        let world = World::with(Outcome::Published(Box::new(published())), None);
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
            world.rules.record(&world.key, "u1", 1, outcome, NEVER, world.now);
        }
        assert_eq!(world.work(1, None, Duration::from_secs(3)), Work::Nothing);
        assert_eq!(world.work(1, None, Duration::from_secs(8)), ADVANCE);
    }

    #[test]
    fn what_the_bus_lost_is_published_again() {
        let world = World::with(Outcome::Published(Box::new(published())), None);
        assert_eq!(world.work(1, Some(false), Duration::ZERO), ADVANCE);
        assert_eq!(world.work(1, None, LONG), Work::Nothing, "what the bus has is not known");
    }

    #[test]
    fn what_waited_for_the_bus_goes_on_when_it_is_back() {
        let world = World::with(halted(Retry::Soon, Reason::BusUnavailable), None);
        assert_eq!(world.work(1, None, Duration::ZERO), Work::Nothing);
        world.rules.bus_is_back(world.now);
        assert_eq!(world.work(1, None, Duration::ZERO), ADVANCE);
    }

    #[test]
    fn a_tag_is_asked_for_again_only_when_it_is_polled() {
        let world = World::with(Outcome::Published(Box::new(published())), None);
        assert_eq!(world.work(1, Some(true), LONG), Work::Nothing);
        let every = Duration::from_secs(300);
        let polled = World::with(Outcome::Published(Box::new(published())), Some(every));
        assert_eq!(polled.work(1, Some(true), Duration::from_secs(149)), Work::Nothing);
        assert_eq!(polled.work(1, Some(true), every), Work::Advance { poll: true });
        polled.rules.polled(&polled.key, Some("down".into()), Some(every), polled.now + every);
        assert_eq!(polled.work(1, Some(true), every), Work::Nothing);
        assert!(polled.rules.get(&polled.key, "u1", 1).unwrap().poll_failure.is_some());
    }

    #[test]
    fn a_module_that_nodes_miss_is_put_back_at_most_once_a_minute() {
        let world = World::with(Outcome::Published(Box::new(published())), None);
        assert!(world.rules.miss_module(&world.key, world.now));
        assert_eq!(world.work(1, Some(true), Duration::ZERO), ADVANCE);
        world.rules.record(&world.key, "u1", 1, Outcome::Published(Box::new(published())), NEVER, world.now);
        assert_eq!(world.work(1, Some(true), Duration::ZERO), Work::Nothing);
        assert!(!world.rules.miss_module(&world.key, world.now));
        assert!(world.rules.miss_module(&world.key, world.now + REPUBLISH));
    }
}
