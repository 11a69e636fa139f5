//! Threads that come, allocate, and go.

use std::thread;

use super::blocks::{Block, layout};
use super::race::{Done, Raced, race};
use crate::random::Random;

/// Threads that allocate a hundred blocks, free all but a few, and exit; whoever made them frees the
/// rest.
pub(super) fn churn(threads: usize) -> Raced {
    let rounds = 4_000 / threads as u64;
    race(threads, |index, start| {
        start.ready();
        let mut checksum = 0u64;
        for round in 0..rounds {
            let thread = thread::spawn(move || {
                let mut random = Random::new(index as u64 * rounds + round + 1);
                let mut blocks: Vec<_> = (0..100)
                    .map(|index| {
                        let layout = layout(random.size());
                        Block::new(layout, index)
                    })
                    .collect();
                let freed: u64 = blocks.drain(8..).map(Block::free).sum();
                (freed, blocks)
            });
            let (freed, blocks) = thread.join().expect("a thread that ends");
            checksum += freed + blocks.into_iter().map(Block::free).sum::<u64>();
        }
        Done { operations: rounds, checksum }
    })
}
