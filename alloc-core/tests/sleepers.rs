//! What many threads took, each a little, goes back to the OS while they sleep: whoever freed it, in
//! whichever order. Each case is a process of its own with a time limit; within that, it may take as
//! long as it takes.
//!
//! What comes to less than 8 MiB asks for nobody. So where a thread is so late that the others' memory has gone
//! back before it frees its own, its part may stay.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;
use std::{ptr, thread};

use alloc_core::CoreAlloc;

mod process;

use process::succeed;

#[global_allocator]
static HEAP: CoreAlloc = CoreAlloc::new();

/// A block, by its address, and its layout.
type Block = (usize, Layout);

/// Sizes of small blocks of all kinds, which come in turn.
const ALL_SIZES: [usize; 12] = [16, 40, 64, 100, 150, 250, 400, 600, 1000, 1500, 2500, 4000];

/// Live blocks of so many bytes together, all of them written.
fn burst(sizes: &[usize], bytes: usize) -> Vec<Block> {
    let mut rest = bytes;
    let mut blocks = Vec::with_capacity(bytes / (sizes.iter().sum::<usize>() / sizes.len()) + 1);
    for size in sizes.iter().cycle() {
        let layout = Layout::from_size_align(*size, 8).expect("a layout");
        // SAFETY: the layout is not empty.
        let block = unsafe { HEAP.alloc(layout) };
        assert!(!block.is_null());
        // SAFETY: a live block of so many bytes.
        unsafe { block.write_bytes(1, *size) };
        blocks.push((block.expose_provenance(), layout));
        let Some(left) = rest.checked_sub(*size) else { break };
        rest = left;
    }
    blocks
}

fn free(blocks: Vec<Block>) {
    for (address, layout) in blocks {
        // SAFETY: allocated by `burst` with this layout, and freed once.
        unsafe { HEAP.dealloc(ptr::with_exposed_provenance_mut(address), layout) };
    }
}

/// The order in which blocks are freed.
#[derive(Clone, Copy, Debug)]
enum Order {
    AsObtained,
    Shuffled,
}

/// The same blocks in this order.
fn put_in(order: Order, blocks: &mut [Block]) {
    if matches!(order, Order::AsObtained) {
        return;
    }
    let mut state = 88_172_645_463_325_252u64;
    for index in (1..blocks.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        blocks.swap(index, (state % (index as u64 + 1)) as usize);
    }
}

/// Who frees a thread's blocks: itself, or the next one.
#[derive(Clone, Copy, Debug)]
enum Freer {
    Itself,
    Another,
}

/// What asks for the heap's thread: of less nobody takes care.
const ASKS: usize = 8 << 20;

/// So many threads have so much each at once, and sleep when it is freed, until nine tenths of it have
/// gone back, but for what may stay.
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
                put_in(order, &mut blocks);
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
    while HEAP.resident_bytes() > before + (at_peak - before) / 10 + ASKS {
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
