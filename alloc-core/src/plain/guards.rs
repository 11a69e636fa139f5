//! Memory without guards: what `hardened/guards.rs` does in the ordinary build.

use core::ptr::NonNull;

use crate::os;
use crate::unit::SEGMENT;

/// Slices at the end of each segment that are kept inaccessible.
pub(crate) const GUARD_SLICES: u32 = 0;

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
