//! The hardened build: what the feature `hardened` adds. In the ordinary build `plain.rs` stands in
//! this place.
//!
//! The ordinary heap keeps no links in blocks, so there are none that a stray write could bend, and
//! it finds a block that was freed twice when the block goes back to its page. Here, beside that:
//!
//! - **Which blocks the program has** is kept in bits of their own. A free is held against them
//!   before anything else happens: an address that is no block, a block freed with the layout of
//!   another size class, and a block that is not live, by whichever thread it was freed first, end
//!   the process on the spot, with a line that names the address and the size class. A block that is
//!   handed out is held against them too: a cache that was damaged is found before it does harm.
//! - **Cached pointers are encoded** with a random key, so that what a write through a stray pointer
//!   leaves in a cache is no address, and what it reads there is none.
//! - **Blocks are cleared when they are freed**, and looked at when they are handed out: a block
//!   that is not all zero then was written to after it was freed.
//! - **The order** in which a page's blocks are handed out is random.
//! - **Guards**: the last 64 KiB of each segment, as much before the first segment of each
//!   reservation, and as much on both sides of each huge block, are not accessible.
//!
//! The random numbers are the kernel's (`AT_RANDOM`) and those of a generator that it seeds: good
//! against accidents and against an attacker who cannot read memory, no cryptography.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::class::Class;
use crate::fatal::{fatal, fatal_of_class};
use crate::page::{Page, Place};
use crate::record::WORDS;
use crate::segment::{SEGMENT, SLICE};
use crate::{os, tool};

/// Whether this is the hardened build.
pub(crate) const IS_HARDENED: bool = true;

/// Slices at the end of each segment that are kept inaccessible.
pub(crate) const GUARD_SLICES: u32 = 1;

/// Whether a page's blocks are handed out in an order that nobody can tell.
pub(crate) const RANDOM_ORDER: bool = true;

/// Which blocks of a page the program has: a bit each. They are changed by whichever thread frees or
/// is given a block; one block has one such thread at a time, so `Relaxed` does.
#[derive(Debug)]
pub(crate) struct Marks([AtomicU64; WORDS]);

impl Marks {
    /// Marks a block as the program's or not. Says whether it was the other before.
    fn set(&self, place: Place, is_live: bool) -> bool {
        let Some(word) = self.0.get(place.word) else { return false };
        if is_live {
            word.fetch_or(place.bit, Ordering::Relaxed) & place.bit == 0
        } else {
            word.fetch_and(!place.bit, Ordering::Relaxed) & place.bit != 0
        }
    }
}

/// What cached pointers are encoded with; 0 until it is chosen.
static KEY: AtomicUsize = AtomicUsize::new(0);

/// No address has this bit, so that no encoded one is null.
const KEY_BIT: usize = 1 << 63;

/// State of the generator. It is read and written apart: threads that race get the same number,
/// which does no harm.
static STATE: AtomicU64 = AtomicU64::new(0);

#[inline]
fn key() -> usize {
    let key = KEY.load(Ordering::Relaxed);
    if key != 0 { key } else { choose_key() }
}

#[cold]
fn choose_key() -> usize {
    let [key, seed] = os::startup_random();
    STATE.store(seed, Ordering::Relaxed);
    let key = key as usize | KEY_BIT;
    match KEY.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => key,
        Err(first) => first,
    }
}

/// A block as it is written into a cache. Null stays null.
#[inline]
pub(crate) fn encode(block: *mut u8) -> *mut u8 {
    if block.is_null() { block } else { block.map_addr(|address| address ^ key()) }
}

/// A block as it was before it was encoded.
#[inline]
pub(crate) fn decode(block: *mut u8) -> *mut u8 {
    encode(block)
}

/// A number below `limit`, which is not 0. Steele, Lea and Flood's SplitMix64 (2014).
#[inline]
pub(crate) fn random(limit: u32) -> u32 {
    // The key seeds the generator.
    key();
    let state = STATE.load(Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.store(state, Ordering::Relaxed);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (((mixed >> 32) * u64::from(limit)) >> 32) as u32
}

/// The page and place of a block of a class. Ends the process if there is none.
fn locate(class: Class, block: *mut u8, otherwise: &str) -> (Page, Place) {
    let number = crate::arena::slice_number(block.addr());
    let Some(page) = number.and_then(Page::of_slice) else {
        fatal_of_class(otherwise, block.addr(), class.size())
    };
    if page.class() != class {
        fatal_of_class(
            "a block of another size class than its layout has",
            block.addr(),
            class.size(),
        );
    }
    let Some(place) = page.extent().find(block) else {
        fatal_of_class("an address that is not the start of a block", block.addr(), class.size())
    };
    (page, place)
}

/// A block is about to be the program's; null is none.
#[inline]
pub(crate) fn hand_out(class: Class, block: *mut u8) {
    if block.is_null() {
        return;
    }
    let (page, place) = locate(class, block, "a cache was overwritten, and holds what is no block");
    if !page.marks().set(place, true) {
        fatal_of_class(
            "a cache was overwritten, and holds a live block",
            block.addr(),
            class.size(),
        );
    }
    if tool::IS_TOLD {
        // It finds the same, earlier, and would blame the look below.
        return;
    }
    // SAFETY: a block of so many bytes, a multiple of 16 at a multiple of 16, which nobody has; it
    // was cleared when it was freed, or fresh memory.
    let bytes = unsafe { core::slice::from_raw_parts(block.cast::<u128>(), class.size() / 16) };
    if bytes.iter().any(|bytes| *bytes != 0) {
        fatal_of_class("a block was written to after it was freed", block.addr(), class.size());
    }
}

/// A block is about to be the heap's again.
#[inline]
pub(crate) fn take_back(class: Class, block: *mut u8) {
    let (page, place) = locate(class, block, "freed a block that is not ours");
    if !page.marks().set(place, false) {
        fatal_of_class("a block was freed twice", block.addr(), class.size());
    }
    // SAFETY: the block is live and has so many bytes; its owner gives it up.
    unsafe { clear(block, class.size()) };
}

/// Clears memory that is given up.
///
/// # Safety
///
/// - `bytes` bytes from `start` on are valid for writes, and nobody uses them.
#[inline]
pub(crate) unsafe fn clear(start: *mut u8, bytes: usize) {
    if tool::IS_TOLD {
        return;
    }
    // SAFETY: by the caller's promise.
    unsafe { ptr::write_bytes(start, 0, bytes) };
}

/// Maps memory for segments, with a guard before it.
pub(crate) fn map_segments(bytes: usize) -> Option<NonNull<u8>> {
    let start = os::map_aligned(bytes.checked_add(SEGMENT)?, SEGMENT)?;
    // SAFETY: a part of the mapping that was just made, of which nobody knows.
    unsafe { os::unmap(start, SEGMENT - SLICE) };
    // SAFETY: inside of the mapping.
    let guard_start = unsafe { start.add(SEGMENT - SLICE) };
    guard(guard_start.as_ptr());
    // SAFETY: inside of the mapping.
    Some(unsafe { start.add(SEGMENT) })
}

/// Maps memory for a huge block, with a guard on either side.
pub(crate) fn map_huge(bytes: usize, align: usize) -> Option<NonNull<u8>> {
    let whole = bytes.checked_add(2 * SLICE)?;
    let start = os::map_aligned_at(SLICE, whole, align.max(SLICE))?;
    // SAFETY: inside of the mapping.
    let block = unsafe { start.add(SLICE) };
    let [first, second] = guards(block, bytes);
    guard(first);
    guard(second);
    Some(block)
}

/// Where the guards of a huge block begin.
fn guards(block: NonNull<u8>, bytes: usize) -> [*mut u8; 2] {
    [block.as_ptr().wrapping_sub(SLICE), block.as_ptr().wrapping_add(bytes)]
}

/// Returns a huge block to the OS.
///
/// # Safety
///
/// - [`map_huge`] mapped it with so many bytes, or [`resize_huge`] made it as long.
/// - Nobody uses it any more, now or later.
pub(crate) unsafe fn unmap_huge(block: NonNull<u8>, bytes: usize) {
    if let Some(start) = NonNull::new(guards(block, bytes)[0]) {
        // SAFETY: the block and its guards, which are one range.
        unsafe { os::unmap(start, bytes + 2 * SLICE) };
    }
}

/// Makes a huge block shorter, if what goes has room for its new guard. `false` leaves it unchanged:
/// it does not grow where it is, as its guard is in the way.
///
/// # Safety
///
/// - As for [`unmap_huge`], but that the part which stays may be in use.
pub(crate) unsafe fn resize_huge(block: NonNull<u8>, bytes: usize, new_bytes: usize) -> bool {
    if bytes < new_bytes.saturating_add(SLICE) {
        return false;
    }
    // SAFETY: inside of the block.
    let end = unsafe { block.add(new_bytes) };
    // SAFETY: a part of the block that nobody uses.
    if !unsafe { os::protect(end, SLICE) } {
        return false;
    }
    // SAFETY: inside of the block, or its end.
    let rest = unsafe { end.add(SLICE) };
    // SAFETY: what is left of the block's end, and its old guard.
    unsafe { os::unmap(rest, bytes - new_bytes) };
    true
}

/// Moves a huge block into another one, as [`os::relocate`] does.
///
/// # Safety
///
/// - As for [`os::relocate`]; both are huge blocks.
pub(crate) unsafe fn relocate_huge(
    block: NonNull<u8>,
    bytes: usize,
    target: NonNull<u8>,
    new_bytes: usize,
) -> bool {
    // SAFETY: passed on. The accessible part of each is a mapping of its own.
    let is_moved = unsafe { os::relocate(block, bytes, target, new_bytes) };
    if is_moved {
        for start in guards(block, bytes).into_iter().filter_map(NonNull::new) {
            // SAFETY: a guard of a block that is no longer there.
            unsafe { os::unmap(start, SLICE) };
        }
    }
    is_moved
}

/// Makes a slice inaccessible, which nobody uses. One that the OS leaves as it is, is a slice that
/// goes unused.
pub(crate) fn guard(slice: *mut u8) {
    let Some(slice) = NonNull::new(slice) else { fatal("a segment without memory", 0) };
    // SAFETY: a slice of a mapping of ours that nobody uses, now or later.
    unsafe { os::protect(slice, SLICE) };
}

/// Whether exactly those blocks are the program's that are neither free nor, by `cached`, in a cache.
pub(crate) fn check(page: Page, cached: &[u64]) -> Result<(), &'static str> {
    for (word, cached) in cached.iter().enumerate().take(page.words()) {
        let marked = page.marks().0.get(word).map_or(0, |word| word.load(Ordering::Relaxed));
        if marked != page.blocks_of_word(word) & !page.free_bits(word) & !cached {
            return Err("a block is marked as the program's and is not, or the other way round");
        }
    }
    Ok(())
}
