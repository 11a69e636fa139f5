//! The figures that are kept of everything: of the whole recording, of each call site, each thread
//! and each span.

use alloc_trace_format::{EventKind, Stamp};
use serde::Serialize;

/// What happened on the heap, of the whole program or of a part of it.
///
/// Counts are of what the part *did*; bytes and blocks are of what *belongs* to it. So a thread's
/// `frees` are those that it made, of whosever blocks, and its `freed_bytes` those of the blocks
/// that it had allocated, whoever freed them. Both add up over all parts, and
/// `live_bytes_at_end` = `allocated_bytes` − `freed_bytes` holds for each part.
///
/// Bytes stop at 2^64 − 1, each figure for itself: only sizes that no heap can have add up to more.
/// Lifetimes need more bits than that: a million blocks that live for six hours come to more than 2^64 ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Figures {
    /// All heap events, failed ones included.
    pub events: u64,
    /// Requests by `alloc`, failed ones included.
    pub allocations: u64,
    /// Requests by `alloc_zeroed`, failed ones included.
    pub zeroed_allocations: u64,
    /// Requests by `realloc`, failed ones included.
    pub reallocations: u64,
    /// Frees, of blocks older than the recording too.
    pub frees: u64,
    /// Requests that were answered with null.
    pub failed_requests: u64,
    /// Blocks that were freed, by any thread, before the thread that had obtained them (by `alloc`,
    /// `alloc_zeroed` or `realloc`) made its next request that succeeded. A block that is
    /// reallocated is not freed by that.
    pub temporary_allocations: u64,
    /// Bytes requested; a reallocation counts its new size.
    pub allocated_bytes: u64,
    /// Requested bytes of the blocks that were released; a reallocation counts its old size.
    pub freed_bytes: u64,
    /// The most requested bytes that were live at a time.
    pub peak_bytes: u64,
    /// When that was first so, in nanoseconds from the beginning of the recording.
    pub peak_at_ns: u64,
    /// Requested bytes that were live when the *program* was first at its peak: the part's share of
    /// that. With a filter, at the peak of what it picks.
    pub at_peak_bytes: u64,
    /// The blocks that were live then.
    pub at_peak_blocks: u64,
    /// Requested bytes of the blocks that were never released.
    pub live_bytes_at_end: u64,
    /// The blocks that were never released.
    pub live_blocks_at_end: u64,
    /// How long all blocks together lived, in nanoseconds: each from its request to its release, by a
    /// free or a reallocation, and those that were never released until the end of the recording. That
    /// is the number of live blocks, added up over time.
    ///
    /// It adds up like bytes do; what is told apart in two ways, as by call sites and by threads, can
    /// differ by a nanosecond for each part, since parts have whole ones.
    pub lifetime_ns: u128,
}

impl Figures {
    /// All requests for memory: allocations, zeroed ones and reallocations.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.allocations + self.zeroed_allocations + self.reallocations
    }

    /// The blocks that were obtained: requests that did not fail.
    #[must_use]
    pub const fn obtained_blocks(&self) -> u64 {
        self.requests().saturating_sub(self.failed_requests)
    }

    /// How long a block lived on average, in nanoseconds, rounded down: [`Figures::lifetime_ns`] of each of
    /// [`Figures::obtained_blocks`]; 0 where there is none.
    #[must_use]
    pub const fn mean_lifetime_ns(&self) -> u64 {
        match self.lifetime_ns.checked_div(self.obtained_blocks() as u128) {
            Some(mean) if mean > u64::MAX as u128 => u64::MAX,
            Some(mean) => mean as u64,
            None => 0,
        }
    }

    /// How many events of a kind there were.
    pub(crate) const fn made(&mut self, kind: EventKind) -> &mut u64 {
        match kind {
            EventKind::Alloc => &mut self.allocations,
            EventKind::AllocZeroed => &mut self.zeroed_allocations,
            EventKind::Realloc => &mut self.reallocations,
            EventKind::Free => &mut self.frees,
        }
    }

    /// Adds all but the peak, which does not add up.
    pub(crate) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.allocations += other.allocations;
        self.zeroed_allocations += other.zeroed_allocations;
        self.reallocations += other.reallocations;
        self.frees += other.frees;
        self.failed_requests += other.failed_requests;
        self.temporary_allocations += other.temporary_allocations;
        self.allocated_bytes = self.allocated_bytes.saturating_add(other.allocated_bytes);
        self.freed_bytes = self.freed_bytes.saturating_add(other.freed_bytes);
        self.at_peak_bytes = self.at_peak_bytes.saturating_add(other.at_peak_bytes);
        self.at_peak_blocks += other.at_peak_blocks;
        self.live_bytes_at_end = self.live_bytes_at_end.saturating_add(other.live_bytes_at_end);
        self.live_blocks_at_end += other.live_blocks_at_end;
        self.lifetime_ns = self.lifetime_ns.saturating_add(other.lifetime_ns);
    }

    /// Turns the stamp of the peak into its time.
    pub(crate) fn finish(&mut self, ns: impl Fn(Stamp) -> u64) {
        if self.peak_bytes > 0 {
            self.peak_at_ns = ns(self.peak_at_ns);
        }
    }
}
