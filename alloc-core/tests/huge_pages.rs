//! Large blocks are made of huge pages where those before them were touched all over, and only there.

use std::alloc::{GlobalAlloc, Layout};
use std::fs;

use alloc_core::CoreAlloc;
use alloc_core::walk::SEGMENT_BYTES;

mod memory;
mod process;

use memory::resident_bytes;
use process::succeed;

// Not the program's own allocator: what the test harness has of it would lie between the blocks.
static HEAP: CoreAlloc = CoreAlloc::new();

const BLOCK: usize = 1 << 20;
const BLOCKS: usize = 64;

fn layout() -> Layout {
    Layout::from_size_align(BLOCK, 8).expect("a layout")
}

/// Large blocks of which so many bytes are written.
fn blocks(written: usize) -> Vec<*mut u8> {
    let make = |_| {
        // SAFETY: the layout is not empty.
        let block = unsafe { HEAP.alloc(layout()) };
        assert!(!block.is_null());
        // SAFETY: a live block of at least so many bytes.
        unsafe { block.write_bytes(1, written) };
        block
    };
    (0..BLOCKS).map(make).collect()
}

fn free(blocks: Vec<*mut u8>) {
    for block in blocks {
        // SAFETY: one of `blocks`, freed once.
        unsafe { HEAP.dealloc(block, layout()) };
    }
}

/// Bytes of this process's mappings that are marked as better made of huge pages; `None` where the kernel
/// does not know of such.
fn marked_bytes() -> Option<usize> {
    fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?;
    let maps = fs::read_to_string("/proc/self/smaps").expect("this process's mappings");
    let mut size = 0;
    let mut marked = 0;
    for line in maps.lines() {
        if let Some(kib) = line.strip_prefix("Size:") {
            size = kib.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024;
        } else if line.starts_with("VmFlags:") && line.split(' ').any(|flag| flag == "hg") {
            marked += size;
        }
    }
    Some(marked)
}

#[test]
fn blocks_that_are_touched_all_over_are_made_of_huge_pages() {
    succeed("blocks_that_are_touched_all_over_are_made_of_huge_pages", || {
        assert_eq!(marked_bytes().unwrap_or(0), 0);
        let touched = blocks(BLOCK);
        let Some(marked) = marked_bytes() else { return };
        // All but the first segment of each arena, by which it is decided there. What others map meanwhile can
        // be in the way of the first one, and then there are two.
        assert!(marked >= BLOCKS * BLOCK - 2 * SEGMENT_BYTES, "{marked} bytes");
        HEAP.check_all().expect("a whole heap");
        free(touched);

        // What holds no memory any more is decided on again.
        HEAP.purge();
        assert_eq!(marked_bytes(), Some(0));
        let sparse = blocks(1);
        assert_eq!(marked_bytes(), Some(0));
        HEAP.check_all().expect("a whole heap");
        free(sparse);
    });
}

#[test]
fn blocks_that_are_touched_here_and_there_stay_in_ordinary_pages() {
    succeed("blocks_that_are_touched_here_and_there_stay_in_ordinary_pages", || {
        let before = resident_bytes();
        // Half of each is less than what huge pages take for good.
        let sparse = blocks(BLOCK / 2);
        assert_eq!(marked_bytes().unwrap_or(0), 0);
        let taken = resident_bytes() - before;
        assert!(taken < BLOCKS * BLOCK * 5 / 8, "{taken} bytes");
        free(sparse);
    });
}
