//! What the heap does where a filter of system calls refuses what it asks for. Each case is a process of its own
//! with a time limit. `CoreAlloc` is the allocator of the whole program.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_long;
use std::hint::black_box;
use std::thread;
use std::time::Duration;

use alloc_core::CoreAlloc;

mod blocks;
mod filter;
mod process;

use blocks::{burst, free, shuffle};
use process::succeed;

#[global_allocator]
static HEAP: CoreAlloc = CoreAlloc::new();

const SIZES: [usize; 6] = [16, 100, 400, 1000, 4000, 30_000];

/// Runs a case where these calls are refused, while another thread sleeps with what its caches hold.
fn succeed_without(name: &str, calls: &[c_long], case: fn()) {
    succeed(name, || {
        // The C library has its own needs when it starts the first one.
        thread::spawn(|| {}).join().expect("a thread");
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let sleeper = thread::spawn(move || {
            free(burst(&SIZES, 1 << 20));
            assert!(receiver.recv().is_err());
            use_all_kinds();
        });
        filter::forbid(calls, libc::EPERM);
        use_all_kinds();
        case();
        use_all_kinds();
        drop(sender);
        sleeper.join().expect("a thread");
        HEAP.check_all().expect("a whole heap");
        // Once more, when memory has come to be used again and again.
        use_all_kinds();
    });
}

/// Blocks of all kinds, each of which holds what was written to it.
fn use_all_kinds() {
    let vectors: Vec<Vec<u8>> = (0..3000).map(|n| vec![n as u8; n * 7]).collect();
    let large: Vec<Vec<u8>> = (1..40).map(|n| vec![n as u8; n * 150_000]).collect();
    for (n, vector) in vectors.iter().enumerate() {
        assert!(vector.iter().all(|byte| *byte == n as u8));
    }
    for (n, block) in large.iter().enumerate() {
        assert!(block.iter().all(|byte| *byte == n as u8 + 1));
    }
    HEAP.check().expect("a whole heap");
}

/// Has much memory in use, then none, until most of it went back. In the meantime this thread does so.
fn expect_a_burst_to_go_back(meanwhile: fn()) {
    HEAP.purge();
    let before = HEAP.resident_bytes();
    let mut blocks = burst(&SIZES, 64 << 20);
    let at_peak = HEAP.resident_bytes();
    assert!(at_peak > before + (40 << 20), "{before}, then {at_peak}");
    shuffle(&mut blocks);
    free(blocks);
    while HEAP.resident_bytes() > before + (at_peak - before) / 10 {
        thread::sleep(Duration::from_millis(20));
        meanwhile();
    }
}

#[test]
fn a_burst_goes_back_where_the_barrier_is_forbidden() {
    let name = "a_burst_goes_back_where_the_barrier_is_forbidden";
    succeed_without(name, &[libc::SYS_membarrier], || expect_a_burst_to_go_back(|| {}));
}

#[test]
fn a_burst_goes_back_where_forks_cannot_be_waited_for() {
    let name = "a_burst_goes_back_where_forks_cannot_be_waited_for";
    succeed(name, || {
        // What is resident cannot be asked then.
        filter::forbid(&[libc::SYS_mincore], libc::EPERM);
        let blocks = burst(&SIZES, 64 << 20);
        let before = HEAP.stats().purged_bytes;
        free(blocks);
        while HEAP.stats().purged_bytes < before + (40 << 20) {
            thread::sleep(Duration::from_millis(20));
        }
        use_all_kinds();
        HEAP.check_all().expect("a whole heap");
    });
}

#[test]
fn a_program_gives_back_by_itself_where_the_heaps_thread_is_forbidden() {
    let name = "a_program_gives_back_by_itself_where_the_heaps_thread_is_forbidden";
    succeed_without(name, &[libc::SYS_clone], || {
        expect_a_burst_to_go_back(|| drop(black_box(vec![1u8; 200_000])));
        let tasks = std::fs::read_dir("/proc/self/task").expect("this process's threads");
        assert_eq!(tasks.count(), 3, "the test's own, the one that runs it, and the sleeper");
    });
}

#[test]
fn what_the_kernel_will_not_take_back_is_cleared_for_who_wants_zeros() {
    let name = "what_the_kernel_will_not_take_back_is_cleared_for_who_wants_zeros";
    succeed_without(name, &[libc::SYS_madvise], || {
        let layout = Layout::from_size_align(300_000, 8).expect("a layout");
        // Mappings of huge blocks can go.
        HEAP.purge();
        for _ in 0..3 {
            drop((0..100).map(|_| vec![1u8; layout.size()]).collect::<Vec<_>>());
            assert_eq!(HEAP.purge(), 0);
            let blocks: Vec<_> = (0..100)
                // SAFETY: the layout is not empty.
                .map(|_| unsafe { HEAP.alloc_zeroed(layout) })
                .collect();
            for block in blocks {
                // SAFETY: a live block of so many bytes, all of which were cleared.
                let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
                assert!(bytes.iter().all(|byte| *byte == 0));
                // SAFETY: allocated with this layout, and nobody uses it any more.
                unsafe { HEAP.dealloc(block, layout) };
            }
        }
    });
}
