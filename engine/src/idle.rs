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
        let Waiting { bytes, instance, .. } = shelf.instances.remove(place);
        shelf.bytes -= bytes;
        Some(instance)
    }

    /// Leaves an instance that is as new and holds `bytes` of memory. Others that have waited longer make room.
    pub(crate) fn put(&self, module: ModuleId, instance: Box<Instance>, bytes: usize) {
        let mut shelf = self.shelf();
        while shelf.instances.len() >= self.capacity || shelf.bytes + bytes > SHELF_BYTES {
            if shelf.instances.is_empty() {
                return;
            }
            let oldest = shelf.instances.remove(0);
            shelf.bytes -= oldest.bytes;
        }
        shelf.bytes += bytes;
        shelf.instances.push(Waiting { module, bytes, instance });
    }

    /// Lets go of a module's instances.
    pub(crate) fn forget(&self, module: ModuleId) {
        for shelf in &self.shelves {
            let mut shelf = lock(shelf);
            let shelf = &mut *shelf;
            let bytes = &mut shelf.bytes;
            shelf.instances.retain(|waiting| {
                let stays = waiting.module != module;
                if !stays {
                    *bytes -= waiting.bytes;
                }
                stays
            });
        }
    }

    /// Instances on all shelves.
    pub(crate) fn count(&self) -> usize {
        self.shelves.iter().map(|shelf| lock(shelf).instances.len()).sum()
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
