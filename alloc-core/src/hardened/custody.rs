//! Who has a block: it is held against the page's marks before anything else happens.
//!
//! An address that is no block, a block freed with the layout of another size class, and a block that is
//! not live, by whichever thread it was freed first, end the process on the spot, with a line that names
//! the address and the size class, or of a large or huge block its size. A block that is handed out is held
//! against them too: a cache that was damaged is found before it does harm.

use super::scrub;
use crate::arena;
use crate::class::Class;
use crate::fatal::{fatal, fatal_of_class, fatal_of_size};
use crate::large;
use crate::page::{Page, Place};
use crate::record::Kind;
use crate::unit::SLICE;

/// The page and place of a block of a class. Ends the process if there is none.
fn locate(class: Class, block: *mut u8, otherwise: &str) -> (Page, Place) {
    let number = arena::slice_number(block.addr());
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
    if !page.marks().set(place.word, place.bit, true) {
        fatal_of_class(
            "a cache was overwritten, and holds a live block",
            block.addr(),
            class.size(),
        );
    }
    // SAFETY: a block of so many bytes at a multiple of 16, which nobody has; it was cleared when it was
    // freed, or is fresh memory.
    if !unsafe { scrub::is_clear(block, class.size()) } {
        fatal_of_class("a block was written to after it was freed", block.addr(), class.size());
    }
}

/// A block is about to be the heap's again.
#[inline]
pub(crate) fn take_back(class: Class, block: *mut u8) {
    let (page, place) = locate(class, block, "freed a block that is not ours");
    if !page.marks().set(place.word, place.bit, false) {
        fatal_of_class("a block was freed twice", block.addr(), class.size());
    }
    // SAFETY: the block is live and has so many bytes; its owner gives it up.
    unsafe { scrub::clear(block, class.size()) };
}

/// A large or huge block is about to be the heap's again, whose layout has so many bytes; C gives none.
#[cold]
pub(crate) fn take_back_large(block: *mut u8, layout_bytes: Option<usize>) {
    let address = block.addr();
    let number = arena::slice_number(address);
    let found = number.and_then(|number| Some((number, arena::get(number)?)));
    let (kind, requested) = found.map_or((Kind::None, 0), |(number, arena)| {
        let slice = arena::slice_index(number);
        (arena.kind(slice), arena.head(slice).requested())
    });
    let end_with = |what: &str, bytes: Option<usize>| match bytes {
        Some(bytes) => {
            let kind = if bytes <= large::LARGE_MAX { "large" } else { "huge" };
            fatal_of_size(what, address, kind, bytes)
        }
        None => fatal(what, address),
    };
    let is_start = address.is_multiple_of(SLICE);
    match kind {
        Kind::Large | Kind::Huge if is_start => {}
        Kind::Large | Kind::Huge => {
            end_with("an address that is not the start of a block", layout_bytes);
        }
        Kind::Page(_) => {
            end_with("a block of another size class than its layout has", layout_bytes);
        }
        // What was requested of the last block that began there stays on record.
        Kind::None if is_start && requested != 0 => {
            end_with("a block was freed twice", Some(requested));
        }
        Kind::None => end_with("freed a block that is not ours", layout_bytes),
    }
}

/// Whether exactly those blocks are the program's that are neither free nor, by `cached`, in a cache.
pub(crate) fn check(page: Page, cached: &[u64]) -> Result<(), &'static str> {
    for (word, cached) in cached.iter().enumerate().take(page.words()) {
        if page.marks().get(word) != page.blocks_of_word(word) & !page.free_bits(word) & !cached {
            return Err("a block is marked as the program's and is not, or the other way round");
        }
    }
    Ok(())
}
