//! Which pages of a memory have been touched, as the kernel tells in `/proc/self/pagemap` (admin-guide/mm/pagemap).
//!
//! One read of eight bytes a page, on every kernel and without a privilege. `PAGEMAP_SCAN` tells the same, costs the
//! same, and came with Linux 6.7.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::LazyLock;

use rustix::mm::Advice;

/// Pages that one look covers.
pub(crate) const MOST_PAGES: usize = 512;

/// Touched bytes that are written again one by one. Beyond, giving them back to the kernel is as cheap.
pub(crate) const MOST_TOUCHED: usize = 256 << 10;

/// The page is in memory, or it is swapped out or on its way to another place. A page that was only read counts too:
/// it maps the page of zeros.
const TOUCHED: u64 = 0b11 << 62;

const ENTRY: usize = size_of::<u64>();

/// The kernel's view of this process's memory.
#[derive(Debug)]
pub(crate) struct PageMap {
    file: File,
    page: usize,
}

/// The touched pages of a memory.
pub(crate) struct Touched {
    pages: [u64; MOST_PAGES / 64],
    count: usize,
    page: usize,
}

impl PageMap {
    /// The one of this process, not of a child that it forks. `None` where the kernel does not tell, or not the truth.
    pub(crate) fn get() -> Option<&'static Self> {
        static MAP: LazyLock<Option<PageMap>> = LazyLock::new(PageMap::open);
        MAP.as_ref()
    }

    fn open() -> Option<Self> {
        let file = File::open("/proc/self/pagemap").ok()?;
        let map = Self { file, page: rustix::param::page_size() };
        map.is_true().then_some(map)
    }

    /// The pages of `memory`, which begins and ends with a page, that have been touched since it was mapped.
    ///
    /// # Errors
    /// The kernel tells less than was asked for.
    pub(crate) fn touched(&self, memory: &[u8]) -> io::Result<Touched> {
        let pages = memory.len() / self.page;
        let start = memory.as_ptr().addr();
        if pages > MOST_PAGES || pages * self.page != memory.len() || !start.is_multiple_of(self.page) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut buffer = [MaybeUninit::<u8>::uninit(); MOST_PAGES * ENTRY];
        let from = (start / self.page * ENTRY) as u64;
        let (entries, _) = rustix::io::pread(&self.file, &mut buffer[..pages * ENTRY], from)?;
        if entries.len() != pages * ENTRY {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut touched = Touched { pages: [0; MOST_PAGES / 64], count: 0, page: self.page };
        let (entries, _) = entries.as_chunks::<ENTRY>();
        for (page, entry) in entries.iter().enumerate() {
            let is_touched = u64::from_ne_bytes(*entry) & TOUCHED != 0;
            touched.pages[page / 64] |= u64::from(is_touched) << (page % 64);
            touched.count += usize::from(is_touched);
        }
        Ok(touched)
    }

    /// Makes all of a memory zero, at the cost of what was touched.
    ///
    /// # Safety
    /// `memory` is whole pages that are anonymous and this process's own.
    pub(crate) unsafe fn clear(&self, memory: &mut [u8]) {
        if let Ok(touched) = self.touched(memory)
            && touched.bytes() <= MOST_TOUCHED
        {
            touched.ranges().for_each(|range| memory[range].fill(0));
            return;
        }
        // SAFETY: nobody else has a reference to the pages, and since they are anonymous they read as zeros once they
        // are given back, which are as good bytes as any.
        let given_back =
            unsafe { rustix::mm::madvise(memory.as_mut_ptr().cast(), memory.len(), Advice::LinuxDontNeed) };
        if given_back.is_err() {
            memory.fill(0);
        }
    }

    /// Whether a page that was written is one that was touched: systems that only look like Linux may not know.
    fn is_true(&self) -> bool {
        let mut pages = vec![0_u8; self.page * 3];
        let first = pages.as_ptr().align_offset(self.page);
        let two = &mut pages[first..first + 2 * self.page];
        std::hint::black_box(&mut *two)[self.page] = 1;
        self.touched(two).is_ok_and(|touched| touched.pages[0] & 0b10 != 0)
    }
}

impl Touched {
    /// Bytes of them all.
    pub(crate) fn bytes(&self) -> usize {
        self.count * self.page
    }

    /// Touched bytes in order, neighbours together.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let is_touched = |page: usize| self.pages[page / 64] >> (page % 64) & 1 == 1;
        let mut next = 0;
        std::iter::from_fn(move || {
            let start = (next..MOST_PAGES).find(|page| is_touched(*page))?;
            let end = (start..MOST_PAGES).find(|page| !is_touched(*page)).unwrap_or(MOST_PAGES);
            next = end;
            Some(start * self.page..end * self.page)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory of whole pages that nobody has touched.
    struct Fresh {
        all: Vec<u8>,
        start: usize,
        length: usize,
    }

    impl Fresh {
        fn pages(map: &PageMap, pages: usize) -> Self {
            // More than an allocator keeps for itself, so it comes from the kernel.
            let all = vec![0; (pages + 1) * map.page + (64 << 20)];
            let start = all.as_ptr().align_offset(map.page);
            Self { start, length: pages * map.page, all }
        }

        fn bytes(&mut self) -> &mut [u8] {
            &mut self.all[self.start..][..self.length]
        }
    }

    #[test]
    fn what_was_written_is_touched_and_the_rest_is_not() {
        let map = PageMap::get().expect("Linux tells");
        let page = map.page;
        let mut memory = Fresh::pages(map, 130);
        assert_eq!(map.touched(memory.bytes()).unwrap().ranges().count(), 0);
        for written in [0, 1, 5, 63, 64, 129] {
            memory.bytes()[written * page + 17] = 1;
        }
        let touched = map.touched(memory.bytes()).unwrap();
        let ranges: Vec<_> = touched.ranges().map(|range| range.start / page..range.end / page).collect();
        assert_eq!(ranges, [0..2, 5..6, 63..65, 129..130]);
        assert_eq!(touched.bytes(), 6 * page);
    }

    #[test]
    fn the_last_page_of_the_largest_memory_is_seen() {
        let map = PageMap::get().expect("Linux tells");
        let mut memory = Fresh::pages(map, MOST_PAGES);
        *memory.bytes().last_mut().unwrap() = 1;
        let touched = map.touched(memory.bytes()).unwrap();
        let mut ranges = touched.ranges();
        assert_eq!(ranges.next(), Some((MOST_PAGES - 1) * map.page..MOST_PAGES * map.page));
        assert_eq!(ranges.next(), None);
    }

    #[test]
    fn what_is_no_memory_of_whole_pages_is_refused() {
        let map = PageMap::get().expect("Linux tells");
        let page = map.page;
        let mut memory = Fresh::pages(map, MOST_PAGES + 1);
        let bytes = memory.bytes();
        assert!(map.touched(bytes).is_err());
        assert!(map.touched(&bytes[1..=page]).is_err());
        assert!(map.touched(&bytes[..page - 1]).is_err());
    }

    #[test]
    fn a_memory_is_cleared_whatever_it_holds() {
        let map = PageMap::get().expect("Linux tells");
        let page = map.page;
        for (pages, written) in [(4, 1), (MOST_PAGES, 3), (MOST_PAGES, MOST_PAGES), (MOST_PAGES + 16, 1)] {
            let mut memory = Fresh::pages(map, pages);
            memory.bytes()[..written * page].fill(1);
            *memory.bytes().last_mut().unwrap() = 1;
            // SAFETY: the allocator has such a large memory from the kernel, which gave it anonymous pages.
            unsafe { map.clear(memory.bytes()) };
            assert!(memory.bytes().iter().all(|byte| *byte == 0), "{pages} pages, {written} written");
        }
    }

    /// Shows something on a machine with swap only; elsewhere the page stays where it is.
    #[test]
    fn what_was_swapped_out_was_touched() {
        let map = PageMap::get().expect("Linux tells");
        let mut memory = Fresh::pages(map, 2);
        let bytes = memory.bytes();
        bytes[0] = 1;
        // SAFETY: what is swapped out comes back when it is looked at.
        unsafe { rustix::mm::madvise(bytes.as_mut_ptr().cast(), bytes.len(), Advice::LinuxPageOut) }.unwrap();
        let touched = map.touched(bytes).unwrap();
        assert_eq!((touched.bytes(), touched.ranges().next()), (map.page, Some(0..map.page)));
    }
}
