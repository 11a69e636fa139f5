//! Blocks that one thread allocates and another frees, both ways at once; and the same work on one
//! thread, for comparison.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use peers::random::Random;

/// Blocks handed over at a time.
const BATCH: usize = 256;

type Batch = [Vec<u8>; BATCH];

/// Two threads of which each frees what the other allocates; about so many events of both together.
pub(crate) fn remote(events: u64) -> u64 {
    let batches = events as usize / 4 / BATCH;
    let (to_second, from_first) = sync_channel(8);
    let (to_first, from_second) = sync_channel(8);
    thread::scope(|scope| {
        let second = scope.spawn(move || exchange(2, batches, &to_first, &from_first));
        exchange(1, batches, &to_second, &from_second) + second.join().expect("a thread that ends")
    })
}

/// One thread that frees what it allocates itself.
pub(crate) fn own(events: u64) -> u64 {
    let batches = events as usize / 2 / BATCH;
    let (sender, receiver) = sync_channel(8);
    exchange(1, batches, &sender, &receiver)
}

fn exchange(seed: u64, batches: usize, to: &SyncSender<Batch>, from: &Receiver<Batch>) -> u64 {
    let mut random = Random::new(seed);
    let mut sum = 0;
    for _ in 0..batches {
        to.send(allocate(&mut random)).expect("a thread that takes it");
        sum += free(from.recv().expect("a thread that gives it"));
    }
    sum
}

#[inline(never)]
fn allocate(random: &mut Random) -> Batch {
    std::array::from_fn(|_| {
        let size = 8 + random.below(249);
        let mut block = Vec::with_capacity(size);
        block.push(size as u8);
        block
    })
}

#[inline(never)]
fn free(batch: Batch) -> u64 {
    batch.into_iter().map(|block| u64::from(block[0])).sum()
}
