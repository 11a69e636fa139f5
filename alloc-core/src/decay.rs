//! When unused memory goes back to the OS: late, and in bulk.
//!
//! Page faults cost more than anything else that a heap does, so memory is kept for the next
//! request and only what stayed unused for a whole period is purged. Whoever leaves the fast path
//! looks at the clock, and the first one past the period's end does the work; where nobody comes by,
//! [`purger`](crate::purger) does. Each heap's thread, the first time that it leaves the fast path in a
//! new period, also hands back what its caches hold of classes that the last period did not need.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::{arena, counters, heap, os, spare};

/// How long memory stays unused before it is purged, at least; twice as long at most, and three times
/// what a sleeping thread's heap kept, in its caches too. In half a second a program can touch gigabytes
/// anew: what is purged in vain costs a few hundredths of its time.
pub(crate) const PERIOD_MS: u64 = 500;

/// When the current period ends. Orders nothing: the exchange elects the thread that purges.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A period of the clock's; different from those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period(pub(crate) u64);

/// The current period. If it is a new one, purges what was unused since the last one ended.
pub(crate) fn tick() -> Period {
    tick_at(os::now_ms())
}

/// The same by somebody who knows what the clock says.
#[inline]
pub(crate) fn tick_at(now: u64) -> Period {
    let next = NEXT.load(Ordering::Relaxed);
    if now < next {
        return Period(next);
    }
    begin_next(now, next)
}

/// Begins the period after one that ended at `next`, and purges, unless another thread does.
#[cold]
fn begin_next(now: u64, next: u64) -> Period {
    let later = now.wrapping_add(PERIOD_MS);
    match NEXT.compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {
            purge(false);
            Period(later)
        }
        Err(others) => Period(others),
    }
}

/// The period that was current when anybody looked last.
pub(crate) fn current() -> Period {
    Period(NEXT.load(Ordering::Relaxed))
}

/// Purges all that is free, or what has been free for a period. Returns the bytes.
pub(crate) fn purge(all: bool) -> usize {
    heap::trim_idle_heaps();
    let slices: usize = arena::all().map(|arena| arena.purge(all)).sum();
    let purged = slices + spare::purge(all);
    counters::PURGED_BYTES.add(purged);
    purged
}
