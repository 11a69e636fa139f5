//! Guards: the last 64 KiB of each segment, as much before the first segment of each reservation, and as
//! much on both sides of each huge block, are not accessible.

use core::ptr::NonNull;

use crate::fatal::fatal;
use crate::os;
use crate::unit::{SEGMENT, SLICE};

/// Slices at the end of each segment that are kept inaccessible.
pub(crate) const GUARD_SLICES: u32 = 1;

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
