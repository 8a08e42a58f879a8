//! The instance pool: instances between two evaluations, restored and ready for the next one.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::instance::Instance;

/// Bytes of touched memory that the instances of one free list hold together.
const FREE_LIST_BYTES: usize = 8 << 20;

/// Which module an instance is of: unique in an engine.
pub(crate) type ModuleId = u64;

/// The idle instances of an engine. A thread finds those on its free list that it left there, warm in its caches, and
/// rarely meets another thread.
pub(crate) struct InstancePool {
    free_lists: Box<[Mutex<FreeList>]>,
    /// Instances of one free list.
    capacity: usize,
}

/// In order of their last use, the one that has waited longest first.
#[derive(Default)]
struct FreeList {
    instances: Vec<Waiting>,
    bytes: usize,
    restored: u64,
    made: u64,
}

/// What became of the evaluations of an engine so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InstanceCounts {
    /// Instances that wait now, as new.
    pub idle: usize,
    /// Evaluations in an instance that was restored.
    pub restored: u64,
    /// Evaluations for which an instance was made.
    pub made: u64,
}

struct Waiting {
    module: ModuleId,
    bytes: usize,
    instance: Box<Instance>,
}

impl InstancePool {
    /// As many free lists as there are threads that evaluate, `capacity` instances on each.
    pub(crate) fn new(workers: usize, capacity: usize) -> Self {
        Self { free_lists: (0..workers).map(|_| Mutex::default()).collect(), capacity }
    }

    /// Whether any instance is kept at all.
    pub(crate) fn keeps(&self) -> bool {
        self.capacity > 0
    }

    /// An instance of the module that `fits`.
    pub(crate) fn take(&self, module: ModuleId, fits: impl Fn(&Instance) -> bool) -> Option<Box<Instance>> {
        let mut free_list = self.free_list();
        let place = free_list
            .instances
            .iter()
            .position(|waiting| waiting.module == module && fits(&waiting.instance))?;
        free_list.restored += 1;
        let Waiting { bytes, instance, .. } = free_list.instances.remove(place);
        free_list.bytes -= bytes;
        Some(instance)
    }

    /// Counts an instance that is made because none waits.
    pub(crate) fn count_made(&self) {
        self.free_list().made += 1;
    }

    /// Leaves an instance that is as new and holds `bytes` of memory. Others that have waited longer make room.
    pub(crate) fn put(&self, module: ModuleId, instance: Box<Instance>, bytes: usize) {
        if bytes > FREE_LIST_BYTES || self.capacity == 0 {
            return;
        }
        let mut free_list = self.free_list();
        let mut room = 0;
        let mut freed = 0;
        while free_list.instances.len() - room >= self.capacity
            || free_list.bytes - freed + bytes > FREE_LIST_BYTES
        {
            freed += free_list.instances[room].bytes;
            room += 1;
        }
        free_list.bytes = free_list.bytes - freed + bytes;
        let gone: Vec<Waiting> = free_list.instances.drain(..room).collect();
        free_list.instances.push(Waiting { module, bytes, instance });
        // The end of an instance is a system call or two, which nobody has to wait for.
        drop(free_list);
        drop(gone);
    }

    /// Lets go of a module's instances.
    pub(crate) fn forget(&self, module: ModuleId) {
        for free_list in &self.free_lists {
            let mut free_list = lock(free_list);
            let gone: Vec<Waiting> =
                free_list.instances.extract_if(.., |waiting| waiting.module == module).collect();
            free_list.bytes -= gone.iter().map(|waiting| waiting.bytes).sum::<usize>();
            drop(free_list);
            drop(gone);
        }
    }

    /// What became of the evaluations so far.
    pub(crate) fn counts(&self) -> InstanceCounts {
        self.free_lists.iter().fold(InstanceCounts::default(), |counts, free_list| {
            let free_list = lock(free_list);
            InstanceCounts {
                idle: counts.idle + free_list.instances.len(),
                restored: counts.restored + free_list.restored,
                made: counts.made + free_list.made,
            }
        })
    }

    fn free_list(&self) -> MutexGuard<'_, FreeList> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static THREAD: Cell<Option<usize>> = const { Cell::new(None) };
        }
        let thread = THREAD.get().unwrap_or_else(|| {
            let number = THREADS.fetch_add(1, Ordering::Relaxed);
            THREAD.set(Some(number));
            number
        });
        lock(&self.free_lists[thread % self.free_lists.len()])
    }
}

/// A thread that panicked left the free list as it was before or after one instance.
fn lock(free_list: &Mutex<FreeList>) -> MutexGuard<'_, FreeList> {
    free_list.lock().unwrap_or_else(PoisonError::into_inner)
}
