//! The heap driven by operations and held against the model. Each test has a process to itself, so that
//! the whole heap can be looked through wherever its threads are at rest.

use std::sync::{Arc, mpsc};
use std::thread;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::{HEAP, process};
use crate::os::fault;
use crate::spare;

#[path = "../../tests/model/mod.rs"]
mod model;

use model::{Block, Model, Operation, Random, Rest};

/// Runs a case of this module in a process of its own, where it must succeed.
fn alone(name: &str, case: impl FnOnce()) {
    process::succeed(&format!("tests::against_model::{name}"), case);
}

/// Looks through the whole heap. No other thread may use it.
fn check_all() {
    HEAP.check_all().unwrap();
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

#[test]
fn any_operations_agree_with_the_model() {
    alone("any_operations_agree_with_the_model", || {
        // A damaged heap stays so: after a failure a smaller case would fail whatever it does.
        let config = ProptestConfig {
            cases: 48,
            failure_persistence: None,
            max_shrink_iters: 0,
            ..Default::default()
        };
        let held = TestRunner::new(config).run(&operations(), |operations| {
            let mut model = Model::new(HEAP);
            for operation in operations {
                model.step(operation);
                check_all();
            }
            model.free_all();
            check_all();
            prop_assert_eq!(model.refused, 0);
            Ok(())
        });
        held.unwrap_or_else(|failure| panic!("{failure}"));
    });
}

/// Steps of a stress test's thread; more in release builds.
const STEPS: usize = if cfg!(debug_assertions) { 10_000 } else { 200_000 };

/// Threads that allocate, pass blocks on to each other, and free what they are given.
#[test]
fn threads_that_exchange_blocks_agree_with_the_model() {
    alone("threads_that_exchange_blocks_agree_with_the_model", || {
        const THREADS: usize = 4;
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..THREADS).map(|_| mpsc::channel::<Block>()).unzip();
        let rest = Arc::new(Rest::new(THREADS));
        let workers: Vec<_> = receivers
            .into_iter()
            .enumerate()
            .map(|(number, receiver)| {
                let neighbour = senders[(number + 1) % THREADS].clone();
                let rest = Arc::clone(&rest);
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
                            rest.meet(check_all);
                        }
                    }
                    drop(neighbour);
                    model.free_all();
                    rest.meet(check_all);
                    receiver
                })
            })
            .collect();
        drop(senders);
        let mut left = Model::new(HEAP);
        for worker in workers {
            for block in worker.join().unwrap() {
                left.insert(block);
            }
        }
        left.free_all();
        check_all();
    });
}

/// One thread only allocates, another only frees: the remote frees must come back to the first,
/// or its pages would grow without end.
#[test]
fn what_a_consumer_frees_serves_the_producer_again() {
    alone("what_a_consumer_frees_serves_the_producer_again", || {
        let (send, receive) = mpsc::sync_channel::<Vec<Block>>(2);
        let consumer = thread::spawn(move || {
            let mut model = Model::new(HEAP);
            for batch in receive {
                for block in batch {
                    model.insert(block);
                }
                model.free_all();
            }
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
            pages.len()
        });
        let pages = producer.join().unwrap();
        consumer.join().unwrap();
        check_all();
        // Five batches of 64 KiB may be under way at once, and caches hold some.
        assert!(pages < 30, "100,000 blocks of 64 bytes took {pages} pages");
    });
}

/// Threads end with live blocks, which others free and later threads' heaps contain.
#[test]
fn blocks_outlive_their_threads() {
    alone("blocks_outlive_their_threads", || {
        let mut kept = Model::new(HEAP);
        for generation in 0..200 {
            let blocks = thread::spawn(move || {
                let mut random = Random::new(generation);
                let mut model = Model::new(HEAP);
                for _ in 0..200 {
                    model.step(random.operation(model.live(), 100));
                }
                std::iter::from_fn(move || model.remove(0)).collect::<Vec<_>>()
            })
            .join()
            .unwrap();
            check_all();
            for block in blocks {
                kept.insert(block);
            }
            while kept.live() > 1000 {
                kept.step(Operation::Free { which: generation as usize });
            }
        }
        kept.free_all();
        check_all();
    });
}

/// The Nth request to the OS fails, alone or with all that follow: null, and a heap that goes on.
#[test]
fn a_refusing_os_gives_null_and_a_whole_heap() {
    alone("a_refusing_os_gives_null_and_a_whole_heap", || {
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
                        let refused_before = model.refused;
                        // So that the OS is asked for each huge block.
                        spare::purge(true);
                        model.step(random.operation(model.live(), 50));
                        let size = 1 << random.below(26);
                        model.step(Operation::Alloc { size, align_shift: random.below(25) as u32 });
                        if random.below(4) != 0 {
                            model.step(Operation::Free { which: model.live() - 1 });
                        }
                        HEAP.check().unwrap();
                        if model.refused != refused_before {
                            check_all();
                        }
                    }
                    let is_pending = fault::is_pending();
                    model.free_all();
                    check_all();
                    fault::refuse(0, false);
                    // And it still serves.
                    let before = model.refused;
                    for _ in 0..50 {
                        model.step(random.operation(model.live(), 50));
                    }
                    assert_eq!(model.refused, before);
                    model.free_all();
                    check_all();
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
    });
}
