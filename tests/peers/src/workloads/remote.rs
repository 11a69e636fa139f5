//! Blocks that one thread allocates and another frees.

use std::sync::mpsc::sync_channel;

use super::blocks::{Block, layout};
use super::race::{Done, Raced, race};
use crate::random::Random;

/// Blocks handed over at a time.
const BATCH: usize = 256;

/// Pairs of a producer and a consumer, blocks of 64 bytes.
pub(super) fn one_size(threads: usize) -> Raced {
    producers_and_consumers(threads, 8_000_000, |_| 64)
}

/// Pairs of a producer and a consumer, blocks of random sizes.
pub(super) fn mixed(threads: usize) -> Raced {
    producers_and_consumers(threads, 6_000_000, Random::size)
}

fn producers_and_consumers(
    threads: usize,
    blocks: usize,
    size: impl Fn(&mut Random) -> usize + Sync,
) -> Raced {
    let pairs = threads / 2;
    let batches = blocks / pairs / BATCH;
    // The channel hands over arrays in place: the channel itself asks for nothing on the way.
    let (producers, consumers): (Vec<_>, Vec<_>) = (0..pairs)
        .map(|_| {
            let (sender, receiver) = sync_channel::<[Block; BATCH]>(16);
            (std::sync::Mutex::new(Some(sender)), std::sync::Mutex::new(Some(receiver)))
        })
        .unzip();
    race(threads, |index, start| {
        let pair = index / 2;
        if index.is_multiple_of(2) {
            let sender = producers[pair].lock().expect("a lock").take().expect("a sender");
            let mut random = Random::new(pair as u64 + 1);
            start.ready();
            for _ in 0..batches {
                let batch = std::array::from_fn(|place| {
                    let layout = layout(size(&mut random));
                    Block::new(layout, place as u8)
                });
                sender.send(batch).expect("a consumer");
            }
            Done { operations: (batches * BATCH) as u64, checksum: 0 }
        } else {
            let receiver = consumers[pair].lock().expect("a lock").take().expect("a receiver");
            start.ready();
            let mut checksum = 0;
            while let Ok(batch) = receiver.recv() {
                checksum += batch.into_iter().map(Block::free).sum::<u64>();
            }
            Done { operations: 0, checksum }
        }
    })
}
