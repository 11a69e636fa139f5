//! The units of address space: slices, which are handed out to pages and large blocks, and segments, which
//! are 64 of them.

use crate::os;

/// The unit in which memory is handed out to pages and large blocks.
pub(crate) const SLICE: usize = 1 << SLICE_SHIFT;
pub(crate) const SLICE_SHIFT: u32 = 16;

/// Slices in a segment: one word's bits.
pub(crate) const SLICES: u32 = u64::BITS;

/// Bytes of a segment, and its alignment.
pub(crate) const SEGMENT: usize = SLICE * SLICES as usize;

const _: () = assert!(SLICE.is_multiple_of(os::OS_PAGE));
