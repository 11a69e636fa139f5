//! Tests of the heap as a whole. The test program's own allocator is the system's, so that a
//! damaged heap is found by the test and does not take the test down with it.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::NonNull;

use crate::CoreAlloc;

mod against_model;
#[path = "../tests/filter/mod.rs"]
pub(crate) mod filter;
#[cfg(feature = "hardened")]
mod overwritten;
#[path = "../tests/process/mod.rs"]
#[allow(dead_code, reason = "only the hardened heap's cases end in an abort")]
pub(crate) mod process;

const HEAP: CoreAlloc = CoreAlloc::new();

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

fn alloc(layout: Layout) -> *mut u8 {
    // SAFETY: `CoreAlloc` accepts every layout.
    unsafe { HEAP.alloc(layout) }
}

fn alloc_zeroed(layout: Layout) -> *mut u8 {
    // SAFETY: `CoreAlloc` accepts every layout.
    unsafe { HEAP.alloc_zeroed(layout) }
}

fn dealloc(block: *mut u8, layout: Layout) {
    // SAFETY: these tests free what they allocated, once.
    unsafe { HEAP.dealloc(block, layout) };
}

fn realloc(block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
    // SAFETY: these tests reallocate what is live.
    unsafe { HEAP.realloc(block, layout, size) }
}

fn check() {
    HEAP.check().unwrap();
}

#[test]
fn every_class_serves_every_alignment() {
    for shift in 0..=26 {
        let align = 1usize << shift;
        let sizes = (1..=40).map(|n| n * n * n).chain([0, 32 << 10, 4 << 20, 5 << 20]);
        let mut blocks = Vec::new();
        for size in sizes {
            let layout = layout(size, align);
            for block in [alloc(layout), alloc_zeroed(layout)] {
                let start = NonNull::new(block).unwrap();
                assert_eq!(block.addr() % align, 0, "{layout:?}");
                // SAFETY: the block is live.
                let usable = unsafe { HEAP.usable_size(start) };
                assert!(usable >= size, "{layout:?} has {usable}");
                // SAFETY: all of its usable bytes may be written.
                unsafe { block.write_bytes(0xa5, usable) };
                blocks.push((block, layout));
            }
        }
        let mut spans: Vec<_> = blocks.iter().map(|(b, l)| (b.addr(), l.size())).collect();
        spans.sort_unstable();
        assert!(spans.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
        for (block, layout) in blocks {
            dealloc(block, layout);
        }
    }
    check();
}

#[test]
fn impossible_layouts_are_null_and_leave_the_heap_whole() {
    let top = isize::MAX as usize;
    for align in [1, 16, 4096, 1 << 20, 1 << 40, 1 << 62] {
        for size in [top / 2, top - align, top - align + 1] {
            if let Ok(layout) = Layout::from_size_align(size, align) {
                assert!(alloc(layout).is_null(), "{layout:?}");
                assert!(alloc_zeroed(layout).is_null(), "{layout:?}");
            }
        }
    }
    for size in [100, 100_000, 10_000_000] {
        let layout = layout(size, 8);
        let block = alloc(layout);
        assert!(!block.is_null());
        for new_size in [top, top - 7, usize::MAX, usize::MAX - 4095] {
            assert!(realloc(block, layout, new_size).is_null());
        }
        dealloc(block, layout);
    }
    check();
}

#[test]
fn a_block_of_no_size_is_served_too() {
    let empty = layout(0, 1);
    let block = alloc(empty);
    assert!(!block.is_null());
    let grown = realloc(block, empty, 100);
    assert!(!grown.is_null());
    let shrunk = realloc(grown, layout(100, 1), 0);
    assert!(!shrunk.is_null());
    dealloc(shrunk, empty);
    check();
}

#[test]
fn a_large_block_grows_and_shrinks_where_it_is() {
    let start = layout(200 << 10, 8);
    let block = alloc(start);
    // SAFETY: a live block of so many bytes.
    unsafe { block.write_bytes(7, start.size()) };
    let shrunk = realloc(block, start, 40 << 10);
    assert_eq!(shrunk, block);
    let grown = realloc(shrunk, layout(40 << 10, 8), 120 << 10);
    // Its own slices were free behind it, unless another test took them.
    // SAFETY: the first 40 KiB were kept.
    let kept = unsafe { std::slice::from_raw_parts(grown, 40 << 10) };
    assert!(kept.iter().all(|byte| *byte == 7));
    dealloc(grown, layout(120 << 10, 8));
}

#[test]
fn a_huge_block_keeps_its_bytes_and_alignment_when_it_moves() {
    for align in [8, 1 << 16, 1 << 21, 1 << 24] {
        let mut size = 5 << 20;
        let mut block = alloc(layout(size, align));
        // SAFETY: a live block.
        unsafe { block.write_bytes(9, size) };
        // Something in the way of growing in place.
        let obstacle = alloc(layout(64 << 20, 8));
        while size < 200 << 20 {
            let grown = realloc(block, layout(size, align), size * 2);
            assert_eq!(grown.addr() % align, 0);
            // SAFETY: the first `size` bytes were kept.
            let first = unsafe { grown.read() };
            // SAFETY: as above.
            let last = unsafe { grown.wrapping_add((5 << 20) - 1).read() };
            assert_eq!((first, last), (9, 9));
            // SAFETY: the new bytes are part of the block.
            assert_eq!(unsafe { grown.wrapping_add(size).read() }, 0, "fresh memory of the OS");
            block = grown;
            size *= 2;
        }
        dealloc(obstacle, layout(64 << 20, 8));
        let small = realloc(block, layout(size, align), 100);
        // SAFETY: 100 bytes were kept.
        assert_eq!(unsafe { small.wrapping_add(99).read() }, 9);
        dealloc(small, layout(100, align));
    }
}

#[test]
fn dirty_memory_is_cleared_when_zeros_are_asked_for() {
    for size in [100 << 10, 1 << 20, 3 << 20] {
        for _ in 0..20 {
            let layout = layout(size, 8);
            let block = alloc_zeroed(layout);
            // SAFETY: a live block of `size` bytes, all written.
            let bytes = unsafe { std::slice::from_raw_parts_mut(block, size) };
            assert!(bytes.iter().all(|byte| *byte == 0));
            bytes.fill(0xff);
            dealloc(block, layout);
            if size == 1 << 20 {
                HEAP.purge();
            }
        }
    }
}
