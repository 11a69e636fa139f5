//! What a closure asks of the heap is counted exactly, on its own thread, nested and through panics.

use std::alloc::System;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Barrier};
use std::thread;

use alloc_trace::{HeapUse, Recording, TraceAlloc, is_recording, measure};
use tests::block::Block;

#[global_allocator]
static ALLOCATOR: TraceAlloc<System> = TraceAlloc::new(System);

/// Every count, in one comparison: allocations, zeroed, reallocations, frees, failed, requested
/// bytes, freed bytes, peak bytes.
fn counts(heap: HeapUse) -> [u64; 8] {
    let HeapUse {
        allocations,
        zeroed_allocations,
        reallocations,
        frees,
        failed_requests,
        requested_bytes,
        freed_bytes,
        peak_bytes,
        ..
    } = heap;
    [
        allocations,
        zeroed_allocations,
        reallocations,
        frees,
        failed_requests,
        requested_bytes,
        freed_bytes,
        peak_bytes,
    ]
}

/// One event of each kind and one that fails: 1,500 bytes at most at a time, 700 left.
fn one_of_each() -> Block {
    let first = Block::new(1000, 8);
    let zeroed = Block::zeroed(500, 64);
    first.free();
    assert!(Block::try_new(isize::MAX as usize - 15, 16).is_none());
    zeroed.resize(700)
}

const ONE_OF_EACH: [u64; 8] = [2, 1, 1, 1, 1, 2200, 1500, 1500];

#[test]
fn every_kind_of_request_is_counted() {
    let (left, heap) = measure(one_of_each);
    assert_eq!(counts(heap), ONE_OF_EACH);
    assert_eq!((heap.events(), heap.live_bytes()), (5, 700));
    let ((), heap) = measure(|| left.free());
    assert_eq!(counts(heap), [0, 0, 0, 1, 0, 0, 700, 0]);
    assert_eq!(heap.live_bytes(), -700);
    let ((), heap) = measure(|| ());
    assert_eq!(heap, HeapUse::default());
}

#[test]
fn an_outer_measurement_includes_the_inner_one() {
    let ((), heap) = measure(|| {
        let before = Block::new(300, 8);
        let (left, inner) = measure(one_of_each);
        assert_eq!(counts(inner), ONE_OF_EACH);
        before.free();
        let ((), inner) = measure(|| left.free());
        assert_eq!(counts(inner), [0, 0, 0, 1, 0, 0, 700, 0]);
        Block::new(1, 1).free();
    });
    // At most 300 bytes from outside of the inner one and 1,500 from within.
    assert_eq!(counts(heap), [4, 1, 1, 4, 1, 2501, 2501, 1800]);
    assert_eq!(heap.live_bytes(), 0);
}

#[test]
fn only_the_measuring_thread_is_counted() {
    let barrier = Arc::new(Barrier::new(2));
    let other = {
        let barrier = Arc::clone(&barrier);
        thread::spawn(move || {
            barrier.wait();
            let ((), heap) = measure(|| (1..=1000).for_each(|size| Block::new(size, 8).free()));
            barrier.wait();
            heap
        })
    };
    let (left, heap) = measure(|| {
        barrier.wait();
        let left = one_of_each();
        barrier.wait();
        left
    });
    assert_eq!(counts(heap), ONE_OF_EACH);
    let sum = 1000 * 1001 / 2;
    assert_eq!(counts(other.join().expect("no panic")), [1000, 0, 0, 1000, 0, sum, sum, 1000]);
    left.free();
}

#[test]
fn a_panic_is_passed_on_and_leaves_no_measurement_behind() {
    let ((), heap) = measure(|| {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            measure(|| {
                Block::new(400, 8).free();
                resume_unwind(Box::new(()));
            })
        }));
        assert!(caught.is_err());
        Block::new(100, 8).free();
    });
    // What was counted until then is not lost. On top comes what unwinding itself asks for.
    assert!(heap.allocations >= 2 && heap.requested_bytes >= 500, "{heap:?}");
    assert_eq!(heap.live_bytes(), 0);
    let (left, heap) = measure(one_of_each);
    assert_eq!(counts(heap), ONE_OF_EACH);
    left.free();
}

#[test]
fn a_recording_and_a_measurement_do_not_disturb_each_other() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    assert!(!is_recording());
    let recording = Recording::builder().output(&path).start().expect("a recording");
    let (left, heap) = measure(one_of_each);
    assert_eq!(counts(heap), ONE_OF_EACH);
    recording.stop();
    assert!(!is_recording());
    let (again, heap) = measure(one_of_each);
    assert_eq!(counts(heap), ONE_OF_EACH);
    left.free();
    again.free();
}
