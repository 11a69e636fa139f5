//! The time of an operation as the number of live blocks grows.

use std::hint::black_box;

use super::blocks;
use super::race::{Done, Raced, race};
use crate::fresh;
use crate::random::Random;

/// Replaces random ones of `LIVE` blocks of 16 to 128 bytes. The blocks' own cache misses are part of
/// the time, under every allocator alike.
pub(super) fn replace<const LIVE: usize>(threads: usize) -> Raced {
    let rounds = 4_000_000 / threads as u64;
    race(threads, |index, start| {
        let mut random = Random::new(index as u64 + 1);
        start.ready();
        let checksum = blocks::replace(&mut random, LIVE, rounds, size);
        Done { operations: rounds + LIVE as u64, checksum }
    })
}

fn size(random: &mut Random) -> usize {
    16 + random.below(113)
}

/// The same loop without an allocator: the blocks lie one behind the other in fresh memory, and one that is
/// replaced stays where it is. What this takes the caches of the processor take, and no allocator can save it.
pub(super) fn alone<const LIVE: usize>(threads: usize) -> Raced {
    let rounds = 4_000_000 / threads as u64;
    race(threads, |index, start| {
        let mut random = Random::new(index as u64 + 1);
        let mut memory = fresh::Memory::new(LIVE * 128).expect("memory");
        start.ready();
        let bytes = memory.bytes();
        let mut end = 0;
        let mut blocks: Vec<_> = (0..LIVE)
            .map(|index| {
                let layout = blocks::layout(size(&mut random));
                let place = end;
                end += layout.size().next_multiple_of(16);
                bytes[place] = index as u8;
                (black_box(place), layout)
            })
            .collect();
        let mut checksum = 0u64;
        for round in 0..rounds {
            let index = random.below(LIVE);
            let (place, _) = blocks[index];
            checksum = checksum.wrapping_add(u64::from(bytes[place]));
            bytes[place] = round as u8;
            blocks[index] = (black_box(place), blocks::layout(size(&mut random)));
        }
        let checksum = blocks
            .into_iter()
            .fold(checksum, |checksum, (place, _)| checksum.wrapping_add(u64::from(bytes[place])));
        Done { operations: rounds + LIVE as u64, checksum }
    })
}
