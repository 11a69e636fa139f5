//! Large blocks (runs of slices in a segment) and huge ones (mappings of their own).
//!
//! Neither belongs to a thread: they are claimed and released by atomic operations on segments, or
//! by the OS, so these functions may interrupt each other and need no heap. (Only where memory is out they
//! have the thread's give up what it keeps.) All blocks here begin at a multiple of [`SLICE`], which makes
//! the slice's head their record.

use core::alloc::Layout;
use core::iter;
use core::ptr::{self, NonNull};

use crate::arena::{self, Arena};
use crate::fatal::fatal;
use crate::hardened::{IS_HARDENED, guards, scrub};
use crate::place::Place;
use crate::record::{Head, Kind};
use crate::segment::{
    Placement, Run, SEGMENT, SLICE, SLICE_SHIFT, SLICES, Segment, USABLE_SLICES, mask,
};
use crate::{counters, decay, os, purger, spare, thread, tool};

/// Largest block that is a run of slices.
pub(crate) const LARGE_MAX: usize = USABLE_SLICES as usize * SLICE;

/// Bytes from which a growing block is made of huge pages.
const HUGE_PAGES_FROM: usize = 16 << 20;

/// What a block must be filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Anything.
    Any,
    /// Zeros.
    Zero,
}

/// Where a block is recorded.
#[derive(Clone, Copy)]
struct Record {
    arena: &'static Arena,
    slice: usize,
    number: u32,
}

impl Record {
    fn of(block: NonNull<u8>) -> Option<Self> {
        let number = arena::slice_number(block.addr().get())?;
        Some(Self { arena: arena::get(number)?, slice: arena::slice_index(number), number })
    }

    fn head(&self) -> &'static Head {
        self.arena.head(self.slice)
    }

    fn kind(&self) -> Kind {
        self.arena.kind(self.slice)
    }

    fn describe(&self, kind: Kind, bytes: usize) {
        self.arena.describe_block(self.slice, kind, bytes);
    }

    /// The block, of which this is the record if it is a large one.
    fn block(&self) -> *mut u8 {
        self.arena.segment(self.slice).slice(self.slice as u32 % SLICES)
    }

    /// Ends the process unless `block` is where this record's block begins.
    fn expect_start(&self, block: NonNull<u8>) {
        if block.addr().get() != (self.number as usize) << SLICE_SHIFT {
            fatal("an address that is not the start of a block", block.addr().get());
        }
    }
}

/// Slices that hold so many bytes.
fn slices(bytes: usize) -> usize {
    bytes.div_ceil(SLICE).max(1)
}

/// Allocates a block of any size and alignment. Null when that cannot be.
#[cold]
pub(crate) fn alloc<P: Place>(layout: Layout, fill: Fill) -> *mut u8 {
    alloc_at::<P>(Placement::Lowest, layout, fill)
}

/// Allocates a block that takes another one's place because that had to grow, and so may grow again.
#[cold]
pub(crate) fn alloc_growing<P: Place>(layout: Layout) -> *mut u8 {
    alloc_at::<P>(Placement::Roomy, layout, Fill::Any)
}

fn alloc_at<P: Place>(placement: Placement, layout: Layout, fill: Fill) -> *mut u8 {
    let block = claim_or_map(placement, layout, fill).or_else(|| {
        // Memory is out: what is kept for small blocks is needed now, if it could be enough.
        let is_worth_it = counters::SEGMENTS.get() >= layout.size().div_ceil(SEGMENT);
        (is_worth_it && thread::give_up_unused::<P>())
            .then(|| claim_or_map(placement, layout, fill))?
    });
    block.map_or(ptr::null_mut(), NonNull::as_ptr)
}

fn claim_or_map(placement: Placement, layout: Layout, fill: Fill) -> Option<NonNull<u8>> {
    let align = layout.align().max(SLICE);
    if layout.size() <= LARGE_MAX && align <= SEGMENT {
        alloc_large(layout.size(), (align / SLICE) as u32, fill, placement)
    } else {
        alloc_huge(layout.size(), align, fill).inspect(|block| note_request(*block, layout.size()))
    }
}

/// Notes what the program asked for in a huge block, for statistics.
fn note_request(block: NonNull<u8>, bytes: usize) {
    if let Some(record) = Record::of(block) {
        record.head().set_requested(bytes);
    }
}

fn alloc_large(size: usize, align: u32, fill: Fill, placement: Placement) -> Option<NonNull<u8>> {
    let count = slices(size) as u32;
    let (arena, slice, run) = loop {
        if let Some(claimed) = arena::claim_for_block(count, align, placement) {
            break claimed;
        }
        // Others may take what one of us reserved, hence the loop.
        if !arena::reserve() {
            return None;
        }
    };
    let segment = arena.segment(slice);
    arena.describe_block(slice, Kind::Large, count as usize * SLICE);
    arena.head(slice).set_requested(size);
    expect_clear(segment, &run, segment.slice(run.first));
    if fill == Fill::Zero {
        // Slices that were never used, or purged since, are zero as they come.
        for (start, bytes) in dirty_parts(segment, &run) {
            tool::opened(start, bytes);
            // SAFETY: a part of the run that was claimed above.
            unsafe { start.write_bytes(0, bytes) };
        }
    }
    NonNull::new(segment.slice(run.first))
}

/// The parts of a run, each a number of bytes, that may hold something other than zeros.
fn dirty_parts(segment: &Segment, run: &Run) -> impl Iterator<Item = (*mut u8, usize)> {
    let mut dirty = run.dirty;
    iter::from_fn(move || {
        (dirty != 0).then(|| {
            let first = dirty.trailing_zeros();
            let length = (dirty >> first).trailing_ones();
            dirty &= !mask(first, length);
            (segment.slice(first), length as usize * SLICE)
        })
    })
}

/// Ends the process, in the hardened build, if a run that `block` is given was written to after it was
/// freed.
fn expect_clear(segment: &Segment, run: &Run, block: *mut u8) {
    if !IS_HARDENED {
        return;
    }
    for (start, bytes) in dirty_parts(segment, run) {
        // SAFETY: a part of a run that was claimed for the block, and nobody has yet; what was freed
        // in it was cleared then.
        if !unsafe { scrub::is_clear(start, bytes) } {
            fatal("a block was written to after it was freed", block.addr());
        }
    }
}

fn alloc_huge(size: usize, align: usize, fill: Fill) -> Option<NonNull<u8>> {
    let bytes = huge_bytes(size)?;
    // Zeros are had from the OS, where they are touched: clearing takes about as long as it does.
    let kept = if fill == Fill::Any { spare::take(bytes, align) } else { None };
    let (block, bytes) = match kept {
        Some(kept) => kept,
        None => {
            spare::make_room(bytes);
            (map(bytes, align)?, bytes)
        }
    };
    tool::closed(block.as_ptr(), bytes);
    // The record takes memory too, where it is the first of its arena.
    if register_huge(block, bytes) || (arena::unmap_free_segments() && register_huge(block, bytes))
    {
        return Some(block);
    }
    // SAFETY: a whole mapping, had above, and nobody has seen it.
    unsafe { guards::unmap_huge(block, bytes) };
    None
}

/// Maps memory for a huge block. Where there is none to be had, mappings that are kept are given up for it,
/// and then free segments, as the address space may be limited and used up.
fn map(bytes: usize, align: usize) -> Option<NonNull<u8>> {
    let map = || guards::map_huge(bytes, align);
    let without_spares = || (spare::purge(true) != 0).then(map)?;
    map().or_else(without_spares).or_else(|| {
        let is_worth_it = arena::free_segments() >= bytes.div_ceil(SEGMENT);
        (is_worth_it && arena::unmap_free_segments()).then(map)?
    })
}

/// What a huge block of this size takes; `None` for sizes that no process can have.
fn huge_bytes(size: usize) -> Option<usize> {
    size.max(1).checked_next_multiple_of(os::OS_PAGE).filter(|bytes| *bytes <= isize::MAX as usize)
}

/// Records a huge block. `false` when there is no memory for the record.
fn register_huge(block: NonNull<u8>, bytes: usize) -> bool {
    let number = arena::slice_number(block.addr().get());
    let Some((number, arena)) = number.and_then(|n| Some((n, arena::get_or_make(n)?))) else {
        return false;
    };
    arena.describe_block(arena::slice_index(number), Kind::Huge, bytes);
    counters::HUGE_BLOCKS.add(1);
    counters::HUGE_BYTES.add(bytes);
    true
}

/// Strikes a huge block off the record.
fn unregister_huge(record: Record) {
    counters::HUGE_BLOCKS.sub(1);
    counters::HUGE_BYTES.sub(record.head().bytes());
    record.describe(Kind::None, 0);
}

/// What the program asked of a live block, in bytes.
pub(crate) fn requested(block: NonNull<u8>) -> usize {
    Record::of(block).map_or(0, |record| record.head().requested())
}

/// Frees a block that [`alloc`] returned.
///
/// # Safety
///
/// - `block` came from [`alloc`] or [`realloc_in_place`] and was not freed since.
/// - Nobody uses it any more.
#[cold]
pub(crate) unsafe fn dealloc(block: NonNull<u8>) {
    let Some(record) = Record::of(block) else {
        fatal("freed a block that is not ours", block.addr().get())
    };
    let bytes = record.head().bytes();
    match record.kind() {
        Kind::Large => {
            record.expect_start(block);
            record.describe(Kind::None, 0);
            // SAFETY: the whole block, which the caller gives up.
            unsafe { scrub::clear(block.as_ptr(), bytes) };
            record.arena.release(record.slice, (bytes / SLICE) as u32);
            note_freed(bytes / SLICE);
        }
        Kind::Huge => {
            record.expect_start(block);
            counters::HUGE_PEAK.raise_to(counters::HUGE_BYTES.get());
            // Before the address can be anybody else's.
            unregister_huge(record);
            if !spare::keep(block, bytes) {
                // SAFETY: the whole mapping of the block, which the caller gives up.
                unsafe { guards::unmap_huge(block, bytes) };
            }
            decay::tick();
        }
        Kind::None | Kind::Page(_) => {
            fatal("freed a large block that is not ours", block.addr().get())
        }
    }
}

/// Sees to it that slices which became free go back to the OS some time.
#[inline]
fn note_freed(slices: usize) {
    let now = os::now_ms();
    purger::slices_were_freed_at(now, slices);
    decay::tick_at(now);
}

/// Changes a block's size, without copying its bytes. Null, with the block unchanged, when that
/// cannot be; otherwise the block, perhaps at another address.
///
/// # Safety
///
/// - `block` came from [`alloc`] or this function, with alignment `align`, and is live.
/// - Nobody but the caller uses it.
#[cold]
pub(crate) unsafe fn resize(block: NonNull<u8>, align: usize, new_size: usize) -> *mut u8 {
    let Some(record) = Record::of(block) else {
        fatal("reallocated a block that is not ours", block.addr().get())
    };
    match record.kind() {
        Kind::Large => {
            record.expect_start(block);
            if !resize_large(record, new_size) {
                return ptr::null_mut();
            }
            record.head().set_requested(new_size);
            block.as_ptr()
        }
        Kind::Huge => {
            record.expect_start(block);
            // SAFETY: passed on.
            let resized = unsafe { resize_huge(block, record, align, new_size) };
            let Some(resized) = resized else { return ptr::null_mut() };
            note_request(resized, new_size);
            resized.as_ptr()
        }
        Kind::None | Kind::Page(_) => {
            fatal("reallocated a large block that is not ours", block.addr().get())
        }
    }
}

/// Grows a large block into the free slices behind it, or cuts slices off its end.
fn resize_large(record: Record, new_size: usize) -> bool {
    let have = record.head().bytes() / SLICE;
    let need = slices(new_size);
    if need > USABLE_SLICES as usize {
        return false;
    }
    if need > have {
        let more = (need - have) as u32;
        let Some(run) = record.arena.claim_behind(record.slice, have as u32, more) else {
            return false;
        };
        expect_clear(record.arena.segment(record.slice), &run, record.block());
        record.describe(Kind::Large, need * SLICE);
    } else if need < have {
        record.describe(Kind::Large, need * SLICE);
        let rest = record.block().wrapping_add(need * SLICE);
        // SAFETY: the block's end, which its owner gives up.
        unsafe { scrub::clear(rest, (have - need) * SLICE) };
        record.arena.release(record.slice + need, (have - need) as u32);
        note_freed(have - need);
    }
    true
}

/// Resizes the mapping in place, or else moves its page tables.
///
/// # Safety
///
/// As for [`resize`]; `record` is the block's.
unsafe fn resize_huge(
    block: NonNull<u8>,
    record: Record,
    align: usize,
    new_size: usize,
) -> Option<NonNull<u8>> {
    let old = record.head().bytes();
    let new = huge_bytes(new_size)?;
    if new == old {
        return Some(block);
    }
    if new > old {
        spare::make_room(new - old);
    }
    // A block that becomes less than a segment is better off in one.
    if new_size <= LARGE_MAX && align <= SEGMENT {
        return None;
    }
    // SAFETY: the block's whole mapping; what a shrink cuts off is past what the caller keeps.
    if unsafe { guards::resize_huge(block, old, new) } {
        if new > old {
            counters::HUGE_BYTES.add(new - old);
        } else {
            counters::HUGE_BYTES.sub(old - new);
        }
        record.describe(Kind::Huge, new);
        prefer_huge_pages(block, old, new);
        return Some(block);
    }
    if new < old {
        // It would not shrink: the block serves as it is.
        return Some(block);
    }
    let align = if new < HUGE_PAGES_FROM { align.max(SLICE) } else { align.max(os::HUGE_PAGE) };
    move_huge(block, record, old, new, align)
}

/// A block that has grown so far is made of huge pages from then on. One that was asked for at once
/// is not: it may be meant to be touched here and there, while what grows is filled from its front.
fn prefer_huge_pages(block: NonNull<u8>, old: usize, new: usize) {
    if new > old && new >= HUGE_PAGES_FROM {
        // SAFETY: the block's whole mapping.
        unsafe { os::prefer_huge_pages(block, new) };
    }
}

/// Moves a huge block to where there is room for it.
fn move_huge(
    block: NonNull<u8>,
    record: Record,
    old: usize,
    new: usize,
    align: usize,
) -> Option<NonNull<u8>> {
    // Where the address space is limited this would need room for the growth twice, and where that is
    // not to be had, the target would be lost with it: see below. The caller copies.
    if os::is_address_space_limited() {
        return None;
    }
    // Reserved first: a plain `MREMAP_MAYMOVE` would not keep the alignment.
    let target = map(new, align)?;
    if !register_huge(target, new) {
        // SAFETY: mapped above, and nobody has seen it.
        unsafe { guards::unmap_huge(target, new) };
        return None;
    }
    // Struck off before the old addresses can be given to anybody else.
    unregister_huge(record);
    // SAFETY: the block's whole mapping, which only the caller of `resize` uses, and the one made
    // above, which nobody does.
    if unsafe { guards::relocate_huge(block, old, target, new) } {
        prefer_huge_pages(target, old, new);
        return Some(target);
    }
    register_huge(block, old);
    if let Some(record) = Record::of(target) {
        unregister_huge(record);
    }
    // The kernel may have unmapped the target before it failed, and unmapping it again would be
    // wrong once another thread was given that range. So it is left: address space is lost where the
    // process is out of mappings, or the kernel promises no more memory than it has.
    None
}
