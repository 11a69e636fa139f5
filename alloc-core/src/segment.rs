//! Segments: aligned regions of 64 slices, handed out in runs.
//!
//! A run of slices becomes a page of blocks or one large block. A segment's whole state is three
//! words of 64 bits, one bit a slice, changed by atomic operations only: there is no lock that a
//! fork could leave behind or a signal handler could find held. Whoever clears a slice's bit in
//! `free` owns the slice, and only the owner may touch its memory or its bit in `dirty`.

use core::ptr::NonNull;

use crate::fatal::fatal;
use crate::hardened::guards;
use crate::sync::{AtomicPtr, AtomicU64, Ordering};
use crate::{counters, os, tool};

pub(crate) use crate::unit::{SEGMENT, SLICE, SLICE_SHIFT, SLICES};

/// Slices of a segment that can be used: all of them, but in the hardened build.
pub(crate) const USABLE_SLICES: u32 = SLICES - guards::GUARD_SLICES;

/// The bits of those slices.
pub(crate) const USABLE: u64 = mask(0, USABLE_SLICES);

/// The record of one segment, in cache lines of its own, as two threads may be at work in two of
/// them. All zero means that there is none.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Segment {
    /// First byte, or null. Written once.
    base: AtomicPtr<u8>,
    /// Slices that nobody owns. Released with `Release`, claimed with `Acquire`: the next owner
    /// sees all that the last one did to the memory and to `dirty`.
    free: AtomicU64,
    /// Slices that may hold something other than zeros. Ordered by `free`.
    dirty: AtomicU64,
    /// Slices released since the last look of [`purge`](Self::purge). A hint.
    recent: AtomicU64,
}

/// Where in a segment to place a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// As low as it fits: what is in use lies together.
    Lowest,
    /// Where most room follows, for blocks that grow in place.
    Roomy,
}

/// A claimed run of slices; its first one is an index in the segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) first: u32,
    /// The slices that may hold something other than zeros, by their bit in the segment.
    pub(crate) dirty: u64,
}

/// The bits of `count` slices (1 to 64) from `first` on.
pub(crate) const fn mask(first: u32, count: u32) -> u64 {
    (u64::MAX >> (u64::BITS - count)) << first
}

/// The bits at multiples of `align`, a power of two.
const fn multiples(align: u32) -> u64 {
    let mut bits = 1;
    let mut step = u64::BITS / 2;
    while step >= align {
        bits |= bits << step;
        step /= 2;
    }
    bits
}

const _: () = assert!(multiples(1) == u64::MAX && multiples(16) == 0x0001_0001_0001_0001);
const _: () = assert!(multiples(64) == 1);

/// Slices of a huge page.
const HUGE_PAGE_SLICES: u32 = (2 << 20) / SLICE as u32;

/// All slices of the huge pages that these are in.
fn around(slices: u64) -> u64 {
    let pages = (0..SLICES).step_by(HUGE_PAGE_SLICES as usize);
    let masks = pages.map(|first| mask(first, HUGE_PAGE_SLICES));
    masks.filter(|page| slices & page != 0).fold(0, |all, page| all | page)
}

/// Set bits in the longest run of them.
fn longest_run(bits: u64) -> u32 {
    if bits == 0 { 0 } else { longest_from(bits, bits, 1).1 }
}

/// Of these starts of `count` set bits, at least one, the lowest one from which the most are set; and how
/// many that are.
fn longest_from(bits: u64, starts: u64, count: u32) -> (u32, u32) {
    // From each bit of these on 1, 2, 4, 8, 16 and 32 are set.
    let mut runs = [bits; SLICES.ilog2() as usize];
    for step in 1..runs.len() {
        let half = runs[step - 1];
        runs[step] = half & (half >> (1 << (step - 1)));
    }
    let mut starts = starts;
    let mut length = count;
    // The number of bits that follow is put together from its highest power of two downwards: of an empty
    // segment that takes six steps, where one bit after the other took 63.
    for (step, run) in runs.iter().enumerate().rev() {
        let longer = starts & run.checked_shr(length).unwrap_or(0);
        if longer != 0 {
            starts = longer;
            length += 1 << step;
        }
    }
    (starts.trailing_zeros(), length)
}

/// The lowest start of `count` set bits at a multiple of `align`, or one in the longest run.
#[inline]
fn find(free: u64, count: u32, align: u32, placement: Placement) -> Option<u32> {
    let mut starts = starts(free, count);
    if align > 1 {
        starts &= multiples(align);
    }
    match placement {
        Placement::Lowest => (starts != 0).then(|| starts.trailing_zeros()),
        Placement::Roomy => roomiest(free, starts, count, align),
    }
}

/// The bits from which on `count` bits are set.
#[inline]
fn starts(free: u64, count: u32) -> u64 {
    let mut starts = free;
    let mut length = 1;
    // Bit i of `starts`: `length` bits are set from i on. Each step adds up to as many as it has. There are as
    // many steps for any count: where sizes are random, the end of fewer would be guessed wrong.
    for _ in 0..SLICES.ilog2() {
        let step = length.min(count - length);
        starts &= starts >> step;
        length += step;
    }
    starts
}

/// The one of these starts of `count` bits that is in the longest run; a multiple of `align`, as they are.
///
/// What lies in front of the longest run may grow too, hence the middle of it: of the room between
/// two blocks each gets half.
fn roomiest(free: u64, starts: u64, count: u32, align: u32) -> Option<u32> {
    if starts == 0 {
        return None;
    }
    let (start, length) = longest_from(free, starts, count);
    if start == 0 {
        return Some(0);
    }
    // Down to a multiple of a power of two: a division could panic.
    Some(start + (((length - count) / 2) & !(align - 1)))
}

impl Segment {
    /// A record of none, for models: elsewhere it is zero memory.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self {
            base: AtomicPtr::new(core::ptr::null_mut()),
            free: AtomicU64::new(0),
            dirty: AtomicU64::new(0),
            recent: AtomicU64::new(0),
        }
    }

    /// Puts a fresh mapping into use.
    pub(crate) fn install(&self, base: NonNull<u8>) {
        self.base.store(base.as_ptr(), Ordering::Relaxed);
        tool::closed(base.as_ptr(), SEGMENT);
        if USABLE_SLICES < SLICES {
            guards::guard(self.slice(USABLE_SLICES));
        }
        // Publishes `base` to whoever claims a slice.
        self.free.store(USABLE, Ordering::Release);
        counters::SEGMENTS.add(1);
    }

    /// Whether no slice is in use.
    pub(crate) fn is_free(&self) -> bool {
        self.free.load(Ordering::Relaxed) == USABLE
    }

    /// First byte of slice `index`. The segment is installed and `index` below [`SLICES`].
    #[inline]
    pub(crate) fn slice(&self, index: u32) -> *mut u8 {
        // `wrapping_add` keeps provenance and asks for no proof; the result is in the mapping.
        self.base.load(Ordering::Relaxed).wrapping_add((index as usize) << SLICE_SHIFT)
    }

    pub(crate) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// The slices that may hold memory of the OS.
    pub(crate) fn dirty(&self) -> u64 {
        self.dirty.load(Ordering::Relaxed)
    }

    /// Free slices that may hold memory of the OS.
    pub(crate) fn unused(&self) -> u32 {
        (self.free() & self.dirty()).count_ones()
    }

    /// Free slices in the longest run.
    pub(crate) fn room(&self) -> u32 {
        longest_run(self.free())
    }

    /// Claims a run. `count` is 1 to 64, `align` a power of two of slices.
    #[inline]
    pub(crate) fn claim(&self, count: u32, align: u32, placement: Placement) -> Option<Run> {
        let mut free = self.free.load(Ordering::Relaxed);
        loop {
            let first = find(free, count, align, placement)?;
            match self.take(free, mask(first, count)) {
                Ok(dirty) => return Some(Run { first, dirty }),
                Err(now) => free = now,
            }
        }
    }

    /// Claims exactly these slices, for a block that grows in place.
    pub(crate) fn claim_exactly(&self, first: u32, count: u32) -> Option<Run> {
        if first + count > SLICES {
            return None;
        }
        let wanted = mask(first, count);
        let mut free = self.free.load(Ordering::Relaxed);
        while free & wanted == wanted {
            match self.take(free, wanted) {
                Ok(dirty) => return Some(Run { first, dirty }),
                Err(now) => free = now,
            }
        }
        None
    }

    /// Moves `wanted` from free to owned if `free` is still what was read, and marks it dirty;
    /// returns which of it was dirty before.
    #[inline]
    fn take(&self, free: u64, wanted: u64) -> Result<u64, u64> {
        self.free.compare_exchange_weak(
            free,
            free & !wanted,
            // Pairs with the `Release` in `release`.
            Ordering::Acquire,
            Ordering::Relaxed,
        )?;
        // Of slices that one owns, nobody else changes the bit.
        let dirty = self.dirty.load(Ordering::Relaxed) & wanted;
        if dirty != wanted {
            self.dirty.fetch_or(wanted, Ordering::Relaxed);
            counters::DIRTY_SLICES.add((wanted & !dirty).count_ones() as usize);
        }
        Ok(dirty)
    }

    /// Gives a run back whose memory was unused for a period already: see [`purge`](Self::purge). Returns
    /// whether the segment had no free slice before.
    pub(crate) fn release_rested(&self, first: u32, count: u32) -> bool {
        let run = mask(first, count);
        // Pairs with the `Acquire` in `take`.
        let before = self.free.fetch_or(run, Ordering::Release);
        if before & run != 0 {
            fatal("slices released twice", self.slice(first).addr());
        }
        before == 0
    }

    /// Gives a run back. Returns whether the segment had no free slice before.
    pub(crate) fn release(&self, first: u32, count: u32) -> bool {
        let run = mask(first, count);
        // Often they are noted still. A purge that forgets them between the look and what follows is
        // one that takes none of them, and the next is a period away.
        if self.recent.load(Ordering::Relaxed) & run != run {
            self.recent.fetch_or(run, Ordering::Relaxed);
        }
        self.release_rested(first, count)
    }

    /// Gives the memory of free dirty slices back to the OS: all of them, or those that have been
    /// free since before the last call. And what huge pages hold beside it in slices that nobody used.
    ///
    /// `None` if there were none. Otherwise the bytes that went, of slices that were out of others'
    /// reach meanwhile: the segment may have seemed full.
    pub(crate) fn purge(&self, all: bool) -> Option<usize> {
        let recent = self.recent.swap(0, Ordering::Relaxed);
        let keep = if all { 0 } else { recent };
        let (dirty, free) = (self.dirty(), self.free());
        let wanted = dirty & !keep & free;
        if wanted == 0 {
            return None;
        }
        Some(self.give_back(wanted | around(wanted) & free & !dirty))
    }

    /// Gives back what huge pages hold in slices that nobody used. `false` if there are no such slices;
    /// otherwise the segment may have seemed full.
    pub(crate) fn purge_unused(&self) -> bool {
        let wanted = self.free() & !self.dirty();
        if wanted != 0 {
            self.give_back(wanted);
        }
        wanted != 0
    }

    /// Gives the memory of these slices back, as far as they are free. Returns the bytes of those that were
    /// dirty.
    fn give_back(&self, wanted: u64) -> usize {
        // Own what is still free of it while its memory changes. Pairs with `release`.
        let claimed = self.free.fetch_and(!wanted, Ordering::Acquire) & wanted;
        let mut purged = 0;
        let mut rest = claimed;
        while rest != 0 {
            let first = rest.trailing_zeros();
            let count = (rest >> first).trailing_ones();
            let run = mask(first, count);
            rest &= !run;
            let bytes = (count as usize) << SLICE_SHIFT;
            let Some(start) = NonNull::new(self.slice(first)) else {
                fatal("a segment without memory has free slices", 0)
            };
            // SAFETY: the run lies in this segment's mapping, is claimed by this call, and held
            // nobody's contents while it was free.
            if unsafe { os::purge(start, bytes) } {
                let dirty = self.dirty.fetch_and(!run, Ordering::Relaxed) & run;
                counters::DIRTY_SLICES.sub(dirty.count_ones() as usize);
                purged += (dirty.count_ones() as usize) << SLICE_SHIFT;
            }
        }
        // Pairs with the `Acquire` in `take`: the next owner sees the cleared dirty bits.
        self.free.fetch_or(claimed, Ordering::Release);
        purged
    }

    /// Whether [`purge`](Self::purge) would take some of the memory now and leave some.
    pub(crate) fn is_purged_in_part(&self, all: bool) -> bool {
        let keep = if all { 0 } else { self.recent.load(Ordering::Relaxed) };
        let dirty = self.dirty();
        let goes = dirty & self.free() & !keep;
        goes != 0 && goes != dirty
    }

    /// Runs `operation` on the segment's mapping if no slice is in use or holds memory, which stays so
    /// meanwhile. Says whether the segment seemed full for a while.
    pub(crate) fn if_clean(&self, operation: impl FnOnce(NonNull<u8>)) -> bool {
        if self.dirty() != 0 || !self.own_all() {
            return false;
        }
        // Others may have been here in between.
        if self.dirty() == 0
            && let Some(base) = NonNull::new(self.base.load(Ordering::Relaxed))
        {
            operation(base);
        }
        // Pairs with the `Acquire` in `take`.
        self.free.store(USABLE, Ordering::Release);
        true
    }

    /// Takes all slices if none is in use: then nobody else reads or changes this record.
    fn own_all(&self) -> bool {
        // Pairs with `release`.
        self.free.compare_exchange(USABLE, 0, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Gives up the segment's address space if no slice is in use; says whether it did. Another
    /// mapping may be installed here later.
    pub(crate) fn unmap(&self) -> bool {
        let owned = self.own_all();
        let Some(base) = NonNull::new(self.base.load(Ordering::Relaxed)).filter(|_| owned) else {
            return false;
        };
        // Before the address can be mapped again: whoever does so gets it from the kernel after
        // this thread gave it back.
        let dirty = self.dirty.swap(0, Ordering::Relaxed);
        counters::DIRTY_SLICES.sub(dirty.count_ones() as usize);
        self.base.store(core::ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: the segment is a part of a mapping of ours, and all of it is owned by this call.
        if unsafe { os::unmap(base, SEGMENT) } {
            counters::SEGMENTS.sub(1);
            return true;
        }
        // It stayed mapped.
        self.base.store(base.as_ptr(), Ordering::Relaxed);
        self.dirty.store(USABLE, Ordering::Relaxed);
        counters::DIRTY_SLICES.add(USABLE_SLICES as usize);
        self.free.store(USABLE, Ordering::Release);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `find` should say, bit by bit.
    fn find_slowly(free: u64, count: u32, align: u32) -> Vec<u32> {
        (0..64)
            .filter(|first| first % align == 0 && first + count <= 64)
            .filter(|first| free & mask(*first, count) == mask(*first, count))
            .collect()
    }

    #[test]
    fn a_run_is_found_wherever_there_is_one() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for round in 0..3000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Dense and sparse patterns.
            let free = if round % 2 == 0 { state } else { state | state.rotate_left(21) };
            for count in 1..=64 {
                for align in [1, 2, 4, 8, 16, 32, 64] {
                    let all = find_slowly(free, count, align);
                    assert_eq!(find(free, count, align, Placement::Lowest), all.first().copied());
                    let roomy = find(free, count, align, Placement::Roomy);
                    let room = |first: u32| (free >> first).trailing_ones();
                    let roomiest =
                        all.iter().copied().max_by_key(|first| (room(*first), 64 - first));
                    assert_eq!(roomy.is_some(), roomiest.is_some());
                    let (Some(roomy), Some(roomiest)) = (roomy, roomiest) else { continue };
                    assert!(all.contains(&roomy));
                    // At the bottom of the segment, or in the middle of the longest run.
                    let rest = room(roomiest) - count;
                    let front = if roomiest == 0 { 0 } else { rest / 2 / align * align };
                    assert_eq!(roomy, roomiest + front);
                    assert_eq!(room(roomy), room(roomiest) - front);
                }
            }
        }
    }

    #[test]
    fn the_longest_run_is_counted() {
        for (bits, length) in
            [(0, 0), (1, 1), (0b1011_0111, 3), (u64::MAX, 64), (u64::MAX << 1, 63)]
        {
            assert_eq!(longest_run(bits), length, "{bits:b}");
        }
        for first in 0..SLICES {
            for count in 1..=SLICES - first {
                let with_a_shorter_one = mask(first, count) | 1;
                assert_eq!(longest_run(with_a_shorter_one), count + u32::from(first == 1));
            }
        }
    }

    #[test]
    fn what_is_around_a_slice_is_its_huge_page() {
        assert_eq!(around(0), 0);
        assert_eq!(around(1 << 7), u64::from(u32::MAX));
        assert_eq!(around(1 << 32), u64::from(u32::MAX) << 32);
        assert_eq!(around(1 << 31 | 1 << 63), u64::MAX);
    }

    #[test]
    fn claims_do_not_overlap_and_come_back() {
        crate::sync::model(claim_and_release);
    }

    fn claim_and_release() {
        let segment = Segment { free: AtomicU64::new(u64::MAX), ..Segment::new() };
        let a = segment.claim(3, 1, Placement::Lowest).unwrap();
        let b = segment.claim(16, 16, Placement::Lowest).unwrap();
        assert_eq!((a.first, a.dirty), (0, 0));
        assert_eq!((b.first, b.dirty), (16, 0));
        assert!(segment.claim_exactly(15, 2).is_none());
        assert!(segment.claim_exactly(32, 33).is_none());
        assert!(segment.claim_exactly(32, 32).is_some());
        assert!(segment.claim(64, 1, Placement::Lowest).is_none());
        assert!(!segment.release(0, 3));
        let again = segment.claim(4, 1, Placement::Lowest).unwrap();
        assert_eq!((again.first, again.dirty), (0, 0b111));
    }
}
