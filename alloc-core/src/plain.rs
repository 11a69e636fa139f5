//! What the hardened build does beyond the ordinary one: here, nothing. Every function is empty or
//! hands its argument back, so that the ordinary build has not an instruction of it. What they are
//! for is told in `hardened.rs`, which takes this file's place with the feature `hardened`.

use core::ptr::NonNull;

use crate::class::Class;
use crate::os;
use crate::page::Page;
use crate::segment::SEGMENT;

/// Whether this is the hardened build.
pub(crate) const IS_HARDENED: bool = false;

/// Slices at the end of each segment that are kept inaccessible.
pub(crate) const GUARD_SLICES: u32 = 0;

/// Whether a page's blocks are handed out in an order that nobody can tell.
pub(crate) const RANDOM_ORDER: bool = false;

/// Which blocks of a page the program has.
#[derive(Debug)]
pub(crate) struct Marks;

#[inline(always)]
pub(crate) fn encode(block: *mut u8) -> *mut u8 {
    block
}

#[inline(always)]
pub(crate) fn decode(block: *mut u8) -> *mut u8 {
    block
}

#[inline(always)]
pub(crate) fn hand_out(_: Class, _: *mut u8) {}

#[inline(always)]
pub(crate) fn take_back(_: Class, _: *mut u8) {}

/// # Safety
///
/// None here.
#[inline(always)]
pub(crate) unsafe fn clear(_: *mut u8, _: usize) {}

#[inline(always)]
pub(crate) fn random(_: u32) -> u32 {
    0
}

#[inline(always)]
pub(crate) fn map_segments(bytes: usize) -> Option<NonNull<u8>> {
    os::map_aligned(bytes, SEGMENT)
}

#[inline(always)]
pub(crate) fn map_huge(bytes: usize, align: usize) -> Option<NonNull<u8>> {
    os::map_aligned(bytes, align)
}

/// # Safety
///
/// - As for [`os::unmap`].
#[inline(always)]
pub(crate) unsafe fn unmap_huge(block: NonNull<u8>, bytes: usize) {
    // SAFETY: passed on.
    unsafe { os::unmap(block, bytes) };
}

/// # Safety
///
/// - As for [`os::resize`].
#[inline(always)]
pub(crate) unsafe fn resize_huge(block: NonNull<u8>, bytes: usize, new_bytes: usize) -> bool {
    // SAFETY: passed on.
    unsafe { os::resize(block, bytes, new_bytes) }
}

/// # Safety
///
/// - As for [`os::relocate`].
#[inline(always)]
pub(crate) unsafe fn relocate_huge(
    block: NonNull<u8>,
    bytes: usize,
    target: NonNull<u8>,
    new_bytes: usize,
) -> bool {
    // SAFETY: passed on.
    unsafe { os::relocate(block, bytes, target, new_bytes) }
}

#[inline(always)]
pub(crate) fn guard(_: *mut u8) {}

#[inline(always)]
pub(crate) fn check(page: Page, _: &[u64]) -> Result<(), &'static str> {
    let Marks = page.marks();
    Ok(())
}
