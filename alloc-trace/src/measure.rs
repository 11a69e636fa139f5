//! Counting what a closure asks of the heap, on the calling thread, without a recording.

use std::cell::Cell;

use alloc_trace_format::EventKind;

use crate::mode;
use crate::request::Request;

/// What a closure asked of the heap, on the thread that ran it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HeapUse {
    /// Allocations, zeroed ones excluded; failed ones included, as in the other counts.
    pub allocations: u64,
    /// Zeroed allocations.
    pub zeroed_allocations: u64,
    /// Reallocations.
    pub reallocations: u64,
    /// Frees.
    pub frees: u64,
    /// Requests that were answered with null.
    pub failed_requests: u64,
    /// Requested bytes: a reallocation counts its new size, a failed request nothing.
    pub requested_bytes: u64,
    /// Bytes freed, by requested size: a reallocation counts its old size.
    pub freed_bytes: u64,
    /// The most bytes (requested) that were live at once, over those live at the beginning.
    pub peak_bytes: u64,
}

impl HeapUse {
    const NONE: Self = Self {
        allocations: 0,
        zeroed_allocations: 0,
        reallocations: 0,
        frees: 0,
        failed_requests: 0,
        requested_bytes: 0,
        freed_bytes: 0,
        peak_bytes: 0,
    };

    /// How often the heap was asked for anything: the sum of all kinds.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.allocations + self.zeroed_allocations + self.reallocations + self.frees
    }

    /// Bytes (requested) live at the end over those live at the beginning; negative where the
    /// closure freed more than it asked for.
    #[must_use]
    pub const fn live_bytes(&self) -> i64 {
        self.requested_bytes.wrapping_sub(self.freed_bytes).cast_signed()
    }
}

struct Counter {
    /// How many measurements this thread has under way.
    depth: Cell<u32>,
    counted: Cell<HeapUse>,
}

thread_local! {
    static COUNTER: Counter =
        const { Counter { depth: Cell::new(0), counted: Cell::new(HeapUse::NONE) } };
}

/// Runs a closure and counts what it asks of the heap on this thread.
///
/// Other threads are not counted, those that the closure starts included. Nothing is counted unless
/// the program's global allocator is a [`TraceAlloc`](crate::TraceAlloc). Measurements can be
/// nested: the outer one includes the inner. A panic in the closure is passed on.
///
/// ```
/// # use std::alloc::System;
/// # #[global_allocator]
/// # static ALLOCATOR: alloc_trace::TraceAlloc<System> = alloc_trace::TraceAlloc::new(System);
/// let (sum, heap) = alloc_trace::measure(|| (1..=10).sum::<u32>());
/// assert_eq!((sum, heap.events()), (55, 0));
///
/// let (boxed, heap) = alloc_trace::measure(|| Box::new([0u8; 100]));
/// assert_eq!((heap.allocations + heap.zeroed_allocations, heap.peak_bytes), (1, 100));
/// # drop(boxed);
/// ```
pub fn measure<T>(closure: impl FnOnce() -> T) -> (T, HeapUse) {
    let measurement = Measurement::begin();
    let result = closure();
    let counted = COUNTER.with(|counter| counter.counted.get());
    drop(measurement);
    (result, counted)
}

/// Puts the outer measurement back when it is dropped, with what the inner one counted added.
struct Measurement {
    outer: HeapUse,
}

impl Measurement {
    fn begin() -> Self {
        let outer = COUNTER.with(|counter| {
            counter.depth.set(counter.depth.get() + 1);
            counter.counted.replace(HeapUse::NONE)
        });
        mode::begin_measurement();
        Self { outer }
    }
}

impl Drop for Measurement {
    fn drop(&mut self) {
        mode::end_measurement();
        let outer = self.outer;
        COUNTER.with(|counter| {
            counter.depth.set(counter.depth.get() - 1);
            let inner = counter.counted.get();
            let live = outer.live_bytes().saturating_add_unsigned(inner.peak_bytes);
            counter.counted.set(HeapUse {
                allocations: outer.allocations + inner.allocations,
                zeroed_allocations: outer.zeroed_allocations + inner.zeroed_allocations,
                reallocations: outer.reallocations + inner.reallocations,
                frees: outer.frees + inner.frees,
                failed_requests: outer.failed_requests + inner.failed_requests,
                requested_bytes: outer.requested_bytes + inner.requested_bytes,
                freed_bytes: outer.freed_bytes + inner.freed_bytes,
                peak_bytes: outer.peak_bytes.max(u64::try_from(live).unwrap_or(0)),
            });
        });
    }
}

/// Counts a request, if its thread is being measured.
#[inline]
pub(crate) fn count(request: &Request) {
    COUNTER.with(|counter| {
        if counter.depth.get() == 0 {
            return;
        }
        let mut counted = counter.counted.get();
        let kind = match request.kind {
            EventKind::Alloc => &mut counted.allocations,
            EventKind::AllocZeroed => &mut counted.zeroed_allocations,
            EventKind::Realloc => &mut counted.reallocations,
            EventKind::Free => &mut counted.frees,
        };
        *kind = kind.wrapping_add(1);
        let size = request.size as u64;
        if request.failed {
            counted.failed_requests = counted.failed_requests.wrapping_add(1);
        } else if request.kind == EventKind::Free {
            counted.freed_bytes = counted.freed_bytes.wrapping_add(size);
        } else {
            // Both are wrapping: a panic here would be one inside an allocation.
            counted.requested_bytes = counted.requested_bytes.wrapping_add(size);
            counted.freed_bytes = counted.freed_bytes.wrapping_add(request.old_size as u64);
            let live = u64::try_from(counted.live_bytes()).unwrap_or(0);
            counted.peak_bytes = counted.peak_bytes.max(live);
        }
        counter.counted.set(counted);
    });
}
