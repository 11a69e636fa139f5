//! Tests of the heap as a whole. The test program's own allocator is the system's, so that a
//! damaged heap is found by the test and does not take the test down with it.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::NonNull;
use std::sync::mpsc;
use std::thread;

use proptest::prelude::*;

use crate::CoreAlloc;
use crate::os::fault;

#[path = "../tests/model/mod.rs"]
mod model;

use model::{Block, Model, Operation, Random};

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

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let size = prop_oneof![
        20 => 0usize..400,
        5 => 0usize..40_000,
        2 => 0usize..400_000,
        1 => 0usize..9_000_000,
    ];
    let align = prop_oneof![6 => 0u32..6, 1 => 0u32..23];
    let operation = prop_oneof![
        5 => (size.clone(), align.clone())
            .prop_map(|(size, align_shift)| Operation::Alloc { size, align_shift }),
        2 => (size.clone(), align)
            .prop_map(|(size, align_shift)| Operation::AllocZeroed { size, align_shift }),
        2 => (any::<usize>(), size).prop_map(|(which, size)| Operation::Realloc { which, size }),
        4 => any::<usize>().prop_map(|which| Operation::Free { which }),
    ];
    prop::collection::vec(operation, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_operations_agree_with_the_model(operations in operations()) {
        let mut model = Model::new(HEAP);
        for operation in operations {
            model.step(operation);
        }
        check();
        model.free_all();
        check();
        prop_assert_eq!(model.refused, 0);
    }
}

/// Steps of a stress test's thread; more in release builds.
const STEPS: usize = if cfg!(debug_assertions) { 10_000 } else { 200_000 };

/// Threads that allocate, pass blocks on to each other, and free what they are given.
#[test]
fn threads_that_exchange_blocks_agree_with_the_model() {
    const THREADS: usize = 4;
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..THREADS).map(|_| mpsc::channel::<Block>()).unzip();
    let workers: Vec<_> = receivers
        .into_iter()
        .enumerate()
        .map(|(number, receiver)| {
            let neighbour = senders[(number + 1) % THREADS].clone();
            thread::spawn(move || {
                let mut random = Random::new(number as u64 + 1);
                let mut model = Model::new(HEAP);
                for step in 0..STEPS {
                    model.step(random.operation(model.live(), 300));
                    if random.below(4) == 0
                        && let Some(block) = model.remove(random.below(1000))
                    {
                        let _ = neighbour.send(block);
                    }
                    while let Ok(block) = receiver.try_recv() {
                        model.insert(block);
                    }
                    if step % 1000 == 0 {
                        check();
                    }
                }
                drop(neighbour);
                model.free_all();
                check();
                receiver
            })
        })
        .collect();
    drop(senders);
    let mut rest = Model::new(HEAP);
    for worker in workers {
        for block in worker.join().unwrap() {
            rest.insert(block);
        }
    }
    rest.free_all();
    check();
}

/// One thread only allocates, another only frees: the remote frees must come back to the first,
/// or its pages would grow without end.
#[test]
fn what_a_consumer_frees_serves_the_producer_again() {
    let (send, receive) = mpsc::sync_channel::<Vec<Block>>(2);
    let consumer = thread::spawn(move || {
        let mut model = Model::new(HEAP);
        for batch in receive {
            for block in batch {
                model.insert(block);
            }
            model.free_all();
        }
        check();
    });
    let producer = thread::spawn(move || {
        let mut model = Model::new(HEAP);
        let mut pages = std::collections::BTreeSet::new();
        for _ in 0..100 {
            for _ in 0..1000 {
                model.step(Operation::Alloc { size: 64, align_shift: 3 });
            }
            pages.extend(model.slices());
            let batch: Vec<_> = std::iter::from_fn(|| model.remove(0)).collect();
            send.send(batch).unwrap();
        }
        check();
        pages.len()
    });
    let pages = producer.join().unwrap();
    consumer.join().unwrap();
    // Five batches of 64 KiB may be under way at once, and caches hold some.
    assert!(pages < 30, "100,000 blocks of 64 bytes took {pages} pages");
}

/// Threads end with live blocks, which others free and later threads' heaps contain.
#[test]
fn blocks_outlive_their_threads() {
    let mut kept = Model::new(HEAP);
    for generation in 0..200 {
        let blocks = thread::spawn(move || {
            let mut random = Random::new(generation);
            let mut model = Model::new(HEAP);
            for _ in 0..200 {
                model.step(random.operation(model.live(), 100));
            }
            check();
            std::iter::from_fn(move || model.remove(0)).collect::<Vec<_>>()
        })
        .join()
        .unwrap();
        for block in blocks {
            kept.insert(block);
        }
        while kept.live() > 1000 {
            kept.step(Operation::Free { which: generation as usize });
        }
    }
    kept.free_all();
    check();
}

/// The Nth request to the OS fails, alone or with all that follow: null, and a heap that goes on.
#[test]
fn a_refusing_os_gives_null_and_a_whole_heap() {
    let mut refused = 0;
    let mut struck = 0;
    for lasting in [false, true] {
        for nth in 1..50 {
            // A thread of its own, whose heap has pages to ask for.
            let (null_answers, is_pending) = thread::spawn(move || {
                let mut random = Random::new(nth.into());
                let mut model = Model::new(HEAP);
                fault::refuse(nth, lasting);
                for _ in 0..150 {
                    model.step(random.operation(model.live(), 50));
                    let size = 1 << random.below(26);
                    model.step(Operation::Alloc { size, align_shift: random.below(25) as u32 });
                    if random.below(4) != 0 {
                        model.step(Operation::Free { which: model.live() - 1 });
                    }
                    check();
                }
                let is_pending = fault::is_pending();
                model.free_all();
                check();
                fault::refuse(0, false);
                // And it still serves.
                let before = model.refused;
                for _ in 0..50 {
                    model.step(random.operation(model.live(), 50));
                }
                assert_eq!(model.refused, before);
                model.free_all();
                check();
                (before, is_pending)
            })
            .join()
            .unwrap();
            refused += null_answers;
            struck += usize::from(!is_pending);
        }
    }
    assert!(refused > 50, "only {refused} requests met a refusal");
    assert!(struck > 80, "only {struck} faults struck");
}
