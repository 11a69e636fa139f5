//! Vectors that grow by `push`, from nothing.

use std::hint::black_box;

use super::race::{Done, Raced, race};

/// To 1 MiB.
pub(super) fn to_1_mib(threads: usize) -> Raced {
    grow(threads, 6_000, 1 << 20)
}

/// To 256 MiB. On eight threads that is twice as many vectors as on fewer, of which each needs up to 768 MiB while
/// it moves.
pub(super) fn to_256_mib(threads: usize) -> Raced {
    grow(threads, 4, 256 << 20)
}

fn grow(threads: usize, vectors: u64, bytes: usize) -> Raced {
    let vectors = (vectors / threads as u64).max(1);
    race(threads, |_, start| {
        start.ready();
        let mut checksum = 0u64;
        for vector in 0..vectors {
            let mut numbers = Vec::new();
            for number in 0..(bytes / 16) as u64 {
                numbers.push([number, vector]);
            }
            checksum = checksum.wrapping_add(black_box(&numbers).len() as u64);
        }
        Done { operations: vectors, checksum }
    })
}
