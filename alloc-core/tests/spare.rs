//! What becomes of a huge block's mapping when it is freed: it serves the next blocks that fit into it, and goes
//! back to the OS when none comes. Each case is a process of its own with a time limit.
#![cfg(not(feature = "hardened"))]

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use alloc_core::CoreAlloc;

mod memory;
mod process;

use memory::{limit_address_space, mapped_bytes, resident_bytes};
use process::succeed;

#[global_allocator]
static HEAP: CoreAlloc = CoreAlloc::new();

const MIB: usize = 1 << 20;

/// A block, written all over.
fn written(bytes: usize) -> Vec<u8> {
    let mut block = Vec::with_capacity(bytes);
    block.resize(bytes, 1);
    black_box(block)
}

/// Page faults of this process.
fn faults() -> usize {
    // SAFETY: zeros are a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: valid for writes.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) }, 0);
    usage.ru_minflt.try_into().expect("a number")
}

/// Page faults of making and writing blocks of these sizes, one after the other, at the least of some rounds: a
/// machine that is busy may pause for longer than what was freed is kept.
fn faults_again(sizes: &[usize]) -> usize {
    let round = || {
        let before = faults();
        for bytes in sizes {
            drop(written(*bytes));
        }
        faults() - before
    };
    round();
    (0..20).map(|_| round()).min().expect("some")
}

#[test]
fn a_block_of_about_the_size_is_had_again_without_page_faults() {
    succeed("a_block_of_about_the_size_is_had_again_without_page_faults", || {
        assert!(faults_again(&[6 * MIB]) < 20);
        assert!(faults_again(&[10 * MIB, 9 * MIB]) < 20);
        assert!(faults_again(&[60 * MIB]) < 20);
    });
}

#[test]
fn what_a_shorter_block_leaves_is_one_with_it_again() {
    succeed("what_a_shorter_block_leaves_is_one_with_it_again", || {
        assert!(faults_again(&[20 * MIB, 5 * MIB, 20 * MIB, 7 * MIB, 11 * MIB]) < 20);
    });
}

#[test]
fn blocks_of_many_threads_are_had_again() {
    succeed("blocks_of_many_threads_are_had_again", || {
        let round = |round: usize| {
            let fill = |thread: usize| {
                let block = written((5 + (thread + round) % 4) * MIB);
                assert!(block.iter().all(|&byte| byte == 1));
            };
            thread::scope(|scope| {
                for number in 0..8 {
                    scope.spawn(move || fill(number));
                }
            });
        };
        (0..30).for_each(round);
        HEAP.check_all().expect("a whole heap");
        let stats = HEAP.stats();
        assert_eq!((stats.huge_blocks, stats.huge_bytes), (0, 0));
    });
}

#[test]
fn what_is_kept_goes_back() {
    succeed("what_is_kept_goes_back", || {
        let blocks: Vec<_> = (0..6).map(|_| written(10 * MIB)).collect();
        let full = resident_bytes();
        drop(blocks);
        assert!(resident_bytes() + 40 * MIB > full, "it went at once");
        // Nobody comes by.
        let start = Instant::now();
        while resident_bytes() + 54 * MIB > full {
            assert!(start.elapsed() < Duration::from_secs(10), "{} stay", resident_bytes());
            thread::sleep(Duration::from_millis(50));
        }
        assert!(HEAP.stats().mapped_bytes < 40 * MIB, "their addresses, too");
    });
}

#[test]
fn what_is_kept_is_told_and_given_up_when_that_is_asked() {
    succeed("what_is_kept_is_told_and_given_up_when_that_is_asked", || {
        HEAP.purge();
        let before = HEAP.stats();
        drop(written(5 * MIB));
        let kept = HEAP.stats();
        assert_eq!((kept.huge_blocks, kept.huge_bytes), (0, 0));
        assert!(kept.mapped_bytes >= before.mapped_bytes + 5 * MIB, "{before:?} {kept:?}");
        assert!(HEAP.purge() >= 5 * MIB);
        assert!(HEAP.stats().mapped_bytes < before.mapped_bytes + 5 * MIB);
    });
}

#[test]
fn zeros_are_asked_for_and_had() {
    succeed("zeros_are_asked_for_and_had", || {
        for bytes in [5 * MIB, 6 * MIB, 30 * MIB] {
            drop(written(bytes));
            let block = black_box(vec![0u8; bytes]);
            assert!(block.iter().all(|&byte| byte == 0));
        }
    });
}

#[test]
fn what_is_kept_makes_room_for_what_it_does_not_serve() {
    succeed("what_is_kept_makes_room_for_what_it_does_not_serve", || {
        drop(written(40 * MIB));
        let before = resident_bytes();
        let block = written(50 * MIB);
        assert!(resident_bytes() < before + 20 * MIB, "{before} {}", resident_bytes());
        drop(block);
        // A vector that grows.
        let mut grows = written(5 * MIB);
        for step in 6..=50 {
            grows.resize(step * MIB, 1);
        }
        assert!(resident_bytes() < before + 20 * MIB, "{before} {}", resident_bytes());
        drop(grows);
        // More than is kept of anything.
        drop(written(100 * MIB));
        assert!(resident_bytes() < before + 30 * MIB, "{before} {}", resident_bytes());
    });
}

#[test]
fn a_kept_block_has_the_alignment_that_is_asked_for() {
    succeed("a_kept_block_has_the_alignment_that_is_asked_for", || {
        for shift in 16..26 {
            drop(written(5 * MIB));
            let layout = std::alloc::Layout::from_size_align(5 * MIB, 1 << shift).expect("one");
            // SAFETY: its size is not 0.
            let block = unsafe { std::alloc::alloc(layout) };
            assert!(!block.is_null() && block.addr().is_multiple_of(1 << shift), "{shift}");
            // SAFETY: made just now.
            unsafe { std::alloc::dealloc(block, layout) };
        }
    });
}

#[test]
fn nothing_is_kept_where_the_address_space_is_limited() {
    succeed("nothing_is_kept_where_the_address_space_is_limited", || {
        let before = mapped_bytes();
        limit_address_space((before + 100 * MIB) as libc::rlim_t);
        drop(written(60 * MIB));
        assert!(mapped_bytes() < before + 50 * MIB);
        drop(written(61 * MIB));
    });
}
