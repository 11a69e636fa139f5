//! What is gathered of the blocks of one call site that are the memory of one thing, for the rules to judge.

use std::sync::Arc;

use alloc_trace_format::Stamp;
use rustc_hash::FxHashMap;

use super::Thresholds;
use super::sizes::{Sizes, Steps};
use crate::frames::FunctionIndex;
use crate::holder::Holder;
use crate::sites::SiteIndex;
use crate::span_lives::Outlived;
use crate::spans::KindIndex;

/// What the rules share beside the evidence.
pub(super) struct Context<'a> {
    pub(super) thresholds: Thresholds,
    /// The most bytes that were live at a time in the whole program.
    pub(super) peak_bytes: u64,
    /// All events of blocks, and all requested bytes.
    pub(super) events: u64,
    pub(super) bytes: u64,
    /// How long the recording is, in ticks.
    pub(super) duration: Stamp,
    /// The name of a function.
    pub(super) function: &'a dyn Fn(FunctionIndex) -> Arc<str>,
    /// The name of a kind of span.
    pub(super) span: &'a dyn Fn(KindIndex) -> Arc<str>,
    /// From ticks to nanoseconds.
    pub(super) ns: &'a dyn Fn(Stamp) -> u64,
}

/// What is less than this part of all events and of all requested bytes does not matter.
const PART: u64 = 100;

impl Context<'_> {
    /// Whether so many events, or so many requested bytes, are a part of the program's that matters.
    pub(super) fn matters(&self, events: u64, bytes: u64) -> bool {
        let is_part = |of: u64, all: u64| of > 0 && of.saturating_mul(PART) >= all;
        is_part(events, self.events) || is_part(bytes, self.bytes)
    }
}

/// What happened to the blocks of one call site that are the memory of one thing.
#[derive(Debug, Default)]
pub(super) struct SiteEvidence {
    pub(super) site: SiteIndex,
    /// What they are the memory of, as far as that is known.
    pub(super) holder: Option<Holder>,
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
    /// How many of them were reallocated.
    pub(super) resized: u64,
    /// The alignment of the last one, as a power of two.
    pub(super) align_log2: u8,
    /// Blocks whose life one activation enclosed, by its function.
    pub(super) enclosed: FxHashMap<FunctionIndex, Enclosed>,
    /// Blocks whose predecessor in their thread had the same backtrace and was freed already.
    pub(super) repeats: u64,
    /// Blocks that their thread freed before it made the next one here.
    pub(super) brief: u64,
    /// Blocks that their thread freed when none was live that it had made here later.
    pub(super) innermost: u64,
    pub(super) growth: GrowthEvidence,
    pub(super) first_request: Stamp,
    pub(super) last_request: Stamp,
    pub(super) late: u64,
    pub(super) late_bytes: u64,
    /// The least time from the call site's last request to a late free, in ticks.
    pub(super) least_idle: Option<Stamp>,
    /// Blocks that lived long past their spans, by the spans' kind.
    pub(super) past_spans: FxHashMap<KindIndex, PastSpans>,
}

/// Blocks that lived long past spans of one kind.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PastSpans {
    pub(super) blocks: u64,
    pub(super) bytes: u64,
    /// How many were never freed.
    pub(super) never_freed: u64,
    /// The least time from the end of the span to a block's own, in ticks.
    pub(super) least_past: Option<Stamp>,
    /// The longest life of such a span, in ticks.
    pub(super) longest_life: Stamp,
    /// The bytes of each block times the ticks that it lived past its span.
    byte_ticks: u128,
}

impl PastSpans {
    pub(super) fn add(&mut self, outlived: Outlived, size: u64, freed: bool) {
        let Outlived { past, life, .. } = outlived;
        self.blocks += 1;
        self.bytes = self.bytes.saturating_add(size);
        self.never_freed += u64::from(!freed);
        self.least_past = Some(self.least_past.map_or(past, |least| least.min(past)));
        self.longest_life = self.longest_life.max(life);
        self.byte_ticks =
            self.byte_ticks.saturating_add(u128::from(size).saturating_mul(u128::from(past)));
    }

    /// What they held past their spans, on average over so many ticks.
    pub(super) fn held_bytes(&self, ticks: Stamp) -> u64 {
        let mean = self.byte_ticks / u128::from(ticks.max(1));
        u64::try_from(mean).unwrap_or(u64::MAX)
    }
}

impl SiteEvidence {
    pub(super) fn new(site: SiteIndex, holder: Option<Holder>) -> Self {
        Self { site, holder, ..Self::default() }
    }

    /// Something of each line of a cache that nearly every event of a block asks for.
    #[inline]
    pub(super) fn touch(&self) -> u64 {
        self.blocks ^ self.freed ^ self.last_request
    }

    /// Nothing more comes.
    pub(super) fn sum_up(&mut self) {
        // `Vec::from([…])` makes one out of a `Box`; no `Box` is ever reallocated.
        if self.holder == Some(Holder::Box) && self.resized > 0 {
            self.holder = Some(Holder::Vec);
        }
    }

    /// The sizes that blocks had at their largest.
    pub(super) const fn sizes(&self) -> &Sizes {
        &self.growth.sizes
    }

    /// The size that so many percent of the blocks have, if there is one and no more of them were reallocated than
    /// are left.
    pub(super) fn prevailing_size(&self, percent: u64) -> Option<u64> {
        let (size, of_that_size) = self.sizes().most_frequent();
        let is_part =
            |blocks: u64| blocks.saturating_mul(100) >= self.blocks.saturating_mul(percent);
        (is_part(of_that_size) && is_part(self.blocks.saturating_sub(self.resized))).then_some(size)
    }
}

/// The blocks that lived within activations of one function.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Enclosed {
    pub(super) blocks: u64,
    /// The most at a time within one activation.
    pub(super) at_once: u64,
}

/// How blocks of a call site grew.
#[derive(Debug, Default)]
pub(super) struct GrowthEvidence {
    /// The sizes that blocks had at their largest, those included that never grew.
    pub(super) sizes: Sizes,
    /// Blocks that grew.
    pub(super) blocks: u64,
    pub(super) moves: u64,
    pub(super) steps: Steps,
    /// The sizes that they grew to.
    pub(super) largest: Sizes,
    /// Of the first that grew: its first two sizes and its alignment.
    pub(super) beginning: Option<(u64, u64, u64)>,
    pub(super) never_shrunk: u64,
    pub(super) never_shrunk_bytes: u64,
}
