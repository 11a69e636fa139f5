//! What the hardened build finds, each fault in a process of its own, which must end at the fault
//! and say which block it was. `CoreAlloc` is the allocator of the whole program.
#![cfg(feature = "hardened")]

use std::alloc::{GlobalAlloc, Layout};
use std::collections::BTreeSet;
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::thread;

use alloc_core::CoreAlloc;
use alloc_core::walk::{self, Run};

mod model;
mod process;

use model::{Model, Random};
use process::{abort, run, succeed};

#[global_allocator]
static HEAP: CoreAlloc = CoreAlloc::new();

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("a layout")
}

fn alloc(size: usize) -> *mut u8 {
    // SAFETY: the layout is not empty.
    let block = unsafe { HEAP.alloc(layout(size)) };
    assert!(!block.is_null());
    block
}

fn free(block: *mut u8, size: usize) {
    // SAFETY: wrong in these tests, and found out.
    unsafe { HEAP.dealloc(block, layout(size)) };
}

/// Runs a case that says an address and misuses it. The process must be aborted there, and say this
/// of that address and class.
fn ends_at(name: &str, said: &str, class_bytes: usize, case: impl FnOnce()) {
    let class = format!(", size class {class_bytes}");
    ends_at_with(name, said, &class, case);
}

/// The same with what stands behind the address.
fn ends_at_with(name: &str, said: &str, behind: &str, case: impl FnOnce()) {
    let Some(output) = run(name, || {
        case();
        println!("went on");
    }) else {
        return;
    };
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{stdout}{stderr}");
    assert!(!stdout.contains("went on"), "{stdout}");
    let address = stdout.lines().find_map(|line| line.strip_prefix("address "));
    let address = address.expect("the case says an address");
    let line = format!("alloc-core: {said} (address {address}{behind})");
    assert!(stderr.lines().any(|said| said == line), "not {line}: {stderr}");
}

/// Says the address that the case misuses.
fn say(address: *mut u8) {
    // On a line of its own.
    println!("\naddress {:#018x}", address.addr());
}

#[test]
fn a_block_freed_twice_is_found_at_the_second_free() {
    let name = "a_block_freed_twice_is_found_at_the_second_free";
    ends_at(name, "a block was freed twice", 64, || {
        let block = alloc(64);
        say(block);
        let others: Vec<_> = (0..10).map(|_| alloc(64)).collect();
        free(block, 64);
        others.into_iter().for_each(|block| free(block, 64));
        free(block, 64);
    });
}

/// Runs a case that misuses an address as a block of no size class. The process must be aborted there, and
/// say this of that address and so large a block.
fn ends_at_size(name: &str, said: &str, kind: &str, bytes: usize, case: impl FnOnce()) {
    ends_at_with(name, said, &format!(", {kind} block of {bytes} bytes"), case);
}

/// Frees a block twice that is of no size class.
fn ends_at_the_second_free(name: &str, kind: &str, size: usize) {
    ends_at_size(name, "a block was freed twice", kind, size, || {
        let block = alloc(size);
        say(block);
        free(block, size);
        free(block, size);
    });
}

#[test]
fn a_large_block_freed_twice_is_found() {
    ends_at_the_second_free("a_large_block_freed_twice_is_found", "large", 100_001);
}

#[test]
fn a_huge_block_freed_twice_is_found() {
    ends_at_the_second_free("a_huge_block_freed_twice_is_found", "huge", 16 << 20);
}

/// Frees what never was a block, as one of no size class.
fn ends_at_a_foreign_free(name: &str, kind: &str, size: usize) {
    ends_at_size(name, "freed a block that is not ours", kind, size, || {
        let mut on_the_stack = [0u8; 32];
        let address = black_box(on_the_stack.as_mut_ptr());
        say(address);
        free(address, size);
    });
}

#[test]
fn a_foreign_address_freed_as_a_large_block_is_found() {
    ends_at_a_foreign_free("a_foreign_address_freed_as_a_large_block_is_found", "large", 40_000);
}

#[test]
fn a_foreign_address_freed_as_a_huge_block_is_found() {
    ends_at_a_foreign_free("a_foreign_address_freed_as_a_huge_block_is_found", "huge", 5_000_000);
}

#[test]
fn an_address_inside_a_large_block_is_found() {
    let name = "an_address_inside_a_large_block_is_found";
    ends_at_size(name, "an address that is not the start of a block", "large", 100_000, || {
        let inside = alloc(100_000).wrapping_add(48);
        say(inside);
        free(inside, 100_000);
    });
}

#[test]
fn a_small_block_freed_as_a_large_one_is_found() {
    let name = "a_small_block_freed_as_a_large_one_is_found";
    let found = "a block of another size class than its layout has";
    ends_at_size(name, found, "large", 100_000, || {
        let block = alloc(64);
        say(block);
        free(block, 100_000);
    });
}

#[test]
fn a_block_freed_by_two_threads_is_found() {
    ends_at("a_block_freed_by_two_threads_is_found", "a block was freed twice", 112, || {
        let block = alloc(100);
        say(block);
        let address = block.expose_provenance();
        let other = thread::spawn(move || {
            free(std::ptr::with_exposed_provenance_mut(address), 100);
        });
        other.join().expect("the first free is right");
        free(block, 100);
    });
}

#[test]
fn a_block_freed_as_another_size_is_found() {
    let name = "a_block_freed_as_another_size_is_found";
    ends_at(name, "a block of another size class than its layout has", 256, || {
        let block = alloc(64);
        say(block);
        free(block, 250);
    });
}

#[test]
fn an_address_inside_a_block_is_found() {
    let name = "an_address_inside_a_block_is_found";
    ends_at(name, "an address that is not the start of a block", 64, || {
        let inside = alloc(64).wrapping_add(16);
        say(inside);
        free(inside, 64);
    });
}

#[test]
fn a_foreign_address_is_found_at_once() {
    let name = "a_foreign_address_is_found_at_once";
    ends_at(name, "freed a block that is not ours", 32, || {
        let mut on_the_stack = [0u8; 32];
        let address = black_box(on_the_stack.as_mut_ptr());
        say(address);
        free(address, 32);
    });
}

#[test]
fn a_write_to_a_freed_block_is_found_when_it_is_handed_out() {
    let name = "a_write_to_a_freed_block_is_found_when_it_is_handed_out";
    ends_at(name, "a block was written to after it was freed", 512, || {
        let block = alloc(512);
        say(block);
        free(block, 512);
        // SAFETY: wrong, and found out.
        unsafe { block.wrapping_add(500).write_volatile(1) };
        (0..1000).for_each(|_| {
            black_box(alloc(512));
        });
    });
}

#[test]
fn a_write_to_a_large_block_that_was_freed_is_found_when_its_memory_is_handed_out() {
    let name = "a_write_to_a_large_block_that_was_freed_is_found_when_its_memory_is_handed_out";
    let found = "alloc-core: a block was written to after it was freed";
    abort(name, found, || {
        let block = alloc(1_000_000);
        free(block, 1_000_000);
        // SAFETY: wrong, and found out.
        unsafe { block.wrapping_add(900_000).write_volatile(1) };
        (0..100).for_each(|_| {
            black_box(alloc(200_000));
        });
    });
}

#[test]
fn a_block_that_grows_into_memory_that_was_written_to_after_its_free_finds_it() {
    let name = "a_block_that_grows_into_memory_that_was_written_to_after_its_free_finds_it";
    abort(name, "alloc-core: a block was written to after it was freed", || {
        let first = alloc(100_000);
        let behind = alloc(100_000);
        assert_eq!(behind.addr() - first.addr(), 128 << 10, "one lies behind the other");
        free(behind, 100_000);
        // SAFETY: wrong, and found out.
        unsafe { behind.write_volatile(1) };
        // SAFETY: a live block of that layout.
        black_box(unsafe { HEAP.realloc(first, layout(100_000), 200_000) });
    });
}

#[test]
fn freed_memory_is_cleared() {
    succeed("freed_memory_is_cleared", || {
        for size in [1, 16, 100, 5000, 32 << 10, 100_000] {
            let block = alloc(size);
            // SAFETY: a live block of so many bytes.
            unsafe { block.write_bytes(0xa5, size) };
            free(block, size);
            // SAFETY: wrong but for this test: the memory of a freed block stays mapped.
            let bytes = unsafe { std::slice::from_raw_parts(block, size) };
            assert!(bytes.iter().all(|byte| *byte == 0), "{size}");
        }
    });
}

#[test]
fn blocks_come_in_another_order_each_time() {
    succeed("blocks_come_in_another_order_each_time", || {
        let steps: BTreeSet<_> = (0..8)
            .map(|_| {
                // A thread's first blocks of a class, which are the first of its page.
                let blocks = thread::spawn(|| {
                    let blocks: Vec<_> = (0..16).map(|_| alloc(1008)).collect();
                    blocks.into_iter().map(|block| block.addr()).collect::<Vec<_>>()
                });
                let blocks = blocks.join().expect("a thread");
                blocks.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect::<Vec<_>>()
            })
            .collect();
        assert!(steps.len() >= 7, "the order is the same again and again: {steps:x?}");
        let neighbours = steps.iter().flatten().filter(|step| **step == 1024).count();
        assert!(neighbours < 40, "{neighbours} of 120 blocks follow their neighbours");
    });
}

/// The address at which a process is ended that reads there.
fn reads_at(name: &str, address: impl FnOnce() -> usize) {
    let read = || {
        let address: *const u8 = std::ptr::with_exposed_provenance(address());
        // SAFETY: wrong, and found out by the guard.
        black_box(unsafe { address.read_volatile() });
    };
    if let Some(output) = run(name, read) {
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{output:?}");
    }
}

fn segments() -> Vec<usize> {
    black_box(alloc(100));
    let mut segments: Vec<_> = HEAP.segments().map(|segment| segment.address).collect();
    segments.sort_unstable();
    assert!(!segments.is_empty());
    segments
}

#[test]
fn the_end_of_each_segment_is_guarded() {
    reads_at("the_end_of_each_segment_is_guarded", || {
        segments()[0] + walk::SEGMENT_BYTES - walk::SLICE_BYTES
    });
}

#[test]
fn the_memory_before_a_reservation_is_guarded() {
    reads_at("the_memory_before_a_reservation_is_guarded", || segments()[0] - 1);
}

/// Bytes of a huge block, which ends in the middle of one of the OS's pages.
const HUGE: usize = (5 << 20) + 100;

/// The first address behind a block.
fn end(block: *mut u8) -> usize {
    let block = std::ptr::NonNull::new(block).expect("a block");
    // SAFETY: the block is live.
    block.addr().get() + unsafe { HEAP.usable_size(block) }
}

/// The same block with another size. All of it is accessible.
fn resized(block: *mut u8, size: usize, new_size: usize) -> *mut u8 {
    // SAFETY: the block is live and has this layout.
    let block = unsafe { HEAP.realloc(block, layout(size), new_size) };
    assert!(!block.is_null());
    // SAFETY: a live block of so many bytes.
    unsafe { block.write_bytes(1, new_size) };
    block
}

#[test]
fn the_memory_before_a_huge_block_is_guarded() {
    reads_at("the_memory_before_a_huge_block_is_guarded", || {
        let block = alloc(HUGE);
        // The kernel puts one of these just below, once the gaps that fit are full.
        for _ in 0..64 {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: a new mapping at an address of the kernel's choice.
            let mapped =
                unsafe { libc::mmap(std::ptr::null_mut(), walk::SLICE_BYTES, access, kind, -1, 0) };
            assert_ne!(mapped, libc::MAP_FAILED);
        }
        block.addr() - 1
    });
}

#[test]
fn the_memory_behind_a_huge_block_is_guarded() {
    reads_at("the_memory_behind_a_huge_block_is_guarded", || {
        // The kernel puts one just below the other.
        end(alloc(HUGE).min(alloc(HUGE)))
    });
}

#[test]
fn the_memory_behind_a_huge_block_that_grew_is_guarded() {
    reads_at("the_memory_behind_a_huge_block_that_grew_is_guarded", || {
        let grown = (6..40).fold(alloc(HUGE), |block, mib| {
            resized(block, if mib == 6 { HUGE } else { (mib - 1) << 20 }, mib << 20)
        });
        HEAP.check_all().expect("a whole heap");
        end(grown)
    });
}

#[test]
fn the_memory_behind_a_huge_block_that_shrank_is_guarded() {
    reads_at("the_memory_behind_a_huge_block_that_shrank_is_guarded", || {
        let shrunk = resized(alloc(20 << 20), 20 << 20, HUGE);
        HEAP.check_all().expect("a whole heap");
        end(shrunk)
    });
}

#[test]
fn huge_blocks_leave_no_guards_behind() {
    succeed("huge_blocks_leave_no_guards_behind", || {
        let maps = || {
            let maps = std::fs::read_to_string("/proc/self/maps").expect("the kernel tells");
            maps.lines().count()
        };
        let before = maps();
        for round in 0..2000 {
            let size = HUGE + round % 7 * 5000;
            let block = resized(alloc(size), size, 2 * size);
            free(resized(block, 2 * size, size), size);
        }
        assert!(maps() < before + 100, "{} mappings, {before} before", maps());
    });
}

#[test]
fn threads_that_exchange_blocks_agree_with_the_model_and_the_marks() {
    succeed("threads_that_exchange_blocks_agree_with_the_model_and_the_marks", || {
        let workers: Vec<_> = (0..4)
            .map(|seed| {
                thread::spawn(move || {
                    let mut random = Random::new(seed);
                    let mut model = Model::new(HEAP);
                    for _ in 0..5000 {
                        model.step(random.operation(model.live(), 200));
                    }
                    std::iter::from_fn(move || model.remove(0)).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut rest = Model::new(HEAP);
        for worker in workers {
            worker.join().expect("a worker").into_iter().for_each(|block| rest.insert(block));
        }
        HEAP.check_all().expect("a whole heap");
        rest.free_all();
        HEAP.check_all().expect("a whole heap");
        let pages = HEAP.segments().flat_map(|segment| segment.runs());
        assert!(pages.filter(|run| matches!(run, Run::Page(_))).count() > 0);
    });
}
