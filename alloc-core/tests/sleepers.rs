//! What many threads took, each a little, goes back to the OS while they sleep: whoever freed it, in
//! whichever order. Each case is a process of its own with a time limit; within that, it may take as
//! long as it takes.

use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use alloc_core::CoreAlloc;

mod blocks;
mod process;

use blocks::{burst, free, shuffle};
use process::succeed;

#[global_allocator]
static HEAP: CoreAlloc = CoreAlloc::new();

/// Sizes of small blocks of all kinds, which come in turn.
const ALL_SIZES: [usize; 12] = [16, 40, 64, 100, 150, 250, 400, 600, 1000, 1500, 2500, 4000];

/// The order in which blocks are freed.
#[derive(Clone, Copy, Debug)]
enum Order {
    AsObtained,
    Shuffled,
}

/// Who frees a thread's blocks: itself, or the next one.
#[derive(Clone, Copy, Debug)]
enum Freer {
    Itself,
    Another,
}

/// So many threads have so much each at once, and sleep when it is freed, until nine tenths of it have
/// gone back.
fn check(threads: usize, bytes: usize, sizes: &'static [usize], order: Order, freer: Freer) {
    check_but(|_| false, threads, bytes, sizes, order, freer);
}

/// The same, where each thread keeps some of the blocks that it obtained, by their number.
fn check_but(
    is_kept: fn(usize) -> bool,
    threads: usize,
    bytes: usize,
    sizes: &'static [usize],
    order: Order,
    freer: Freer,
) {
    let all_are_here = Arc::new(Barrier::new(threads + 1));
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..threads).map(|_| mpsc::channel()).unzip();
    let sleepers: Vec<_> = receivers
        .into_iter()
        .enumerate()
        .map(|(index, receiver)| {
            let to = match freer {
                Freer::Itself => index,
                Freer::Another => (index + 1) % threads,
            };
            let (sender, all_are_here) = (senders[to].clone(), Arc::clone(&all_are_here));
            thread::spawn(move || {
                // So has a thread its heap.
                free(burst(&[64], 0));
                all_are_here.wait();
                all_are_here.wait();
                let mut blocks = burst(sizes, bytes);
                let mut kept = Vec::new();
                let mut number = 0;
                blocks.retain(|&block| {
                    number += 1;
                    kept.extend(is_kept(number).then_some(block));
                    !is_kept(number)
                });
                if matches!(order, Order::Shuffled) {
                    shuffle(&mut blocks);
                }
                all_are_here.wait();
                all_are_here.wait();
                sender.send(Some(blocks)).expect("somebody waits");
                free(receiver.recv().expect("blocks").expect("blocks"));
                all_are_here.wait();
                // Its heap stays its own, and it does nothing.
                assert!(receiver.recv().expect("the end").is_none());
                free(kept);
            })
        })
        .collect();
    all_are_here.wait();
    let before = HEAP.resident_bytes();
    all_are_here.wait();
    all_are_here.wait();
    let at_peak = HEAP.resident_bytes();
    all_are_here.wait();
    assert!(at_peak > before + threads * bytes / 2, "{before}, then {at_peak}");
    all_are_here.wait();
    // Nothing here asks the heap for anything.
    while HEAP.resident_bytes() > before + (at_peak - before) / 10 {
        thread::sleep(Duration::from_millis(20));
    }
    for sender in senders {
        sender.send(None).expect("it sleeps");
    }
    for sleeper in sleepers {
        sleeper.join().expect("a thread");
    }
    HEAP.check_all().expect("a whole heap");
}

/// Bursts of so many threads of so many MiB each: of small blocks and of larger ones, and of all kinds.
fn check_all_sizes(name: &str, threads: usize, mib: usize, freer: Freer) {
    succeed(name, || {
        check(threads, mib << 20, &[64], Order::AsObtained, freer);
        check(threads, mib << 20, &[1024], Order::Shuffled, freer);
        for order in [Order::AsObtained, Order::Shuffled] {
            check(threads, mib << 20, &ALL_SIZES, order, freer);
        }
    });
}

#[test]
fn what_threads_freed_between_blocks_that_they_keep_goes_back() {
    succeed("what_threads_freed_between_blocks_that_they_keep_goes_back", || {
        // One or more in each page of the heap, so that none is unused.
        let is_kept = |number| number % 60 == 0;
        check_but(is_kept, 8, 8 << 20, &[3000], Order::AsObtained, Freer::Itself);
    });
}

#[test]
fn what_others_freed_in_no_order_goes_back_though_each_freed_little() {
    succeed("what_others_freed_in_no_order_goes_back_though_each_freed_little", || {
        check(8, 4 << 20, &ALL_SIZES, Order::Shuffled, Freer::Another);
    });
}

#[test]
fn what_8_threads_took_4_mib_each_goes_back() {
    check_all_sizes("what_8_threads_took_4_mib_each_goes_back", 8, 4, Freer::Itself);
}

#[test]
fn what_8_threads_took_8_mib_each_goes_back() {
    check_all_sizes("what_8_threads_took_8_mib_each_goes_back", 8, 8, Freer::Itself);
}

#[test]
fn what_8_threads_took_16_mib_each_goes_back() {
    check_all_sizes("what_8_threads_took_16_mib_each_goes_back", 8, 16, Freer::Itself);
}

#[test]
fn what_64_threads_took_1_mib_each_goes_back() {
    check_all_sizes("what_64_threads_took_1_mib_each_goes_back", 64, 1, Freer::Itself);
}

#[test]
fn what_8_threads_took_4_mib_each_and_others_freed_goes_back() {
    let name = "what_8_threads_took_4_mib_each_and_others_freed_goes_back";
    check_all_sizes(name, 8, 4, Freer::Another);
}

#[test]
fn what_8_threads_took_16_mib_each_and_others_freed_goes_back() {
    let name = "what_8_threads_took_16_mib_each_and_others_freed_goes_back";
    check_all_sizes(name, 8, 16, Freer::Another);
}

#[test]
fn what_64_threads_took_1_mib_each_and_others_freed_goes_back() {
    let name = "what_64_threads_took_1_mib_each_and_others_freed_goes_back";
    check_all_sizes(name, 64, 1, Freer::Another);
}
