//! When unused memory goes back to the OS: late, and in bulk.
//!
//! Page faults cost more than anything else that a heap does, so memory is kept for the next
//! request and only what stayed unused for a whole period is purged. There is no background
//! thread: whoever gives memory back to a segment looks at the clock, and the first one past the
//! period's end does the work.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::{arena, heap, os, stats};

/// How long memory stays unused before it is purged, at least; twice as long at most while the heap
/// is in use.
const PERIOD_MS: u64 = 1000;

/// When the current period ends. Orders nothing: the exchange elects the thread that purges.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Purges what was unused since the last period, if this one is over.
pub(crate) fn tick() {
    let now = os::now_ms();
    let next = NEXT.load(Ordering::Relaxed);
    if now < next {
        return;
    }
    let later = now.wrapping_add(PERIOD_MS);
    if NEXT.compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        purge(false);
    }
}

/// Purges all that is free, or what has been free for a period. Returns the bytes.
pub(crate) fn purge(all: bool) -> usize {
    heap::trim_idle_heaps();
    let purged = arena::all().map(|arena| arena.purge(all)).sum();
    stats::PURGED_BYTES.add(purged);
    purged
}
