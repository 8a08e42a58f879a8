//! Instances between two evaluations: as new, and ready for the next one.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::instance::Instance;

/// Bytes of touched memory that the instances of one shelf hold together.
const SHELF_BYTES: usize = 8 << 20;

/// Which module an instance is of: unique in an engine.
pub(crate) type ModuleId = u64;

/// The idle instances of an engine. A thread finds those on its shelf that it left there, warm in its caches, and
/// rarely meets another thread.
pub(crate) struct Idle {
    shelves: Box<[Mutex<Shelf>]>,
    /// Instances of one shelf.
    capacity: usize,
}

/// In order of their last use, the one that has waited longest first.
#[derive(Default)]
struct Shelf {
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

impl Idle {
    /// As many shelves as there are threads that evaluate, `capacity` instances on each.
    pub(crate) fn new(workers: usize, capacity: usize) -> Self {
        Self { shelves: (0..workers).map(|_| Mutex::default()).collect(), capacity }
    }

    /// Whether any instance is kept at all.
    pub(crate) fn keeps(&self) -> bool {
        self.capacity > 0
    }

    /// An instance of the module that `fits`.
    pub(crate) fn take(&self, module: ModuleId, fits: impl Fn(&Instance) -> bool) -> Option<Box<Instance>> {
        let mut shelf = self.shelf();
        let place =
            shelf.instances.iter().position(|waiting| waiting.module == module && fits(&waiting.instance))?;
        shelf.restored += 1;
        let Waiting { bytes, instance, .. } = shelf.instances.remove(place);
        shelf.bytes -= bytes;
        Some(instance)
    }

    /// Counts an instance that is made because none waits.
    pub(crate) fn count_made(&self) {
        self.shelf().made += 1;
    }

    /// Leaves an instance that is as new and holds `bytes` of memory. Others that have waited longer make room.
    pub(crate) fn put(&self, module: ModuleId, instance: Box<Instance>, bytes: usize) {
        if bytes > SHELF_BYTES || self.capacity == 0 {
            return;
        }
        let mut shelf = self.shelf();
        let mut room = 0;
        let mut freed = 0;
        while shelf.instances.len() - room >= self.capacity || shelf.bytes - freed + bytes > SHELF_BYTES {
            freed += shelf.instances[room].bytes;
            room += 1;
        }
        shelf.bytes = shelf.bytes - freed + bytes;
        let gone: Vec<Waiting> = shelf.instances.drain(..room).collect();
        shelf.instances.push(Waiting { module, bytes, instance });
        // The end of an instance is a system call or two, which nobody has to wait for.
        drop(shelf);
        drop(gone);
    }

    /// Lets go of a module's instances.
    pub(crate) fn forget(&self, module: ModuleId) {
        for shelf in &self.shelves {
            let mut shelf = lock(shelf);
            let gone: Vec<Waiting> =
                shelf.instances.extract_if(.., |waiting| waiting.module == module).collect();
            shelf.bytes -= gone.iter().map(|waiting| waiting.bytes).sum::<usize>();
            drop(shelf);
            drop(gone);
        }
    }

    /// What became of the evaluations so far.
    pub(crate) fn counts(&self) -> InstanceCounts {
        self.shelves.iter().fold(InstanceCounts::default(), |counts, shelf| {
            let shelf = lock(shelf);
            InstanceCounts {
                idle: counts.idle + shelf.instances.len(),
                restored: counts.restored + shelf.restored,
                made: counts.made + shelf.made,
            }
        })
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static THREAD: Cell<Option<usize>> = const { Cell::new(None) };
        }
        let thread = THREAD.get().unwrap_or_else(|| {
            let number = THREADS.fetch_add(1, Ordering::Relaxed);
            THREAD.set(Some(number));
            number
        });
        lock(&self.shelves[thread % self.shelves.len()])
    }
}

/// A thread that panicked left the shelf as it was before or after one instance.
fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}
