//! Arenas: the metadata of the address space, and the reservations behind it.
//!
//! An arena is the record of one aligned GiB of addresses. It holds, in dense arrays indexed by
//! slice, what is known of every page and block there, and by segment, which slices are free. From
//! any address its record is one load (the arena's place in [`ROOT`]) and one addition away.
//!
//! The arrays lie apart from the memory that they describe: headers at the head of each aligned
//! page would all fall into the same few sets of the caches. They are mapped whole and touched
//! piece by piece; untouched they cost address space only, about 0.6 MiB for each GiB. What is recorded of
//! pages takes 30 times as much, and is mapped with the segments that it is of.
//!
//! Arenas are never unmapped, so references to them are `'static`, and a late reader never finds
//! its record gone.

mod huge_pages;
mod page_records;
mod segments;

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, Ordering};

use crate::class::{Class, class_of_kind};
use crate::hardened::guards;
use crate::record::{Head, Kind};
use crate::segment::{Placement, Run, SEGMENT, SLICE_SHIFT, SLICES, Segment};
use crate::{counters, os, window};

use huge_pages::SegmentBits;
use page_records::PageRecords;
use segments::{Segments, Whose};

/// Slices of an arena.
pub(crate) const ARENA_SLICES: usize = 1 << ARENA_SLICES_SHIFT;
const ARENA_SLICES_SHIFT: u32 = 14;

/// Segments of an arena.
pub(crate) const ARENA_SEGMENTS: usize = ARENA_SLICES / SLICES as usize;

/// Addresses that a user process may be given have at most so many bits on both targets, unless it
/// asks the kernel for more.
const ADDRESS_BITS: u32 = 48;

const ARENAS: usize = 1 << (ADDRESS_BITS - SLICE_SHIFT - ARENA_SLICES_SHIFT);

/// Address space reserved at a time, in segments; where that is refused, less. Untouched parts cost
/// nothing, but a program that limits its address space when it runs has less left for its threads'
/// stacks.
const RESERVATIONS: [usize; 2] = [4, 1];

/// A byte for each slice, those of a segment in one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Kinds([AtomicU8; ARENA_SLICES]);

/// Record of one aligned GiB of addresses. All zero is an arena with nothing in it.
#[derive(Debug)]
pub(crate) struct Arena {
    /// What begins at each slice, as bytes: see [`Kind`]. All that a free without a layout reads,
    /// hence apart from the rest: 4 MiB of blocks are described by one cache line.
    kinds: Kinds,
    /// What every thread reads of a slice.
    heads: [Head; ARENA_SLICES],
    /// What is recorded of each segment's pages; null where no segment ever was.
    pages: [AtomicPtr<PageRecords>; ARENA_SEGMENTS],
    segments: Segments<ARENA_SEGMENTS, { ARENA_SEGMENTS / 64 }>,
    /// The segments that huge pages were asked for, and those of them that gave a part of their memory back
    /// since: they are made of ordinary ones.
    huge: SegmentBits,
    parted: SegmentBits,
    /// Next arena of [`FIRST`]'s list.
    next: AtomicPtr<Arena>,
    /// Number of its first slice: its address divided by [`SLICE`](crate::segment::SLICE).
    /// Written before the arena is published, never after.
    first_slice: AtomicU64,
}

/// The arenas by address. Written once each (`Release`, pairs with the `Acquire` in [`get`]).
static ROOT: [AtomicPtr<Arena>; ARENAS] = [const { AtomicPtr::new(ptr::null_mut()) }; ARENAS];

/// All arenas, oldest first: a list that only grows at its end, so it can be walked at any time.
static FIRST: AtomicPtr<Arena> = AtomicPtr::new(ptr::null_mut());

impl Arena {
    fn kind_byte(&self, slice: usize) -> &AtomicU8 {
        &self.kinds.0[slice % ARENA_SLICES]
    }

    pub(crate) fn kind(&self, slice: usize) -> Kind {
        // Pairs with `set_kind`.
        Kind::from_byte(self.kind_byte(slice).load(Ordering::Acquire))
    }

    /// The class of the page that a slice is part of, if it is part of one.
    #[inline(always)]
    pub(crate) fn class(&self, slice: usize) -> Option<Class> {
        // Pairs with `set_kind`.
        class_of_kind(self.kind_byte(slice).load(Ordering::Acquire))
    }

    pub(crate) fn set_kind(&self, slice: usize, kind: Kind) {
        // `Release`: who finds a page here finds its segment's `page_records`.
        self.kind_byte(slice).store(kind.to_byte(), Ordering::Release);
        window::set(self.first_slice() + (slice % ARENA_SLICES) as u32, kind.to_byte());
    }

    /// Records a large or huge block that begins at a slice, or with [`Kind::None`] that it is gone.
    pub(crate) fn describe_block(&self, slice: usize, kind: Kind, bytes: usize) {
        self.head(slice).set_bytes(bytes);
        self.set_kind(slice, kind);
    }

    pub(crate) fn head(&self, slice: usize) -> &Head {
        &self.heads[slice % ARENA_SLICES]
    }

    /// The segment that a slice is in.
    pub(crate) fn segment(&self, slice: usize) -> &Segment {
        self.segments.of_slice(slice)
    }

    pub(crate) fn first_slice(&self) -> u32 {
        self.first_slice.load(Ordering::Relaxed) as u32
    }

    /// All segments, installed or not, each with the index of its first slice.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (usize, &Segment)> {
        let first_slices = (0..).step_by(SLICES as usize);
        first_slices.zip(self.segments.all())
    }

    /// The slices that are described as this.
    pub(crate) fn slices_of_kind(&self, kind: Kind) -> impl Iterator<Item = usize> {
        let slices = self.kinds.0.iter().enumerate();
        slices
            .filter(move |(_, byte)| byte.load(Ordering::Relaxed) == kind.to_byte())
            .map(|(slice, _)| slice)
    }

    /// Whether the segment of a slice is looked at when slices are wanted.
    pub(crate) fn is_open(&self, slice: usize) -> bool {
        self.segments.is_open(slice / SLICES as usize)
    }

    /// Claims a run for a large block, in a roomy segment if that is asked for.
    #[inline]
    fn claim_for_block(
        &self,
        whose: Whose,
        user: u8,
        count: u32,
        align: u32,
        placement: Placement,
    ) -> Option<(usize, Run)> {
        let (slice, run) = self.segments.claim_for_block(whose, user, count, align, placement)?;
        if run.dirty == 0 {
            self.begin_with_block(slice, count);
        }
        Some((slice, run))
    }

    /// Claims the slices behind a run, for a block that grows in place.
    pub(crate) fn claim_behind(&self, slice: usize, have: u32, more: u32) -> Option<Run> {
        let first = (slice % SLICES as usize) as u32 + have;
        self.segment(slice).claim_exactly(first, more)
    }

    /// Purges this arena's segments; see [`Segment::purge`]. Returns the bytes.
    pub(crate) fn purge(&self, all: bool) -> usize {
        let mut purged = 0;
        for index in 0..ARENA_SEGMENTS {
            if self.segment(index * SLICES as usize).is_purged_in_part(all) {
                self.part(index * SLICES as usize);
            }
            if let Some(bytes) = self.segments.purge(index, all) {
                purged += bytes;
                self.begin_anew(index);
            }
            self.segments.forget_users(index);
        }
        purged
    }

    /// Gives a run of slices back. Where address space is short, so does the segment if it is free then.
    pub(crate) fn release(&self, slice: usize, count: u32) {
        self.segments.release(slice, count);
        self.unmap_if_short(slice);
    }

    /// The same of slices that were unused for a period already.
    pub(crate) fn release_rested(&self, slice: usize, count: u32) {
        self.segments.release_rested(slice, count);
        self.unmap_if_short(slice);
    }

    fn unmap_if_short(&self, slice: usize) {
        let segment = self.segment(slice);
        if IS_SHORT.load(Ordering::Relaxed) && segment.is_free() {
            segment.unmap();
        }
    }
}

/// The arena that a slice number lies in, if anything of ours was ever there.
#[inline]
pub(crate) fn get(number: u32) -> Option<&'static Arena> {
    let arena = ROOT[(number >> ARENA_SLICES_SHIFT) as usize].load(Ordering::Acquire);
    // SAFETY: a non-null entry was published by `get_or_make` after the arena was complete, and
    // arenas are never unmapped.
    unsafe { arena.as_ref() }
}

/// The class of the page that a block lies in; `None` for an address that lies in none.
#[inline(always)]
pub(crate) fn class_of(block: *mut u8) -> Option<Class> {
    // One comparison finds the addresses that we do not manage and keeps the index in bounds.
    let entry = ROOT.get(block.addr() >> (SLICE_SHIFT + ARENA_SLICES_SHIFT))?;
    // SAFETY: as in `get`, and `Acquire` for the same reason.
    let arena = unsafe { entry.load(Ordering::Acquire).as_ref() }?;
    arena.class(block.addr() >> SLICE_SHIFT)
}

/// The number of the slice that an address lies in; `None` outside the addresses that we manage.
#[inline]
pub(crate) fn slice_number(address: usize) -> Option<u32> {
    u32::try_from(address >> SLICE_SHIFT).ok()
}

/// Index in its arena of the slice with this number.
#[inline]
pub(crate) fn slice_index(number: u32) -> usize {
    number as usize % ARENA_SLICES
}

/// The arena that a slice number lies in, made if need be.
pub(crate) fn get_or_make(number: u32) -> Option<&'static Arena> {
    if let Some(arena) = get(number) {
        return Some(arena);
    }
    let bytes = size_of::<Arena>().next_multiple_of(os::OS_PAGE);
    let memory = os::map_sparse(bytes)?;
    let made: NonNull<Arena> = memory.cast();
    // SAFETY: the mapping is large enough, aligned to an OS page, zeroed, and all zero is a valid
    // arena: it consists of atomics alone. It is only unmapped below, before anybody sees it.
    let arena = unsafe { made.as_ref() };
    let first_slice = u64::from(number) & !(ARENA_SLICES as u64 - 1);
    arena.first_slice.store(first_slice, Ordering::Relaxed);
    window::lay_around(number);

    let entry = &ROOT[(number >> ARENA_SLICES_SHIFT) as usize];
    let published = entry.compare_exchange(
        ptr::null_mut(),
        made.as_ptr(),
        // Pairs with the `Acquire` in `get`.
        Ordering::Release,
        Ordering::Relaxed,
    );
    if published.is_err() {
        // SAFETY: another thread was first; this arena was never published and goes unused.
        unsafe { os::unmap(memory, bytes) };
        return get(number);
    }
    counters::METADATA_BYTES.add(bytes);

    append(made.as_ptr(), arena);
    Some(arena)
}

/// Puts a new arena at the end of the list.
fn append(made: *mut Arena, arena: &'static Arena) {
    debug_assert!(arena.next.load(Ordering::Relaxed).is_null());
    let mut last = &FIRST;
    // Pairs with the `Acquire` in `all`, and here follows what others appended.
    while let Err(next) =
        last.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire)
    {
        // SAFETY: not null, or the exchange had been made; what is in the list was complete before
        // it was put there, and stays mapped.
        let Some(next) = (unsafe { next.as_ref() }) else { return };
        last = &next.next;
    }
}

/// All arenas.
pub(crate) fn all() -> impl Iterator<Item = &'static Arena> {
    let follow = |link: &AtomicPtr<Arena>| -> Option<&'static Arena> {
        let arena = link.load(Ordering::Acquire);
        // SAFETY: what is in the list was complete before it was put there, and stays mapped.
        unsafe { arena.as_ref() }
    };
    core::iter::successors(follow(&FIRST), move |arena| follow(&arena.next))
}

/// Claims a run of slices for a page: where the threads of this processor have others, or else where those
/// of no other have, or else where there is room; as high up as there is any.
///
/// As long as there is one heap no segment becomes a processor's: a thread that is moved to another one
/// finds its memory where it was.
pub(crate) fn claim_for_page(count: u32) -> Option<(&'static Arena, usize, Run)> {
    let user = if counters::HEAPS.get() > 1 { processor_mark() } else { 0 };
    claim_somewhere(|arena, whose| arena.segments.claim_for_page(whose, user, count))
}

/// The same for a large block.
#[inline]
pub(crate) fn claim_for_block(
    count: u32,
    align: u32,
    placement: Placement,
) -> Option<(&'static Arena, usize, Run)> {
    let user = processor_mark();
    claim_somewhere(|arena, whose| arena.claim_for_block(whose, user, count, align, placement))
}

/// A number for the processor that the calling thread runs on, not 0. Processors that are far apart may
/// have the same.
fn processor_mark() -> u8 {
    (os::processor() % usize::from(u8::MAX)) as u8 + 1
}

/// Claims a run in the first arena that has one where it is best placed.
#[inline]
fn claim_somewhere(
    claim: impl Fn(&'static Arena, Whose) -> Option<(usize, Run)>,
) -> Option<(&'static Arena, usize, Run)> {
    segments::in_turn(|whose| {
        for arena in all() {
            if let Some((slice, run)) = claim(arena, whose) {
                return Some((arena, slice, run));
            }
        }
        None
    })
}

/// Whether at least so many slices are free and may hold memory of the OS. Others claim and release them
/// meanwhile: what is wrong by a few is put right by the next look.
pub(crate) fn has_unused_slices(enough: usize) -> bool {
    let mut found = 0;
    all().any(|arena| {
        arena.segments.open().any(|segment| {
            found += segment.unused() as usize;
            found >= enough
        })
    })
}

/// Segments without any slice in use.
pub(crate) fn free_segments() -> usize {
    all().map(|arena| arena.segments.all().filter(|segment| segment.is_free()).count()).sum()
}

/// Gives up the address space of all free segments. Says whether there was any.
pub(crate) fn unmap_free_segments() -> bool {
    let mut any = false;
    for segment in all().flat_map(|arena| arena.segments.all()) {
        any |= segment.unmap();
    }
    any
}

/// Whether a reservation was refused: the address space is limited, and others need it too, for the
/// stacks of threads first of all.
static IS_SHORT: AtomicBool = AtomicBool::new(false);

/// Reserves more address space for segments. Says whether there is any more.
pub(crate) fn reserve() -> bool {
    let is_reserved = RESERVATIONS.iter().any(|segments| reserve_segments(*segments));
    if !is_reserved {
        IS_SHORT.store(true, Ordering::Relaxed);
    }
    is_reserved
}

fn reserve_segments(count: usize) -> bool {
    let bytes = count * SEGMENT;
    let Some(start) = guards::map_segments(bytes) else { return false };
    let is_huge = huge_pages::are_worth_it_for_pages();
    if is_huge {
        // SAFETY: the mapping was made above.
        unsafe { os::prefer_huge_pages(start, bytes) };
    }
    // The records first: a reservation may lie across two arenas, and any may be refused.
    let ends = [start.addr().get(), start.addr().get() + (bytes - 1)];
    let has_records =
        ends.into_iter().all(|end| slice_number(end).is_some_and(|n| get_or_make(n).is_some()));
    if !has_records || !page_records::provide(start, count) {
        // SAFETY: the mapping was made above and no segment of it is in use yet.
        unsafe { os::unmap(start, bytes) };
        return false;
    }
    for index in 0..count {
        // SAFETY: `index` is below `count`, so the segment starts inside the mapping.
        let base = unsafe { start.add(index * SEGMENT) };
        let found = slice_number(base.addr().get()).and_then(|number| Some((number, get(number)?)));
        // Both ends were found above and a reservation is smaller than an arena.
        let Some((number, arena)) = found else { continue };
        arena.decide(slice_index(number) / SLICES as usize, is_huge);
        arena.segment(slice_index(number)).install(base);
        arena.segments.set_open(slice_index(number) / SLICES as usize);
    }
    true
}

const _: () = assert!(RESERVATIONS[0] < ARENA_SEGMENTS);
