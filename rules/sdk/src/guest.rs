//! What the exports of [`rule!`](crate::rule) do. Not part of the API.

use core::{ptr, slice};

use crate::abi::{CARRY_BYTES, DETAIL_BYTES};
use crate::memory::{BASE, OneThread, reach, take, top};
use crate::{Configure, Inspect, Request, Verdict};

/// What a phase answers when it cannot read the view: an error for the host, not a verdict.
const MALFORMED: i32 = -1;

// === The buffer ===

/// Where the host writes, and how much room there is: none at first, at the bottom of the free memory.
static BUFFER: OneThread<(*mut u8, usize)> = OneThread::new((BASE, 0));

/// Room for `len` bytes until the next call; null if there is none. A host that keeps an instance gets the same region
/// again, and a longer one only when it needs one.
#[inline]
#[must_use]
pub fn buffer(len: usize) -> *mut u8 {
    let (start, room) = BUFFER.0.get();
    if len <= room {
        return start;
    }
    // So it is in a fresh instance.
    let is_last = start.addr() + room == top();
    if is_last && start.addr().checked_add(len).is_some_and(reach) {
        BUFFER.0.set((start, len));
        return start;
    }
    moved_buffer(len, room)
}

/// A region that has to move may have to do so often, and leaves its place unused: twice as much is then enough for
/// ever longer views to waste no more than they need.
#[cold]
fn moved_buffer(len: usize, room: usize) -> *mut u8 {
    for len in [len.max(room.saturating_mul(2)), len] {
        let start = take(len, 16);
        if !start.is_null() {
            BUFFER.0.set((start, len));
            return start;
        }
    }
    ptr::null_mut()
}

// === Calls ===

/// One phase.
///
/// # Safety
/// `len` bytes at `start` are the host's view and stay as they are until this returns.
#[inline(always)]
pub unsafe fn phase(start: *const u8, len: usize, inspect: Inspect) -> i32 {
    // SAFETY: the caller's promise.
    let view = unsafe { slice::from_raw_parts(start, len) };
    let Ok(request) = Request::read(view) else { return MALFORMED };
    ARENA.used.0.set(0);
    answer(&inspect(&request))
}

/// Takes the configuration: 0 accepts it.
///
/// # Safety
/// As [`phase`].
#[inline(always)]
pub unsafe fn configure(start: *const u8, len: usize, configure: Configure) -> i32 {
    // SAFETY: the caller's promise.
    let json = unsafe { slice::from_raw_parts(start, len) };
    match configure(json) {
        Ok(()) => 0,
        Err(why) => {
            answer(&Verdict::block().message(why));
            1
        }
    }
}

/// Keeps what `pc_detail` and `pc_carry` are going to be asked for.
#[inline]
fn answer(verdict: &Verdict) -> i32 {
    ANSWER.detail.0.set(packed(verdict.detail()));
    ANSWER.carry.0.set(packed(verdict.carried()));
    verdict.action() as i32
}

/// What was said last, `pointer << 32 | length`.
struct Answer {
    detail: OneThread<u64>,
    carry: OneThread<u64>,
}

static ANSWER: Answer = Answer { detail: OneThread::new(0), carry: OneThread::new(0) };

#[must_use]
pub fn detail() -> u64 {
    ANSWER.detail.0.get()
}

#[must_use]
pub fn carry() -> u64 {
    ANSWER.carry.0.get()
}

fn packed(bytes: &[u8]) -> u64 {
    (bytes.as_ptr().expose_provenance() as u64) << 32 | bytes.len() as u64
}

// === What verdicts write ===

/// Memory for the bytes of verdicts: taken when the first of them writes, empty again for each evaluation.
struct Arena {
    start: OneThread<*mut u8>,
    used: OneThread<usize>,
}

/// Enough for the longest detail and the longest carry.
const ARENA_BYTES: usize = DETAIL_BYTES + CARRY_BYTES;

static ARENA: Arena = Arena { start: OneThread::new(ptr::null_mut()), used: OneThread::new(0) };

/// Bytes of a verdict: a range of the arena that only this value refers to.
#[derive(Debug)]
pub struct Bytes {
    offset: usize,
    length: usize,
}

impl Bytes {
    pub(crate) const EMPTY: Self = Self { offset: 0, length: 0 };

    /// Appends `pieces`, or none of them where the arena has no more room.
    pub(crate) fn push(&mut self, pieces: &[&[u8]]) {
        let Some(arena) = ARENA.start() else { return };
        let used = ARENA.used.0.get();
        // Another verdict may have written in between: then these bytes move behind its own.
        let begin = if self.offset + self.length == used { self.offset } else { used };
        let mut end = begin + self.length;
        if end + pieces.iter().map(|piece| piece.len()).sum::<usize>() > ARENA_BYTES {
            return;
        }
        // SAFETY: both ranges are inside the arena, as `offset + length <= used` and `end` is checked above. They are
        // the same or, as `begin` is then `used`, apart.
        unsafe { ptr::copy(arena.add(self.offset), arena.add(begin), self.length) };
        for piece in pieces {
            // SAFETY: inside the arena, checked above. Everything that refers to the arena refers to what is below
            // `used`, so the piece is not where it goes.
            unsafe { ptr::copy_nonoverlapping(piece.as_ptr(), arena.add(end), piece.len()) };
            end += piece.len();
        }
        *self = Self { offset: begin, length: end - begin };
        ARENA.used.0.set(end);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: `push` wrote these bytes; nobody writes there while `self` lives, and it is not lent out for longer.
        unsafe { slice::from_raw_parts(ARENA.start.0.get().add(self.offset), self.length) }
    }
}

impl Arena {
    fn start(&self) -> Option<*mut u8> {
        if self.start.0.get().is_null() {
            self.start.0.set(take(ARENA_BYTES, 4));
        }
        let start = self.start.0.get();
        (!start.is_null()).then_some(start)
    }
}

#[cfg(not(feature = "std"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
