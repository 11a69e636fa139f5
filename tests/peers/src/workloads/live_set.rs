//! The time of an operation as the number of live blocks grows.

use super::blocks;
use super::race::{Done, Raced, race};
use crate::random::Random;

/// Replaces random ones of `LIVE` blocks of 16 to 128 bytes. The blocks' own cache misses are part of
/// the time, under every allocator alike.
pub(super) fn replace<const LIVE: usize>(threads: usize) -> Raced {
    let rounds = 4_000_000 / threads as u64;
    race(threads, |index, start| {
        let mut random = Random::new(index as u64 + 1);
        start.ready();
        let checksum = blocks::replace(&mut random, LIVE, rounds, |random| 16 + random.below(113));
        Done { operations: rounds + LIVE as u64, checksum }
    })
}
