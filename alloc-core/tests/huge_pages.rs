//! Large blocks are made of huge pages where those before them were touched all over, and only there.

use std::alloc::{GlobalAlloc, Layout};
use std::fs;
use std::ptr;
use std::thread;
use std::time::Duration;

use alloc_core::CoreAlloc;
use alloc_core::walk::{SEGMENT_BYTES, SLICE_BYTES};

mod blocks;
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

/// Bytes of this process's mappings that are marked as better made of huge pages, and how many of these are
/// resident; `None` where the kernel does not know of such.
fn marked() -> Option<(usize, usize)> {
    fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?;
    let maps = fs::read_to_string("/proc/self/smaps").expect("this process's mappings");
    let bytes =
        |kib: &str| kib.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024;
    let (mut size, mut resident) = (0, 0);
    let mut marked = (0, 0);
    for line in maps.lines() {
        if let Some(kib) = line.strip_prefix("Size:") {
            size = bytes(kib);
        } else if let Some(kib) = line.strip_prefix("Rss:") {
            resident = bytes(kib);
        } else if line.starts_with("VmFlags:") && line.split(' ').any(|flag| flag == "hg") {
            marked.0 += size;
            marked.1 += resident;
        }
    }
    Some(marked)
}

fn marked_bytes() -> Option<usize> {
    marked().map(|(bytes, _)| bytes)
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

/// Resident bytes of slices that the heap takes for untouched.
fn resident_untouched_bytes() -> usize {
    let mut untouched = 0;
    for segment in HEAP.segments() {
        let mut is_here = vec![0u8; SEGMENT_BYTES / 4096];
        let start = ptr::without_provenance_mut(segment.address);
        // SAFETY: reads nothing at the segment; the array has a byte for each OS page, which has 4 KiB at least.
        let status = unsafe { libc::mincore(start, SEGMENT_BYTES, is_here.as_mut_ptr()) };
        assert_eq!(status, 0, "a segment is mapped");
        // SAFETY: has no preconditions.
        let os_page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let pages = is_here.iter().take(SEGMENT_BYTES / os_page).enumerate();
        let is_untouched = |page: usize| segment.touched >> (page * os_page / SLICE_BYTES) & 1 == 0;
        untouched +=
            pages.filter(|(page, flags)| is_untouched(*page) && **flags & 1 != 0).count() * os_page;
    }
    untouched
}

/// So many bytes of small blocks, and some more, up to somewhere in the middle of a huge page.
fn fill_up_to_a_part(bytes: usize) -> Vec<blocks::Block> {
    let mut all = blocks::burst(&[1024], bytes);
    let most = all.len() + (32 << 10);
    while resident_untouched_bytes() == 0 && all.len() < most {
        all.extend(blocks::burst(&[1024], 256 << 10));
    }
    all
}

/// Small blocks that fill segments of huge pages, and what is marked when they are there.
fn fill() -> Option<(Vec<blocks::Block>, usize)> {
    let all = fill_up_to_a_part(256 << 20);
    let at_peak = marked_bytes()?;
    assert!(at_peak >= 128 << 20, "{at_peak} bytes");
    Some((all, at_peak))
}

/// Frees all but one block of 2 MiB, which is returned for each.
fn thin_out(all: Vec<blocks::Block>) -> Vec<blocks::Block> {
    let (kept, freed): (Vec<_>, Vec<_>) =
        all.into_iter().enumerate().partition(|(number, _)| number % 2048 == 1024);
    let [kept, freed] =
        [kept, freed].map(|part| part.into_iter().map(|(_, block)| block).collect());
    blocks::free(freed);
    kept
}

#[test]
fn what_gave_memory_back_in_part_is_not_made_of_huge_pages_again() {
    succeed("what_gave_memory_back_in_part_is_not_made_of_huge_pages_again", || {
        let Some((all, _)) = fill() else { return };
        let kept = thin_out(all);
        HEAP.purge();
        // Else the kernel would do so, sooner or later.
        assert_eq!(marked().expect("as before").1, 0);
        assert!(resident_bytes() < 64 << 20);
        HEAP.check_all().expect("a whole heap");
        blocks::free(kept);
    });
}

#[test]
fn what_the_helper_gave_back_between_blocks_is_not_made_of_huge_pages_again() {
    succeed("what_the_helper_gave_back_between_blocks_is_not_made_of_huge_pages_again", || {
        let Some((all, _)) = fill() else { return };
        // One block or more in each page of the heap, so that no slice goes.
        let last = all.len() - 1;
        let (kept, freed): (Vec<_>, Vec<_>) = all
            .into_iter()
            .enumerate()
            .partition(|(number, _)| number % 20 == 0 || *number == last);
        let [kept, freed] =
            [kept, freed].map(|part| part.into_iter().map(|(_, block)| block).collect());
        let at_peak = resident_bytes();
        blocks::free(freed);
        while resident_bytes() > at_peak / 2 {
            thread::sleep(Duration::from_millis(20));
        }
        // It may be at the last of them.
        while marked().expect("as before").1 != 0 || resident_untouched_bytes() != 0 {
            thread::sleep(Duration::from_millis(20));
        }
        HEAP.check_all().expect("a whole heap");
        blocks::free(kept);
    });
}

#[test]
fn what_a_huge_page_holds_beside_what_was_used_goes_back_with_it() {
    succeed("what_a_huge_page_holds_beside_what_was_used_goes_back_with_it", || {
        let stays = blocks::burst(&[1024], 64 << 20);
        let all = fill_up_to_a_part(256 << 10);
        if resident_untouched_bytes() == 0 {
            eprintln!("SKIPPED: the kernel has no huge pages to give");
            return;
        }
        blocks::free(all);
        HEAP.purge();
        assert_eq!(resident_untouched_bytes(), 0);
        HEAP.check_all().expect("a whole heap");
        blocks::free(stays);
    });
}

#[test]
fn what_gave_memory_back_in_part_is_decided_on_again_when_all_has_gone() {
    succeed("what_gave_memory_back_in_part_is_decided_on_again_when_all_has_gone", || {
        // As many as make huge pages worth it stay.
        let stays = blocks::burst(&[1024], 64 << 20);
        let Some((all, at_peak)) = fill() else { return };
        let kept = thin_out(all);
        HEAP.purge();
        let in_parts = marked_bytes().expect("as before");
        assert!(in_parts < at_peak / 2, "{in_parts} of {at_peak} bytes");
        blocks::free(kept);
        HEAP.purge();
        let again = marked_bytes().expect("as before");
        assert!(again > at_peak / 4 * 3, "{again} of {at_peak} bytes");
        HEAP.check_all().expect("a whole heap");
        blocks::free(stays);
    });
}
