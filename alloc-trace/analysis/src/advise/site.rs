//! What is gathered of one call site, for the rules to judge.

use std::sync::Arc;

use alloc_trace_format::Stamp;
use rustc_hash::FxHashMap;

use super::Thresholds;
use crate::frames::FunctionIndex;
use crate::holder::{Holder, Holders};

/// What the rules share beside the evidence.
pub(super) struct Context<'a> {
    pub(super) thresholds: Thresholds,
    /// The most bytes that were live at a time in the whole program.
    pub(super) peak_bytes: u64,
    /// How long the recording is, in ticks.
    pub(super) duration: Stamp,
    /// The name of a function.
    pub(super) function: &'a dyn Fn(FunctionIndex) -> Arc<str>,
    /// From ticks to nanoseconds.
    pub(super) ns: &'a dyn Fn(Stamp) -> u64,
}

/// What happened to the blocks of one call site.
#[derive(Debug, Default)]
pub(super) struct SiteEvidence {
    /// Blocks, each with its reallocations.
    pub(super) blocks: u64,
    /// Requested bytes; a reallocation counts its new size.
    pub(super) bytes: u64,
    /// Requests, reallocations and frees, of whichever call site.
    pub(super) events: u64,
    pub(super) freed: u64,
    /// Freed by another thread than the one that allocated.
    pub(super) remote: u64,
    pub(super) remote_bytes: u64,
    pub(super) live: u64,
    pub(super) live_bytes: u64,
    pub(super) peak_blocks: u64,
    /// Of the first, second, third and last quarter of its blocks, how many were never freed.
    pub(super) left_in_quarters: [u64; 4],
    /// The sizes that blocks had at their largest.
    pub(super) sizes: Sizes,
    /// Whether any of them was reallocated.
    pub(super) resized: bool,
    /// The alignment of the last one, as a power of two.
    pub(super) align_log2: u8,
    /// What they are the memory of.
    pub(super) holders: Holders,
    /// Blocks whose life one activation enclosed, by its function.
    pub(super) enclosed: FxHashMap<FunctionIndex, Enclosed>,
    /// Blocks whose predecessor had the same backtrace and was freed already.
    pub(super) repeats: u64,
    pub(super) growth: GrowthEvidence,
    pub(super) first_request: Stamp,
    pub(super) last_request: Stamp,
    pub(super) late: u64,
    pub(super) late_bytes: u64,
    /// The least time from the call site's last request to a late free, in ticks.
    pub(super) least_idle: Option<Stamp>,
}

impl SiteEvidence {
    /// What all of them are the memory of, as far as that is known.
    pub(super) fn holder(&self) -> Option<Holder> {
        match self.holders.one() {
            // `Vec::from([…])` makes one out of a `Box`; no `Box` is ever reallocated.
            Some(Holder::Box) if self.resized => Some(Holder::Vec),
            holder => holder,
        }
    }
}

/// The blocks that lived within activations of one function.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Enclosed {
    pub(super) blocks: u64,
    /// The most at a time within one activation.
    pub(super) at_once: u64,
}

/// The blocks of a call site that grew.
#[derive(Debug, Default)]
pub(super) struct GrowthEvidence {
    pub(super) blocks: u64,
    pub(super) reallocations: u64,
    pub(super) moves: u64,
    /// The old sizes: what moving copies at most.
    pub(super) copied_bytes: u64,
    /// The sizes that they grew to.
    pub(super) largest: Sizes,
    /// Of the first that grew: its first two sizes and its alignment.
    pub(super) beginning: Option<(u64, u64, u64)>,
    pub(super) never_shrunk: u64,
    pub(super) never_shrunk_bytes: u64,
}

/// How many blocks there were of each size.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    /// Asked at every block, and put in order only for a verdict.
    counts: FxHashMap<u64, u64>,
    total: u64,
}

/// So many sizes are told apart at a call site; further ones are rounded up to powers of two.
const DISTINCT_SIZES: usize = 1024;

impl Sizes {
    pub(super) fn add(&mut self, size: u64) {
        self.total += 1;
        if let Some(count) = self.counts.get_mut(&size) {
            *count += 1;
            return;
        }
        let known = self.counts.len() < DISTINCT_SIZES;
        let size = if known { size } else { size.checked_next_power_of_two().unwrap_or(size) };
        *self.counts.entry(size).or_default() += 1;
    }

    pub(super) fn min(&self) -> u64 {
        self.counts.keys().min().copied().unwrap_or_default()
    }

    pub(super) fn max(&self) -> u64 {
        self.counts.keys().max().copied().unwrap_or_default()
    }

    /// The smallest size that is not exceeded by `percent` of the blocks.
    pub(super) fn percentile(&self, percent: u64) -> u64 {
        let wanted = (self.total * percent).div_ceil(100);
        let mut seen = 0;
        let mut counts: Vec<(u64, u64)> =
            self.counts.iter().map(|(&size, &count)| (size, count)).collect();
        counts.sort_unstable();
        for (size, count) in counts {
            seen += count;
            if seen >= wanted {
                return size;
            }
        }
        self.max()
    }

    /// The size that most blocks have, the largest of several such, and how many have it.
    pub(super) fn most_frequent(&self) -> (u64, u64) {
        let most = self.counts.iter().max_by_key(|&(&size, &count)| (count, size));
        most.map_or((0, 0), |(&size, &count)| (size, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_sizes_that_occurred() {
        let mut sizes = Sizes::default();
        for size in [8, 8, 8, 8, 8, 64, 64, 64, 64, 1000] {
            sizes.add(size);
        }
        assert_eq!([50, 90, 100].map(|percent| sizes.percentile(percent)), [8, 64, 1000]);
        assert_eq!((sizes.min(), sizes.max(), sizes.most_frequent()), (8, 1000, (8, 5)));
    }

    #[test]
    fn many_sizes_are_rounded_up() {
        let mut sizes = Sizes::default();
        for size in 0..10_000 {
            sizes.add(size);
        }
        assert!(sizes.counts.len() < DISTINCT_SIZES + 16);
        assert!(sizes.max() >= 9_999);
    }
}
