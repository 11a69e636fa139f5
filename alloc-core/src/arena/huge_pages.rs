//! Which segments are made of huge pages: those save most of the page faults, but a part of one that is
//! not used is memory lost.
//!
//! For pages of small blocks that is decided when address space is reserved, by how large the heap is. For
//! large blocks it is decided when one begins a segment that holds no memory: the kernel is asked how much
//! is resident of those that large blocks are in already. Blocks that are touched here and there stay in
//! ordinary pages.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{ARENA_SEGMENTS, Arena};
use crate::segment::{SEGMENT, SLICE, SLICES, mask};
use crate::{counters, os};

/// Segments that a heap has before further ones are made of huge pages: these save most of the page
/// faults, but a small heap would pay for parts of them that it does not use. Half of those segments
/// must be pages of small blocks, which fill up: large blocks may be meant to be touched here and
/// there. And each thread's heap must have a segment of such pages on average: where many threads have a
/// few blocks of each size, no page fills.
const SEGMENTS_BEFORE_HUGE_PAGES: usize = 12;

/// Bytes of segments with large blocks that must have been used before further ones are made of huge
/// pages, one of which is begun in vain at most: most of one segment, since what is used until then has a
/// fault for each ordinary page.
const USED_BEFORE_HUGE_PAGES: usize = 3 << 20;

/// Segments that are asked about: some microseconds each, a hundredth of what their page faults take.
const ASKED_SEGMENTS: usize = 4;

/// Whether what is reserved next is likely to be filled, page by page.
pub(super) fn are_worth_it_for_pages() -> bool {
    let (segments, heaps) = (counters::SEGMENTS.get(), counters::HEAPS.get());
    segments >= SEGMENTS_BEFORE_HUGE_PAGES
        && counters::PAGE_SLICES.get()
            >= (SEGMENTS_BEFORE_HUGE_PAGES / 2).max(heaps) * SLICES as usize
}

impl Arena {
    /// Decides for a segment if it holds no memory, but for what `count` slices from `slice` on will, which a
    /// large block was given just now, clean.
    pub(super) fn begin_with_block(&self, slice: usize, count: u32) {
        let index = slice / SLICES as usize;
        let segment = self.segment(slice);
        let is_first = segment.dirty() & !mask(slice as u32 % SLICES, count) == 0;
        if is_first && !self.is_huge(index) && self.are_blocks_touched(index) {
            self.note_huge(index, true);
            if let Some(base) = NonNull::new(segment.slice(0)) {
                // SAFETY: the segment's mapping, of which a slice is in use.
                unsafe { os::prefer_huge_pages(base, SEGMENT) };
            }
        }
    }

    /// Lets a segment be decided on again if all its memory was given back.
    pub(super) fn begin_anew(&self, index: usize) {
        if !self.is_huge(index) || are_worth_it_for_pages() {
            return;
        }
        let seemed_full = self.segment(index * SLICES as usize).if_clean(|base| {
            self.note_huge(index, false);
            // SAFETY: a segment's mapping, which nobody else has a part of meanwhile.
            unsafe { os::prefer_ordinary_pages(base, SEGMENT) };
        });
        if seemed_full {
            // A claim may have closed it.
            self.segments.set_open(index);
        }
    }

    /// Whether large blocks have used much in other segments of ordinary pages than this one, and three
    /// quarters of it are resident: so huge pages take a third more at most.
    fn are_blocks_touched(&self, but: usize) -> bool {
        let has_user = |index: &usize| self.segments.block_user(*index) != 0;
        let asked = (0..ARENA_SEGMENTS)
            .rev()
            .filter(|index| *index != but && !self.is_huge(*index))
            .filter(has_user)
            .take(ASKED_SEGMENTS);
        let (mut used, mut resident) = (0, 0);
        for index in asked {
            let segment = self.segment(index * SLICES as usize);
            used += segment.dirty().count_ones() as usize * SLICE;
            resident += os::resident_bytes(segment.slice(0).addr(), SEGMENT);
        }
        used >= USED_BEFORE_HUGE_PAGES && resident >= used / 4 * 3
    }

    fn is_huge(&self, segment: usize) -> bool {
        self.huge_word(segment).load(Ordering::Relaxed) & huge_bit(segment) != 0
    }

    /// Notes whether huge pages were asked for.
    pub(super) fn note_huge(&self, segment: usize, is_huge: bool) {
        if is_huge {
            self.huge_word(segment).fetch_or(huge_bit(segment), Ordering::Relaxed);
        } else {
            self.huge_word(segment).fetch_and(!huge_bit(segment), Ordering::Relaxed);
        }
    }

    fn huge_word(&self, segment: usize) -> &AtomicU64 {
        &self.huge[segment % ARENA_SEGMENTS / 64]
    }
}

fn huge_bit(segment: usize) -> u64 {
    1 << (segment % 64)
}
