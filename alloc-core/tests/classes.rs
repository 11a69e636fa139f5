//! Every size class with every alignment, by the heap and not only by its tables.

use std::alloc::{GlobalAlloc, Layout};
use std::collections::BTreeMap;
use std::ptr::NonNull;

use alloc_core::CoreAlloc;

mod process;

use process::succeed;

const HEAP: CoreAlloc = CoreAlloc::new();

/// Largest size of a class.
const SMALL_MAX: usize = 32 * 1024;

fn class_sizes() -> Vec<usize> {
    let sizes: Vec<_> = HEAP.stats().classes.iter().map(|class| class.block_bytes).collect();
    assert!(sizes.is_sorted() && sizes.last() == Some(&SMALL_MAX));
    sizes
}

/// The smallest size of each class, one in its middle, the largest: in all alignments up to the
/// largest class. Each block is held while all others are made.
#[test]
fn every_class_serves_every_alignment_at_its_edges() {
    succeed("every_class_serves_every_alignment_at_its_edges", || {
        let mut spans = BTreeMap::new();
        let mut blocks = Vec::new();
        let mut smallest = 1;
        for size in class_sizes() {
            for requested in [smallest, usize::midpoint(smallest, size), size] {
                for shift in 0..=15 {
                    let layout = Layout::from_size_align(requested, 1 << shift).expect("a layout");
                    // SAFETY: the layout is not empty.
                    let zeros = unsafe { HEAP.alloc_zeroed(layout) };
                    // SAFETY: the layout is not empty.
                    let other = unsafe { HEAP.alloc(layout) };
                    for block in [zeros, other] {
                        let block = NonNull::new(block).expect("memory");
                        assert_eq!(block.addr().get() % layout.align(), 0, "{layout:?}");
                        // SAFETY: the block is live.
                        let usable = unsafe { HEAP.usable_size(block) };
                        assert!(usable >= requested, "{layout:?} has {usable}");
                        // An alignment up to what all classes keep takes no larger class.
                        assert!(shift > 4 || usable == size, "{layout:?} has {usable}");
                        assert_eq!(spans.insert(block.addr().get(), usable), None);
                        blocks.push((block, layout));
                    }
                    // SAFETY: a live block of so many bytes, all zero.
                    let bytes = unsafe { std::slice::from_raw_parts(zeros, requested) };
                    assert!(bytes.iter().all(|byte| *byte == 0), "{layout:?}");
                    // SAFETY: as above; it is written to, so that later zeros are made.
                    unsafe { zeros.write_bytes(0xa5, requested) };
                }
            }
            smallest = size + 1;
        }
        let spans: Vec<_> = spans.into_iter().collect();
        assert!(spans.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "an overlap");
        for (block, layout) in blocks {
            // SAFETY: allocated above with this layout.
            unsafe { HEAP.dealloc(block.as_ptr(), layout) };
        }
        HEAP.check_all().expect("a whole heap");
    });
}

/// From every class to every class, and past the largest: the contents stay.
#[test]
fn every_class_becomes_every_other() {
    succeed("every_class_becomes_every_other", || {
        let mut sizes = class_sizes();
        sizes.extend([SMALL_MAX + 1, 100_000, 5 << 20]);
        for from in &sizes {
            for to in &sizes {
                let layout = Layout::from_size_align(*from, 8).expect("a layout");
                // SAFETY: the layout is not empty.
                let block = unsafe { HEAP.alloc(layout) };
                let ends = [0, from / 2, from.min(to) - 1];
                for index in ends {
                    // SAFETY: inside the block.
                    unsafe { block.wrapping_add(index).write(index as u8 ^ 0x5a) };
                }
                // SAFETY: the block is live with this layout, and the size is not 0.
                let moved = unsafe { HEAP.realloc(block, layout, *to) };
                assert!(!moved.is_null());
                for index in ends.into_iter().filter(|index| index < to) {
                    // SAFETY: inside of both blocks.
                    let byte = unsafe { moved.wrapping_add(index).read() };
                    assert_eq!(byte, index as u8 ^ 0x5a, "byte {index} from {from} to {to}");
                }
                let layout = Layout::from_size_align(*to, 8).expect("a layout");
                // SAFETY: the block that was just reallocated to this layout.
                unsafe { HEAP.dealloc(moved, layout) };
            }
        }
        HEAP.check_all().expect("a whole heap");
    });
}
