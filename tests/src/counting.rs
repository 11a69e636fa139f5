//! An allocator that counts what reaches it: what a recording of the whole program must say.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Hands every request on and counts it, until [`stop_counting`].
#[derive(Debug)]
pub struct Counting<A>(pub A);

static COUNTING: AtomicBool = AtomicBool::new(true);

/// What is counted, in the order in which [`counts`] answers.
#[derive(Debug, Clone, Copy)]
enum Count {
    Allocations,
    Zeroed,
    Reallocations,
    Frees,
    Failed,
    AllocatedBytes,
    FreedBytes,
}

static COUNTS: [AtomicU64; 7] = [const { AtomicU64::new(0) }; 7];

/// Counts nothing any more: the shared counters would order threads that nothing else orders.
pub fn stop_counting() {
    COUNTING.store(false, Ordering::Relaxed);
}

/// Allocations, zeroed allocations, reallocations, frees, failed requests, bytes allocated and bytes
/// freed, as the summary of a recording has them.
#[must_use]
pub fn counts() -> [u64; 7] {
    COUNTS.each_ref().map(|count| count.load(Ordering::Relaxed))
}

fn add(count: Count, number: usize) {
    if COUNTING.load(Ordering::Relaxed) {
        COUNTS[count as usize].fetch_add(number as u64, Ordering::Relaxed);
    }
}

fn answered(block: *mut u8, kind: Count, size: usize) -> *mut u8 {
    add(kind, 1);
    if block.is_null() {
        add(Count::Failed, 1);
    } else {
        add(Count::AllocatedBytes, size);
    }
    block
}

// SAFETY: every request is answered by the inner allocator with the arguments that it came with.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        let block = unsafe { self.0.alloc(layout) };
        answered(block, Count::Allocations, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        let block = unsafe { self.0.alloc_zeroed(layout) };
        answered(block, Count::Zeroed, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `realloc`.
        let new_block = unsafe { self.0.realloc(block, layout, new_size) };
        if !new_block.is_null() {
            add(Count::FreedBytes, layout.size());
        }
        answered(new_block, Count::Reallocations, new_size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        add(Count::Frees, 1);
        add(Count::FreedBytes, layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { self.0.dealloc(block, layout) }
    }
}
