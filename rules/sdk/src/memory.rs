//! The guest's memory behind the module's data: handed out in order.
//!
//! A fresh instance has the rest of its last page for nothing; `memory.grow` is a system call of the host on every
//! request, so it is asked for only beyond that.

use core::arch::wasm32::{memory_grow, memory_size};
use core::cell::Cell;
use core::ptr;

const PAGE: usize = 64 << 10;

/// A cell that a static may hold.
pub(crate) struct OneThread<T>(pub(crate) Cell<T>);

// SAFETY: a module without shared memory has one thread; `global.rs` refuses to be built for more.
unsafe impl<T> Sync for OneThread<T> {}

impl<T> OneThread<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Cell::new(value))
    }
}

unsafe extern "C" {
    /// The first address behind the module's data and stack, a multiple of 16. Only the address means something; the
    /// linker defines it.
    static mut __heap_base: u8;
}

/// Where the memory begins that is handed out.
pub(crate) const BASE: *mut u8 = &raw mut __heap_base;

/// The first address that is not in use.
static TOP: OneThread<*mut u8> = OneThread::new(BASE);

/// The first address that is not in use.
#[inline]
pub(crate) fn top() -> usize {
    TOP.0.get().addr()
}

/// Makes `end` the top, if the memory reaches that far or can be made to.
#[inline]
pub(crate) fn reach(end: usize) -> bool {
    let present = memory_size(0) * PAGE;
    if end > present && memory_grow(0, (end - present).div_ceil(PAGE)) == usize::MAX {
        return false;
    }
    TOP.0.set(BASE.with_addr(end));
    true
}

/// `len` bytes at a multiple of `align`, above all that is in use. Null if there is no room.
pub(crate) fn take(len: usize, align: usize) -> *mut u8 {
    let region = top().checked_next_multiple_of(align);
    match region.and_then(|start| Some((start, start.checked_add(len)?))) {
        Some((start, end)) if reach(end) => BASE.with_addr(start),
        _ => ptr::null_mut(),
    }
}

#[cfg(feature = "alloc")]
mod heap {
    //! The allocator of rules that want one. A rule lives for one request, so nothing is worth finding again: memory
    //! comes back when what was handed out last is returned, which is what most code does.

    use core::alloc::{GlobalAlloc, Layout};
    use core::ptr;

    use super::{BASE, TOP, reach, take, top};

    struct Heap;

    #[global_allocator]
    static HEAP: Heap = Heap;

    // SAFETY: regions are handed out above all that are in use, aligned, inside the memory, and below `top` after that;
    // `top` sinks only to the start of the highest region, when that one is returned. There is no second thread to
    // race with.
    unsafe impl GlobalAlloc for Heap {
        #[inline]
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            take(layout.size(), layout.align())
        }

        #[inline]
        unsafe fn dealloc(&self, region: *mut u8, layout: Layout) {
            if region.addr() + layout.size() == top() {
                TOP.0.set(BASE.with_addr(region.addr()));
            }
        }

        unsafe fn realloc(&self, region: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            if region.addr() + layout.size() == top() {
                let in_place = region.addr().checked_add(size).is_some_and(reach);
                return if in_place { region } else { ptr::null_mut() };
            }
            let moved = take(size, layout.align());
            if !moved.is_null() {
                // SAFETY: both are at least as long as the shorter of the two, and `moved` is above all that is in use.
                unsafe { ptr::copy_nonoverlapping(region, moved, size.min(layout.size())) };
            }
            moved
        }
    }
}
