//! A bounded pool of threads for work that takes too long for a thread that serves requests. When its queue is full,
//! requests are shed: nobody waits behind more than can be done soon.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::metrics::RequestMetrics;

/// Jobs that wait for each thread at most. With the longest deadline of a WasmRule, 10 ms, the last of them waits for
/// 160 ms.
const PLACES: usize = 16;

type Job<C> = Box<dyn FnOnce(&mut C) + Send>;

/// Where jobs are put. Each thread has a `C` of its own, which its jobs share. Clones share the queue.
pub(crate) struct ThreadPool<C> {
    queue: Sender<Job<C>>,
    room: Arc<AtomicUsize>,
}

/// A place in the queue.
pub(crate) struct Place<'a, C> {
    pool: &'a ThreadPool<C>,
    is_taken: bool,
}

impl<C: Default + 'static> ThreadPool<C> {
    /// Starts the threads; they end when the last clone is gone.
    pub(crate) fn start(threads: usize, metrics: &RequestMetrics) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (queue, jobs) = channel();
        let (jobs, room) = (Arc::new(Mutex::new(jobs)), Arc::new(AtomicUsize::new(threads * PLACES)));
        let threads = (0..threads).map(|index| {
            let (jobs, room, metrics) = (Arc::clone(&jobs), Arc::clone(&room), metrics.clone());
            let name = format!("rules-{index}");
            std::thread::Builder::new().name(name).spawn(move || work::<C>(&jobs, &room, &metrics))
        });
        let threads = threads.collect::<io::Result<_>>()?;
        Ok((Self { queue, room }, threads))
    }

    /// A pool that has no room for anything.
    #[cfg(test)]
    pub(crate) fn without_threads() -> Self {
        Self { queue: channel().0, room: Arc::default() }
    }

    /// A place for a job, if there is one.
    pub(crate) fn reserve(&self) -> Option<Place<'_, C>> {
        let taken = self.room.fetch_update(Relaxed, Relaxed, |room| room.checked_sub(1)).is_ok();
        // Not `then_some`: a place that is made and dropped gives back what nobody took.
        taken.then(|| Place { pool: self, is_taken: false })
    }
}

impl<C> Place<'_, C> {
    /// Has a job done. Of one that panics nothing is heard again.
    pub(crate) fn take(mut self, job: impl FnOnce(&mut C) + Send + 'static) {
        // Without threads nobody takes it out, and its place is not given back.
        self.is_taken = self.pool.queue.send(Box::new(job)).is_ok();
    }
}

impl<C> Drop for Place<'_, C> {
    fn drop(&mut self) {
        if !self.is_taken {
            self.pool.room.fetch_add(1, Relaxed);
        }
    }
}

impl<C> Clone for ThreadPool<C> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), room: Arc::clone(&self.room) }
    }
}

impl<C> fmt::Debug for ThreadPool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool").field("room", &self.room).finish_non_exhaustive()
    }
}

fn work<C: Default>(jobs: &Mutex<Receiver<Job<C>>>, room: &AtomicUsize, metrics: &RequestMetrics) {
    let mut context = C::default();
    loop {
        // The lock is held while waiting: whoever has it takes the next job.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        room.fetch_add(1, Relaxed);
        if catch_unwind(AssertUnwindSafe(|| job(&mut context))).is_err() {
            metrics.panicked();
            context = C::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_full_queue_has_no_place_and_a_job_that_panics_ends_no_thread() {
        let metrics = RequestMetrics::register(&mut Registry::default());
        let (pool, threads) = ThreadPool::<usize>::start(1, &metrics).unwrap();
        let (go, wait) = sync_channel::<()>(0);
        pool.reserve().unwrap().take(move |_| wait.recv().unwrap());
        let mut places: Vec<_> = std::iter::from_fn(|| pool.reserve()).collect();
        assert!(pool.reserve().is_none());
        // The first job is under way, or waits itself.
        assert!((PLACES - 1..=PLACES).contains(&places.len()));
        places.pop().unwrap().take(|_| panic!("a job that panics"));
        let (done, results) = sync_channel(1);
        places.pop().unwrap().take(move |count| {
            *count += 1;
            done.send(*count).unwrap();
        });
        go.send(()).unwrap();
        assert_eq!(results.recv(), Ok(1));
        drop(places);
        drop(pool);
        assert!(threads.into_iter().all(|thread| thread.join().is_ok()));
    }
}
