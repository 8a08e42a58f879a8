//! A semaphore that hands out its permits in rotation between namespaces: whoever has five hundred rules keeps nobody
//! else waiting for more than what is under way.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct FairSemaphore(Arc<Mutex<Rotation<oneshot::Sender<Permit>>>>);

/// One turn at what is scarce; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    semaphore: FairSemaphore,
    namespace: String,
}

// === impl FairSemaphore ===

impl FairSemaphore {
    /// This many permits at once.
    pub(crate) fn new(permits: usize) -> Self {
        Self(Arc::new(Mutex::new(Rotation::new(permits))))
    }

    /// Waits for a permit of this namespace, which has at most `most` (and may always have one) at once. A wait that is
    /// dropped gives up its place.
    pub(crate) async fn acquire(&self, namespace: &str, most: usize) -> Permit {
        let (sender, receiver) = oneshot::channel();
        self.lock().wait(namespace, most, sender);
        self.hand_out();
        receiver.await.expect("only its waiter gives up a place in the rotation")
    }

    /// A permit that comes too late for its waiter is dropped with the channel, and so goes to the next one.
    fn hand_out(&self) {
        while let Some((namespace, waiter)) = self.next() {
            drop(waiter.send(Permit { semaphore: self.clone(), namespace }));
        }
    }

    fn next(&self) -> Option<(String, oneshot::Sender<Permit>)> {
        self.lock().next(oneshot::Sender::is_closed)
    }

    fn lock(&self) -> MutexGuard<'_, Rotation<oneshot::Sender<Permit>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.semaphore.lock().end(&self.namespace);
        self.semaphore.hand_out();
    }
}

/// Who is next. No I/O.
#[derive(Debug)]
struct Rotation<W> {
    free: usize,
    namespaces: HashMap<String, Namespace<W>>,
    /// Turns begun so far.
    begun: u64,
    /// Waiters so far.
    arrived: u64,
}

#[derive(Debug)]
struct Namespace<W> {
    /// With the order of their arrival.
    waiting: VecDeque<(u64, W)>,
    most: usize,
    held: usize,
    /// When it last began a turn, counted in turns; 0 if it is new.
    last: u64,
}

// === impl Rotation ===

impl<W> Rotation<W> {
    fn new(turns: usize) -> Self {
        Self { free: turns, namespaces: HashMap::new(), begun: 0, arrived: 0 }
    }

    fn wait(&mut self, namespace: &str, most: usize, waiter: W) {
        self.arrived += 1;
        let new = || Namespace { waiting: VecDeque::new(), most: 1, held: 0, last: 0 };
        let namespace = self.namespaces.entry(namespace.to_owned()).or_insert_with(new);
        namespace.most = most.max(1);
        namespace.waiting.push_back((self.arrived, waiter));
    }

    /// Begins a turn of the namespace that has gone longest without one, if there is a turn to begin.
    fn next(&mut self, is_gone: impl Fn(&W) -> bool) -> Option<(String, W)> {
        while self.free > 0 {
            let may_begin =
                self.namespaces.iter_mut().filter(|(_, namespace)| namespace.held < namespace.most);
            let longest_without = may_begin
                .filter_map(|(name, namespace)| {
                    let (arrived, _) = namespace.waiting.front()?;
                    Some(((namespace.last, *arrived), name, namespace))
                })
                .min_by_key(|(order, ..)| *order);
            let (_, name, namespace) = longest_without?;
            let (_, waiter) = namespace.waiting.pop_front()?;
            if is_gone(&waiter) {
                continue;
            }
            self.begun += 1;
            self.free -= 1;
            namespace.held += 1;
            namespace.last = self.begun;
            return Some((name.clone(), waiter));
        }
        None
    }

    fn end(&mut self, namespace: &str) {
        self.free += 1;
        if let Some(namespace) = self.namespaces.get_mut(namespace) {
            namespace.held -= 1;
        }
        // While nobody waits there is no order to keep, and no namespace to remember.
        if self.namespaces.values().all(|namespace| namespace.waiting.is_empty()) {
            self.namespaces.retain(|_, namespace| namespace.held > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::future::poll_fn;
    use std::pin::{Pin, pin};
    use std::task::Poll;

    use proptest::prelude::*;

    use super::*;

    type Waiting<'a> = Pin<Box<dyn Future<Output = Permit> + 'a>>;

    /// The turn, if it has come.
    async fn come(waiting: &mut (impl Future<Output = Permit> + Unpin)) -> Option<Permit> {
        let mut waiting = pin!(waiting);
        poll_fn(|cx| {
            Poll::Ready(match waiting.as_mut().poll(cx) {
                Poll::Ready(turn) => Some(turn),
                Poll::Pending => None,
            })
        })
        .await
    }

    #[tokio::test]
    async fn a_namespace_with_many_waiters_lets_another_one_go_next() {
        let turns = FairSemaphore::new(1);
        let running = turns.acquire("many", 1).await;
        let mut many: Vec<Waiting<'_>> = (0..500).map(|_| Box::pin(turns.acquire("many", 1)) as _).collect();
        for waiting in &mut many {
            assert!(come(waiting).await.is_none());
        }
        let mut one = Box::pin(turns.acquire("one", 1));
        assert!(come(&mut one).await.is_none());
        drop(running);
        let turn = come(&mut one).await.expect("after the turn that was under way");
        assert!(come(&mut many[0]).await.is_none());
        drop(turn);
        assert!(come(&mut many[0]).await.is_some());
    }

    #[tokio::test]
    async fn a_namespace_has_no_more_turns_than_its_share() {
        let turns = FairSemaphore::new(4);
        let held = [turns.acquire("a", 2).await, turns.acquire("a", 2).await];
        let mut third = Box::pin(turns.acquire("a", 2));
        assert!(come(&mut third).await.is_none(), "two turns are free, for others");
        let other = turns.acquire("b", 2).await;
        drop(held);
        assert!(come(&mut third).await.is_some());
        drop(other);
    }

    #[tokio::test]
    async fn a_wait_that_is_dropped_gives_up_its_place_before_and_after_its_turn_came() {
        let turns = FairSemaphore::new(1);
        let running = turns.acquire("a", 1).await;
        let mut before = Box::pin(turns.acquire("a", 1));
        let mut after = Box::pin(turns.acquire("a", 1));
        let mut last = Box::pin(turns.acquire("a", 1));
        for waiting in [&mut before, &mut after, &mut last] {
            assert!(come(waiting).await.is_none());
        }
        drop(before);
        drop(running);
        // It is the turn of `after` now, which never looks.
        assert!(come(&mut last).await.is_none());
        drop(after);
        assert!(come(&mut last).await.is_some());
        assert!(turns.lock().namespaces.is_empty(), "nobody is remembered when nobody waits");
        drop(last);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait(u8),
        Cancel(usize),
        End(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0_u8..5).prop_map(Step::Wait),
            1 => any::<usize>().prop_map(Step::Cancel),
            3 => any::<usize>().prop_map(Step::End),
        ]
    }

    /// The rotation, and what a namespace that may begin a turn has seen others begin since.
    struct World {
        rotation: Rotation<u64>,
        most: usize,
        running: Vec<String>,
        waiting: BTreeMap<u64, String>,
        overtaken_by: BTreeMap<String, Vec<String>>,
    }

    impl World {
        fn held(&self, namespace: &str) -> usize {
            self.running.iter().filter(|running| *running == namespace).count()
        }

        fn may_begin(&self) -> BTreeSet<String> {
            self.waiting.values().filter(|name| self.held(name) < self.most).cloned().collect()
        }

        fn settle(&mut self) -> Result<(), TestCaseError> {
            loop {
                let may_begin = self.may_begin();
                self.overtaken_by.retain(|name, _| may_begin.contains(name));
                let waiting = &self.waiting;
                let Some((name, waiter)) = self.rotation.next(|id| !waiting.contains_key(id)) else {
                    prop_assert!(may_begin.is_empty() || self.rotation.free == 0, "a turn is left over");
                    return Ok(());
                };
                prop_assert_eq!(self.waiting.remove(&waiter), Some(name.clone()));
                for other in may_begin.iter().filter(|other| **other != name) {
                    let by = self.overtaken_by.entry(other.clone()).or_default();
                    prop_assert!(!by.contains(&name), "{} went twice while {} waited", name, other);
                    by.push(name.clone());
                }
                self.overtaken_by.remove(&name);
                self.running.push(name.clone());
                prop_assert!(self.held(&name) <= self.most);
            }
        }
    }

    proptest! {
        #[test]
        fn nobody_goes_twice_while_another_one_waits_that_may_go(
            turns in 1_usize..4,
            most in 1_usize..3,
            steps in proptest::collection::vec(step(), 1..200),
        ) {
            let mut world = World {
                rotation: Rotation::new(turns),
                most,
                running: vec![],
                waiting: BTreeMap::new(),
                overtaken_by: BTreeMap::new(),
            };
            for (id, step) in (0_u64..).zip(steps) {
                match step {
                    Step::Wait(namespace) => {
                        let namespace = namespace.to_string();
                        world.rotation.wait(&namespace, most, id);
                        world.waiting.insert(id, namespace);
                    }
                    Step::Cancel(which) if !world.waiting.is_empty() => {
                        let id = *world.waiting.keys().nth(which % world.waiting.len()).unwrap();
                        world.waiting.remove(&id);
                    }
                    Step::End(which) if !world.running.is_empty() => {
                        let ended = world.running.swap_remove(which % world.running.len());
                        world.rotation.end(&ended);
                    }
                    Step::Cancel(_) | Step::End(_) => {}
                }
                world.settle()?;
                prop_assert!(world.running.len() <= turns);
            }
        }
    }
}
