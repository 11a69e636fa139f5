//! Counters of what the heap holds, read without stopping anybody.
//!
//! They are changed on slow paths only. Each is exact once the threads are quiet; a reader in the
//! middle of things may see one counter before and another after the same step.

use core::sync::atomic::{AtomicUsize, Ordering};

/// A number that many threads change. Orders nothing.
#[derive(Debug)]
pub(crate) struct Counter(AtomicUsize);

impl Counter {
    const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    pub(crate) fn add(&self, amount: usize) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, amount: usize) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) static METADATA_BYTES: Counter = Counter::new();
pub(crate) static SEGMENTS: Counter = Counter::new();
pub(crate) static PAGES: Counter = Counter::new();
pub(crate) static PAGE_SLICES: Counter = Counter::new();
pub(crate) static LARGE_BLOCKS: Counter = Counter::new();
pub(crate) static LARGE_SLICES: Counter = Counter::new();
pub(crate) static HUGE_BLOCKS: Counter = Counter::new();
pub(crate) static HUGE_BYTES: Counter = Counter::new();
pub(crate) static HEAPS: Counter = Counter::new();
pub(crate) static PURGED_BYTES: Counter = Counter::new();

/// What the heap holds at one moment; see [`CoreAlloc::stats`](crate::CoreAlloc::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Address space mapped for segments, huge blocks and metadata. Much of it may be untouched.
    pub mapped_bytes: usize,
    /// The part of `mapped_bytes` that is metadata: page and segment records, thread heaps.
    pub metadata_bytes: usize,
    /// Segments, the aligned regions of 4 MiB that hold pages and large blocks.
    pub segments: usize,
    /// Pages: runs of memory cut into blocks of one size class.
    pub pages: usize,
    /// Bytes of those pages, free blocks included.
    pub page_bytes: usize,
    /// Live blocks that are runs of slices in a segment.
    pub large_blocks: usize,
    /// Usable bytes of those blocks.
    pub large_bytes: usize,
    /// Live blocks that are mappings of their own.
    pub huge_blocks: usize,
    /// Usable bytes of those blocks.
    pub huge_bytes: usize,
    /// Thread heaps, in use or waiting for the next thread.
    pub heaps: usize,
    /// Bytes given back to the OS by purging, since the process began.
    pub purged_bytes: usize,
}

/// Reads all counters.
pub(crate) fn read() -> Stats {
    use crate::segment::{SEGMENT, SLICE};
    let metadata_bytes = METADATA_BYTES.get();
    let segments = SEGMENTS.get();
    let huge_bytes = HUGE_BYTES.get();
    Stats {
        mapped_bytes: metadata_bytes + segments * SEGMENT + huge_bytes,
        metadata_bytes,
        segments,
        pages: PAGES.get(),
        page_bytes: PAGE_SLICES.get() * SLICE,
        large_blocks: LARGE_BLOCKS.get(),
        large_bytes: LARGE_SLICES.get() * SLICE,
        huge_blocks: HUGE_BLOCKS.get(),
        huge_bytes,
        heaps: HEAPS.get(),
        purged_bytes: PURGED_BYTES.get(),
    }
}
