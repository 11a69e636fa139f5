//! The figures that are counted, on slow paths only; [`stats`](crate::stats) adds what is found by looking.

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::striped::StripedCounter;

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

    pub(crate) fn raise_to(&self, amount: usize) {
        self.0.fetch_max(amount, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) static METADATA_BYTES: Counter = Counter::new();
pub(crate) static SEGMENTS: Counter = Counter::new();
/// Slices of pages.
pub(crate) static PAGE_SLICES: StripedCounter = StripedCounter::new();
pub(crate) static HUGE_BLOCKS: Counter = Counter::new();
pub(crate) static HUGE_BYTES: Counter = Counter::new();
/// The most bytes of huge blocks that were there at once, as far as anybody freed one then.
pub(crate) static HUGE_PEAK: Counter = Counter::new();
pub(crate) static HEAPS: Counter = Counter::new();
/// Slices that may hold memory of the OS, in use or free.
pub(crate) static DIRTY_SLICES: Counter = Counter::new();
pub(crate) static PURGED_BYTES: Counter = Counter::new();
