//! What the heap holds, in figures, read without stopping anybody.
//!
//! Some are counted, on slow paths only; the others are found by a [walk](crate::walk). Each is
//! exact once the threads are quiet; a reader in the middle of things may see one figure before and
//! another after the same step.

use core::{fmt, ptr};

use crate::class::{CLASSES, Class};
use crate::segment::{SEGMENT, SLICE};
use crate::walk::{self, Page, Run};
use crate::{arena, counters, heap, os, pool, spare};

/// What the heap holds at one moment; see [`CoreAlloc::stats`](crate::CoreAlloc::stats).
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Address space mapped for segments, huge blocks, freed or live, and metadata. Much of it may be untouched.
    pub mapped_bytes: usize,
    /// The part of `mapped_bytes` that is metadata: page and segment records, thread heaps.
    pub metadata_bytes: usize,
    /// Segments, the aligned regions of 4 MiB that hold pages and large blocks.
    pub segments: usize,
    /// Bytes of the segments' slices that were used since they were last purged: the most that
    /// segments hold of the OS's memory. [`CoreAlloc::resident_bytes`] asks the OS.
    ///
    /// [`CoreAlloc::resident_bytes`]: crate::CoreAlloc::resident_bytes
    pub touched_bytes: usize,
    /// Pages: runs of memory cut into blocks of one size class.
    pub pages: usize,
    /// Bytes of those pages, free blocks included.
    pub page_bytes: usize,
    /// What the pages of each size class hold, smallest class first.
    pub classes: [ClassStats; CLASSES],
    /// Live blocks that are runs of slices in a segment.
    pub large_blocks: usize,
    /// Usable bytes of those blocks.
    pub large_bytes: usize,
    /// Bytes that the program asked of those blocks.
    pub large_requested_bytes: usize,
    /// Live blocks that are mappings of their own.
    pub huge_blocks: usize,
    /// Usable bytes of those blocks.
    pub huge_bytes: usize,
    /// Bytes that the program asked of those blocks.
    pub huge_requested_bytes: usize,
    /// Thread heaps, in use or waiting for the next thread.
    pub heaps: usize,
    /// Bytes given back to the OS by purging, since the process began.
    pub purged_bytes: usize,
}

/// What the pages of one size class hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassStats {
    /// Usable bytes of a block. Requests that are larger than the class before has, and no larger
    /// than this, are served from this class; what each of them asked for exactly is not kept.
    pub block_bytes: usize,
    /// Pages.
    pub pages: usize,
    /// Blocks in them.
    pub capacity: usize,
    /// Blocks that the program has.
    pub live: usize,
    /// Blocks that threads keep, to hand them out next.
    pub cached: usize,
    /// Blocks that are free in their pages.
    pub free: usize,
    /// Pages by how full they are: those of which at most a quarter of the blocks is taken, empty ones
    /// among them, then those of which more than that and at most a half is, and so on. Cached blocks
    /// are taken. Few blocks in the first of them can keep much memory.
    pub pages_by_fill: [usize; 4],
}

impl ClassStats {
    const NONE: Self = Self {
        block_bytes: 0,
        pages: 0,
        capacity: 0,
        live: 0,
        cached: 0,
        free: 0,
        pages_by_fill: [0; 4],
    };

    /// Counts a page.
    fn add_page(&mut self, page: &Page) {
        self.pages += 1;
        self.capacity += page.capacity;
        self.free += page.free;
        let taken = page.capacity.saturating_sub(page.free);
        let quarter = (4 * taken).saturating_sub(1) / page.capacity.max(1);
        if let Some(pages) = self.pages_by_fill.get_mut(quarter) {
            *pages += 1;
        }
    }
}

/// All figures, but of the size classes only those that have pages.
impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct InUse<'a>(&'a [ClassStats]);

        impl fmt::Debug for InUse<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.0.iter().filter(|class| class.pages != 0)).finish()
            }
        }

        f.debug_struct("Stats")
            .field("mapped_bytes", &self.mapped_bytes)
            .field("metadata_bytes", &self.metadata_bytes)
            .field("segments", &self.segments)
            .field("touched_bytes", &self.touched_bytes)
            .field("pages", &self.pages)
            .field("page_bytes", &self.page_bytes)
            .field("large_blocks", &self.large_blocks)
            .field("large_bytes", &self.large_bytes)
            .field("large_requested_bytes", &self.large_requested_bytes)
            .field("huge_blocks", &self.huge_blocks)
            .field("huge_bytes", &self.huge_bytes)
            .field("huge_requested_bytes", &self.huge_requested_bytes)
            .field("heaps", &self.heaps)
            .field("purged_bytes", &self.purged_bytes)
            .field("classes", &InUse(&self.classes))
            .finish()
    }
}

impl Stats {
    /// Live blocks, of all sizes.
    #[must_use]
    pub fn live_blocks(&self) -> usize {
        let small: usize = self.classes.iter().map(|class| class.live).sum();
        small + self.large_blocks + self.huge_blocks
    }

    /// Usable bytes of all live blocks.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.sum_bytes(|class| class.live) + self.large_bytes + self.huge_bytes
    }

    /// Bytes that threads keep as cached blocks.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.sum_bytes(|class| class.cached)
    }

    fn sum_bytes(&self, blocks: impl Fn(&ClassStats) -> usize) -> usize {
        self.classes.iter().map(|class| class.block_bytes * blocks(class)).sum()
    }
}

/// Reads the counters, and walks the heap for what is not counted.
pub(crate) fn read() -> Stats {
    let metadata_bytes = counters::METADATA_BYTES.get();
    let segments = counters::SEGMENTS.get();
    let huge_bytes = counters::HUGE_BYTES.get();
    let mut stats = Stats {
        mapped_bytes: metadata_bytes + segments * SEGMENT + huge_bytes + spare::bytes(),
        metadata_bytes,
        segments,
        touched_bytes: 0,
        pages: 0,
        page_bytes: counters::PAGE_SLICES.get() * SLICE,
        classes: [ClassStats::NONE; CLASSES],
        large_blocks: 0,
        large_bytes: 0,
        large_requested_bytes: 0,
        huge_blocks: counters::HUGE_BLOCKS.get(),
        huge_bytes,
        huge_requested_bytes: 0,
        heaps: counters::HEAPS.get(),
        purged_bytes: counters::PURGED_BYTES.get(),
    };
    for segment in walk::segments() {
        stats.touched_bytes += segment.touched.count_ones() as usize * SLICE;
        for run in segment.runs() {
            stats.add_run(&run);
        }
    }
    stats.huge_requested_bytes = walk::huge_blocks().map(|block| block.requested_bytes).sum();
    for (class, of_class) in Class::all().zip(&mut stats.classes) {
        of_class.block_bytes = class.size();
        let taken = of_class.capacity - of_class.free;
        let cached: usize = pool::all().map(|heap| heap.cached(class)).sum();
        // A cache that changes while it is read may seem to hold anything.
        of_class.cached = cached.min(taken);
        of_class.live = taken - of_class.cached;
    }
    stats
}

impl Stats {
    fn add_run(&mut self, run: &Run) {
        match run {
            Run::Page(page) => {
                self.pages += 1;
                let Some(class) = self.classes.get_mut(page.class) else { return };
                class.add_page(page);
            }
            Run::Large(block) => {
                self.large_blocks += 1;
                self.large_bytes += block.bytes;
                self.large_requested_bytes += block.requested_bytes;
            }
        }
    }
}

/// Bytes of the OS's memory behind segments, huge blocks, mappings of such that are kept, and metadata, as the OS says.
pub(crate) fn resident_bytes() -> usize {
    let segments = walk::segments().map(|segment| (segment.address, SEGMENT));
    let huge = walk::huge_blocks().map(|block| (block.address, block.bytes));
    let arenas = arena::all().map(|arena| (ptr::from_ref(arena).addr(), size_of_val(arena)));
    let pages = arena::all().flat_map(arena::Arena::page_records_ranges);
    let heaps = pool::all().map(|heap| (ptr::from_ref(heap).addr(), heap::MAPPED_BYTES));
    let ranges =
        segments.chain(huge).chain(spare::ranges()).chain(arenas).chain(pages).chain(heaps);
    ranges.map(|(start, bytes)| os::resident_bytes(start, bytes)).sum()
}
