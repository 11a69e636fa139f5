//! Whether the whole heap fits together: what one record says is what the others say.
//!
//! [`Heap::check`] looks at one heap's lists and caches, [`Page::check`] at one page's record. Here
//! they are held against each other, against the segments, and against the counters. Nothing may be
//! under way meanwhile.

use core::ptr;

use crate::arena::{self, Arena};
use crate::class::Class;
use crate::hardened::custody;
use crate::heap::Heap;
use crate::page::Page;
use crate::record::Kind;
use crate::segment::{SLICE, SLICES, Segment, USABLE_SLICES};
use crate::walk::Cached;
use crate::{counters, pool, walk};

/// What is in use, found by looking.
#[derive(Debug, Default)]
struct Found {
    segments: usize,
    page_slices: usize,
    /// Pages that say that they are in their heap's list.
    listed: usize,
}

/// What is wrong with the heap, if anything.
pub(crate) fn all() -> Result<(), &'static str> {
    let mut listed = 0;
    for heap in pool::all() {
        heap.check()?;
        listed += Class::all().map(|class| heap.listed(class)).sum::<usize>();
    }
    pool::check()?;

    let mut found = Found::default();
    for arena in arena::all() {
        for (first, segment) in arena.segments() {
            if !segment.slice(0).is_null() {
                found.segments += 1;
                found.add_segment(arena, first, segment)?;
            }
        }
    }
    if found.listed != listed {
        return Err("pages are listed that say they are not, or say so and are not");
    }
    found.compare_with_counters()
}

impl Found {
    fn compare_with_counters(&self) -> Result<(), &'static str> {
        let huge_bytes: usize = walk::huge_blocks().map(|block| block.bytes).sum();
        let pairs = [
            (self.segments, counters::SEGMENTS.get(), "segments are counted wrong"),
            (self.page_slices, counters::PAGE_SLICES.get(), "slices of pages are counted wrong"),
            (
                walk::huge_blocks().count(),
                counters::HUGE_BLOCKS.get(),
                "huge blocks are counted wrong",
            ),
            (huge_bytes, counters::HUGE_BYTES.get(), "bytes of huge blocks are counted wrong"),
            (pool::all().count(), counters::HEAPS.get(), "heaps are counted wrong"),
        ];
        let wrong = pairs.into_iter().find(|(found, counter, _)| found != counter);
        wrong.map_or(Ok(()), |(_, _, what)| Err(what))
    }

    /// Looks at all slices of an installed segment.
    fn add_segment(
        &mut self,
        arena: &'static Arena,
        first: usize,
        segment: &Segment,
    ) -> Result<(), &'static str> {
        if segment.free() != 0 && !arena.is_open(first) {
            return Err("a segment with free slices is not open");
        }
        let end = first + USABLE_SLICES as usize;
        let mut slice = first;
        while slice < end {
            let is_free = segment.free() & (1 << (slice - first)) != 0;
            let slices = match arena.kind(slice) {
                Kind::None if is_free => 1,
                Kind::None => return Err("a slice is in use for nothing"),
                _ if is_free => return Err("a free slice is described as in use"),
                Kind::Page(_) => self.add_page(arena, slice)?,
                Kind::Large => self.add_large(arena, slice)?,
                Kind::Huge => return Err("a huge block is in a segment"),
            };
            slice += slices;
        }
        if slice != end {
            return Err("something reaches past its segment");
        }
        Ok(())
    }

    /// Looks at the page that begins at a slice. Returns its slices.
    fn add_page(&mut self, arena: &'static Arena, slice: usize) -> Result<usize, &'static str> {
        let number = arena.first_slice() + slice as u32;
        let page = Page::of_slice(number).filter(|page| page.number() == number);
        let Some(page) = page else { return Err("a page's first slice does not lead to itself") };
        page.check()?;
        check_owner(page)?;
        let cached = Cached::of(page);
        if cached.twice != 0 {
            return Err("a block is cached twice");
        }
        let is_both = |(word, bits): (usize, &u64)| page.free_bits(word) & bits != 0;
        if cached.bits.iter().enumerate().any(is_both) {
            return Err("a cached block is free in its page");
        }
        custody::check(page, &cached.bits)?;
        let is_listed = page.local().listed.get() != 0;
        if is_listed != (page.free() != 0) {
            return Err("a page is listed without free blocks, or has some and is not listed");
        }
        let slices = page.class().shape().slices as usize;
        self.page_slices += slices;
        self.listed += usize::from(is_listed);
        Ok(slices)
    }

    /// Looks at the large block that begins at a slice. Returns its slices.
    fn add_large(&mut self, arena: &'static Arena, slice: usize) -> Result<usize, &'static str> {
        let bytes = arena.head(slice).bytes();
        let slices = bytes / SLICE;
        if slices == 0 || !bytes.is_multiple_of(SLICE) {
            return Err("a large block has no whole number of slices");
        }
        for slice in slice + 1..slice + slices {
            if arena.kind(slice) != Kind::None {
                return Err("a large block overlaps something");
            }
            if arena.segment(slice).free() & (1 << (slice % SLICES as usize)) != 0 {
                return Err("a slice of a large block is free");
            }
        }
        Ok(slices)
    }
}

/// Whether a page belongs to one of the heaps, and its remote side is counted right.
fn check_owner(page: Page) -> Result<(), &'static str> {
    let is_owner = |heap: &Heap| ptr::eq(page.owner(), &raw const heap.owner);
    if !pool::all().any(is_owner) {
        return Err("a page belongs to no heap");
    }
    let bits: u32 = (0..page.words()).map(|word| page.remote().bits(word).count_ones()).sum();
    if i64::from(page.remote().counted()) != i64::from(bits) {
        return Err("a page counts other than its remote frees");
    }
    Ok(())
}
