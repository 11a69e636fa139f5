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

use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::segment;

/// Slices that the window has: 64 GiB.
const SLICES: usize = 1 << 20;

/// No slice is as far from any address.
pub(crate) const NOWHERE: usize = 1 << (usize::BITS - 1);

/// Number of the window's first slice. Written once, before anything is set in the window; whoever
/// frees a block was handed it in some ordered way, and sees this and the block's kind too.
static FIRST: AtomicUsize = AtomicUsize::new(NOWHERE);

/// The kinds, as [`Kind::to_byte`](crate::record::Kind::to_byte) has them.
static KINDS: Kinds = Kinds([const { AtomicU8::new(0) }; SLICES]);

/// A byte for each slice, those of a segment in one cache line.
#[repr(align(64))]
struct Kinds([AtomicU8; SLICES]);

/// Lays the window around a slice, if it lies nowhere yet.
pub(crate) fn lay_around(number: u32) {
    let first = (number as usize).saturating_sub(SLICES / 2) & !(segment::SLICES as usize - 1);
    let _ = FIRST.compare_exchange(NOWHERE, first, Ordering::Relaxed, Ordering::Relaxed);
}

/// Notes what begins at a slice, if it is in the window.
pub(crate) fn set(number: u32, kind: u8) {
    let index = (number as usize).wrapping_sub(first());
    if let Some(place) = KINDS.0.get(index) {
        place.store(kind, Ordering::Relaxed);
    }
}

/// Number of the window's first slice, for [`kind_byte`]; no window's at first.
pub(crate) fn first() -> usize {
    FIRST.load(Ordering::Relaxed)
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
    KINDS.0.get(index).map(|place| unsafe { place.as_ptr().read() })
}
