//! Clearing and copying a few bytes of a block without a call.
//!
//! Blocks begin at multiples of a grain of 16 bytes and have whole grains, so what is to be cleared
//! or copied may be rounded up to grains: one or two pairs of moves that may overlap. The C library's
//! functions take about 20 instructions for as little, and with them a stack frame around the call.

/// Most bytes that the functions here are for.
pub(crate) const FEW_BYTES: usize = 4 * GRAIN;

const GRAIN: usize = 16;

/// Clears the first `bytes` bytes of a block, and the rest of their last grain.
///
/// # Safety
///
/// - `block` is a block of this heap of at least `bytes` bytes, and nobody else uses it.
/// - `bytes` is at most [`FEW_BYTES`].
#[inline(always)]
pub(crate) unsafe fn clear_few(block: *mut u8, bytes: usize) {
    // SAFETY: every block has a grain.
    unsafe { clear_at(block, 0) };
    if bytes > GRAIN {
        let last = (bytes - 1) & (FEW_BYTES - GRAIN);
        // SAFETY: the grain that the last byte lies in, which the block has whole.
        unsafe { clear_at(block, last) };
        if bytes > 2 * GRAIN {
            // SAFETY: the second of more than two grains.
            unsafe { clear_at(block, GRAIN) };
            // SAFETY: the last but one of more than two grains.
            unsafe { clear_at(block, last - GRAIN) };
        }
    }
}

/// Copies the first `bytes` bytes of a block to another one, and the rest of their last grain.
///
/// # Safety
///
/// - Both are blocks of this heap of at least `bytes` bytes, not the same, and nobody else uses them.
/// - `bytes` is at most [`FEW_BYTES`].
#[inline(always)]
pub(crate) unsafe fn copy_few(from: *mut u8, to: *mut u8, bytes: usize) {
    // SAFETY: every block has a grain.
    unsafe { copy_at(from, to, 0) };
    if bytes > GRAIN {
        let last = (bytes - 1) & (FEW_BYTES - GRAIN);
        // SAFETY: the grain that the last byte lies in, which both blocks have whole.
        unsafe { copy_at(from, to, last) };
        if bytes > 2 * GRAIN {
            // SAFETY: the second of more than two grains.
            unsafe { copy_at(from, to, GRAIN) };
            // SAFETY: the last but one of more than two grains.
            unsafe { copy_at(from, to, last - GRAIN) };
        }
    }
}

/// # Safety
///
/// - The block has a grain `offset` bytes from its start, and nobody else uses it.
#[inline(always)]
unsafe fn clear_at(block: *mut u8, offset: usize) {
    // SAFETY: by the caller's promise.
    unsafe { block.wrapping_add(offset).write_bytes(0, GRAIN) };
}

/// # Safety
///
/// - Both blocks have a grain `offset` bytes from their start; they do not overlap, and nobody else
///   uses them.
#[inline(always)]
unsafe fn copy_at(from: *mut u8, to: *mut u8, offset: usize) {
    let (from, to) = (from.wrapping_add(offset), to.wrapping_add(offset));
    // SAFETY: by the caller's promise.
    unsafe { core::ptr::copy_nonoverlapping(from, to, GRAIN) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a block is aligned, with a grain more than it may touch.
    #[repr(align(16))]
    struct Block([u8; FEW_BYTES + GRAIN]);

    #[test]
    fn whole_grains_are_cleared_and_copied_and_no_more() {
        for bytes in 0..=FEW_BYTES {
            let whole = bytes.max(1).next_multiple_of(GRAIN);
            let mut cleared = Block([7; FEW_BYTES + GRAIN]);
            // SAFETY: it has so many bytes, in whole grains.
            unsafe { clear_few(cleared.0.as_mut_ptr(), bytes) };
            assert!(cleared.0[..whole].iter().all(|byte| *byte == 0), "{bytes}");
            assert!(cleared.0[whole..].iter().all(|byte| *byte == 7), "{bytes}");

            let mut source = Block(core::array::from_fn(|index| index as u8 + 1));
            let mut copy = Block([0; FEW_BYTES + GRAIN]);
            // SAFETY: as above, both.
            unsafe { copy_few(source.0.as_mut_ptr(), copy.0.as_mut_ptr(), bytes) };
            assert_eq!(copy.0[..whole], source.0[..whole], "{bytes}");
            assert!(copy.0[whole..].iter().all(|byte| *byte == 0), "{bytes}");
        }
    }
}
