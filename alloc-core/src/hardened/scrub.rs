//! Blocks are cleared when they are freed, and looked at when they are handed out: a block that is not
//! all zero then was written to after it was freed.

use core::ptr;

use crate::tool;

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

/// Whether memory that was given up is as it was left.
///
/// # Safety
///
/// - `start` is a multiple of 16, and `bytes` bytes from there on are memory that nobody has: cleared
///   when it was freed, or fresh.
#[inline]
pub(crate) unsafe fn is_clear(start: *mut u8, bytes: usize) -> bool {
    // The tool finds what was written, earlier, and marks what must not be read.
    if tool::IS_TOLD {
        return true;
    }
    // SAFETY: by the caller's promise.
    let grains = unsafe { core::slice::from_raw_parts(start.cast::<u128>(), bytes / 16) };
    grains.iter().all(|grain| *grain == 0)
}
