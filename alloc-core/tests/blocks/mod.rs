//! Bursts of blocks: obtained, mixed, and freed.

#![allow(dead_code, reason = "each test uses a part")]

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;

use alloc_core::CoreAlloc;

/// A block, by its address, and its layout.
pub(crate) type Block = (usize, Layout);

/// Live blocks of these sizes in turn until they have more than so many bytes together, all of them written.
pub(crate) fn burst(sizes: &[usize], bytes: usize) -> Vec<Block> {
    let mut rest = bytes;
    let mut blocks = Vec::with_capacity(bytes / (sizes.iter().sum::<usize>() / sizes.len()) + 1);
    for size in sizes.iter().cycle() {
        let layout = Layout::from_size_align(*size, 8).expect("a layout");
        // SAFETY: the layout is not empty.
        let block = unsafe { CoreAlloc::new().alloc(layout) };
        assert!(!block.is_null());
        // SAFETY: a live block of so many bytes.
        unsafe { block.write_bytes(1, *size) };
        blocks.push((block.expose_provenance(), layout));
        let Some(left) = rest.checked_sub(*size) else { break };
        rest = left;
    }
    blocks
}

pub(crate) fn free(blocks: Vec<Block>) {
    for (address, layout) in blocks {
        // SAFETY: allocated by `burst` with this layout, and freed once.
        unsafe { CoreAlloc::new().dealloc(ptr::with_exposed_provenance_mut(address), layout) };
    }
}

/// The same blocks in another order.
pub(crate) fn shuffle(blocks: &mut [Block]) {
    let mut state = 88_172_645_463_325_252u64;
    for index in (1..blocks.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        blocks.swap(index, (state % (index as u64 + 1)) as usize);
    }
}
