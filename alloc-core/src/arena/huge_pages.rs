//! Which segments are made of huge pages: those save most of the page faults, but a part of one that is
//! not used is memory lost.
//!
//! For pages of small blocks that is decided when address space is reserved, by how large the heap is. For
//! large blocks it is decided when one begins a segment that holds no memory: the kernel is asked how much
//! is resident of those that large blocks are in already. Blocks that are touched here and there stay in
//! ordinary pages.
//!
//! A segment that gives back a part of its memory, and has another in use, is made of ordinary pages from
//! then on. The kernel's own thread for that (`khugepaged`) would else make huge ones of what is left, be it a
//! few bytes, with as much new memory as had gone. And what a huge page holds beside the slices that were used
//! goes back with them. Where all of a segment has gone back it is decided anew.

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

/// A bit for each segment of an arena.
#[derive(Debug)]
pub(super) struct SegmentBits([AtomicU64; ARENA_SEGMENTS / 64]);

impl SegmentBits {
    fn get(&self, segment: usize) -> bool {
        self.word(segment).load(Ordering::Relaxed) & Self::bit(segment) != 0
    }

    fn set(&self, segment: usize, is_set: bool) {
        if is_set {
            self.word(segment).fetch_or(Self::bit(segment), Ordering::Relaxed);
        } else {
            self.word(segment).fetch_and(!Self::bit(segment), Ordering::Relaxed);
        }
    }

    fn word(&self, segment: usize) -> &AtomicU64 {
        &self.0[segment % ARENA_SEGMENTS / 64]
    }

    fn bit(segment: usize) -> u64 {
        1 << (segment % 64)
    }
}

impl Arena {
    /// Decides for a segment if it holds no memory, but for what `count` slices from `slice` on will, which a
    /// large block was given just now, clean.
    #[cold]
    pub(super) fn begin_with_block(&self, slice: usize, count: u32) {
        let index = slice / SLICES as usize;
        let segment = self.segment(slice);
        let is_first = segment.dirty() & !mask(slice as u32 % SLICES, count) == 0;
        if is_first && !self.huge.get(index) && self.are_blocks_touched(index) {
            self.decide(index, true);
            if let Some(base) = NonNull::new(segment.slice(0)) {
                // SAFETY: the segment's mapping, of which a slice is in use.
                unsafe { os::prefer_huge_pages(base, SEGMENT) };
            }
        }
    }

    /// Has the segment of a slice stay in parts, before one of them is given back.
    pub(crate) fn part(&self, slice: usize) {
        let index = slice / SLICES as usize;
        if !self.huge.get(index) || self.parted.get(index) {
            return;
        }
        self.parted.set(index, true);
        if let Some(base) = NonNull::new(self.segment(slice).slice(0)) {
            // SAFETY: the segment's mapping, of which a slice is in use or may be.
            unsafe { os::prefer_ordinary_pages(base, SEGMENT) };
        }
        self.segments.purge_unused(index);
    }

    /// Decides on a segment again if all its memory was given back. Large blocks decide for themselves when
    /// they begin one of ordinary pages.
    pub(super) fn begin_anew(&self, index: usize) {
        if !self.huge.get(index) {
            return;
        }
        let is_huge = are_worth_it_for_pages();
        if is_huge && !self.parted.get(index) {
            return;
        }
        let seemed_full = self.segment(index * SLICES as usize).if_clean(|base| {
            self.decide(index, is_huge);
            if is_huge {
                // SAFETY: a segment's mapping, which nobody else has a part of meanwhile.
                unsafe { os::prefer_huge_pages(base, SEGMENT) };
            } else {
                // SAFETY: as above.
                unsafe { os::prefer_ordinary_pages(base, SEGMENT) };
            }
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
            .filter(|index| *index != but && !self.huge.get(*index))
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

    /// Notes whether huge pages were asked for, for a segment that holds no memory.
    pub(super) fn decide(&self, index: usize, is_huge: bool) {
        self.parted.set(index, false);
        self.huge.set(index, is_huge);
    }
}
