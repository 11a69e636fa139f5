//! What begins at each slice, once more, for the addresses around the heap's first ones.
//!
//! `free` is told an address and nothing else, and has to learn the class of the block there. The
//! arenas know it for all addresses, but are found through a table of pointers: a bounds check, two
//! loads that wait for each other, and a check for null. The kernel places mappings next to each
//! other, though, so that one array over 64 GiB of addresses knows nearly every block that a
//! program has, by one bounds check and one load. What lies outside of it, the arenas are asked for.
//!
//! The array is a megabyte of zeros in the image, of which 4 KiB are touched for each 256 MiB of
//! addresses.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};

use crate::class::{Class, kind_of_class};
use crate::unit::{self, SLICE_SHIFT};

/// Slices that the window has: 64 GiB.
const SLICES: usize = 1 << 20;

/// No slice is as far from any address.
pub(crate) const NOWHERE: usize = 1 << (usize::BITS - 1);

/// Number of the window's first slice. Written once, before anything is set in the window; whoever
/// frees a block was handed it in some ordered way, and sees this and the block's kind too.
static FIRST: AtomicUsize = AtomicUsize::new(NOWHERE);

static WINDOW: Window = Window {
    block_bytes: [const { AtomicU32::new(0) }; 1 << u8::BITS],
    kinds: [const { AtomicU8::new(0) }; SLICES],
};

/// What is read of a block, one thing after the other: both are found from one address.
#[repr(C, align(64))]
struct Window {
    /// Bytes of a block in a page by the page's kind; 0 for any other kind. Here, where all is zero at
    /// first, it is filled in before the window is laid.
    block_bytes: [AtomicU32; 1 << u8::BITS],
    /// A byte for each slice, as [`Kind::to_byte`](crate::record::Kind::to_byte) has it; those of a segment
    /// in one cache line.
    kinds: [AtomicU8; SLICES],
}

/// Lays the window around a slice, if it lies nowhere yet.
pub(crate) fn lay_around(number: u32) {
    if first() != NOWHERE {
        return;
    }
    for class in Class::all() {
        let place = WINDOW.block_bytes.get(usize::from(kind_of_class(class)));
        let Some(place) = place else { continue };
        place.store(class.shape().size, Ordering::Relaxed);
    }
    let first = (number as usize).saturating_sub(SLICES / 2) & !(unit::SLICES as usize - 1);
    let _ = FIRST.compare_exchange(NOWHERE, first, Ordering::Relaxed, Ordering::Relaxed);
}

/// Notes what begins at a slice, if it is in the window.
pub(crate) fn set(number: u32, kind: u8) {
    let index = (number as usize).wrapping_sub(first());
    if let Some(place) = WINDOW.kinds.get(index) {
        place.store(kind, Ordering::Relaxed);
    }
}

/// Number of the window's first slice; no window's at first.
pub(crate) fn first() -> usize {
    FIRST.load(Ordering::Relaxed)
}

/// How many slices after the window's first one an address lies; any number past its last if that is
/// outside.
#[inline(always)]
pub(crate) fn index(block: *mut u8) -> usize {
    let number = block.addr() >> SLICE_SHIFT;
    #[cfg(target_arch = "x86_64")]
    {
        let mut index = number;
        // As one instruction: compilers leave atomic loads alone.
        // SAFETY: reads the static as an aligned load of its size does, which is what an atomic one is.
        unsafe {
            core::arch::asm!(
                "sub {index}, qword ptr [rip + {first}]",
                index = inout(reg) index,
                first = sym FIRST,
                options(readonly, nostack),
            );
        }
        index
    }
    #[cfg(not(target_arch = "x86_64"))]
    number.wrapping_sub(first())
}

/// What begins `index` slices after the window's first one; `None` outside of the window.
///
/// # Safety
///
/// - A live block lies there, if anything of the heap's does: the kind is written before a block is
///   handed out, and not again while there is one. (An atomic load would be as fast, but compilers
///   do not widen its result in the same instruction.)
#[inline(always)]
pub(crate) unsafe fn kind_byte(index: usize) -> Option<u8> {
    // SAFETY: valid for reads, and by the caller's promise nobody writes.
    WINDOW.kinds.get(index).map(|place| unsafe { place.as_ptr().read() })
}

/// Bytes of a block in a page of this kind; 0 if it is no page's, or as long as the window lies nowhere.
/// One load, where a class would have to be told from the other kinds first.
#[inline(always)]
pub(crate) fn block_bytes(kind: u8) -> usize {
    let place = WINDOW.block_bytes.get(usize::from(kind));
    place.map_or(0, |place| place.load(Ordering::Relaxed) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::class_of_kind;

    #[test]
    fn only_kinds_of_pages_have_blocks_of_a_size() {
        lay_around(1 << 20);
        for kind in 0..=u8::MAX {
            assert_eq!(block_bytes(kind), class_of_kind(kind).map_or(0, Class::size), "{kind}");
        }
    }
}
