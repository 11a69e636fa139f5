//! Steps of a program of which each replaces a block: what was asked and what is live follows from their
//! number.

/// So many blocks are live once all were made.
pub const LIVE: usize = 64;
/// The first ones of them are never replaced.
pub const KEPT: usize = 16;

/// Which block a step replaces, or makes.
#[must_use]
pub const fn place(number: u64) -> usize {
    let number = number as usize;
    if number < LIVE { number } else { KEPT + (number - LIVE) % (LIVE - KEPT) }
}

/// The size of the block that a step makes. No two of 50,000 steps have the same.
#[must_use]
pub const fn size(number: u64) -> u64 {
    32 + number % 50_000
}

/// The step whose block this one frees.
#[must_use]
pub const fn replaced(number: u64) -> Option<u64> {
    if number < LIVE as u64 { None } else { Some(number - (LIVE - KEPT) as u64) }
}
