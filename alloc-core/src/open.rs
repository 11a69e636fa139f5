//! Which segments have free slices: a bit each, so that a claim does not look into those that are
//! full.
//!
//! A segment's bit and its free slices are changed one after the other, and others act in between.
//! What holds in the end is that a segment with free slices is open; one that is open and full costs
//! the next claim a look. So whoever frees slices sets the bit after them, and whoever clears the bit
//! looks at the slices after it.
//!
//! `tests/loom` plays claims, releases and purges against each other.

use crate::sync::{AtomicU64, Ordering};

/// Whether a segment is open.
pub(crate) fn is_open(words: &[AtomicU64], segment: usize) -> bool {
    let word = words.get(segment / 64).map_or(0, |word| word.load(Ordering::Relaxed));
    word & (1 << (segment % 64)) != 0
}

/// Opens a segment, after slices of it became free.
pub(crate) fn open(words: &[AtomicU64], segment: usize) {
    if let Some(word) = words.get(segment / 64) {
        // Pairs with the `AcqRel` in `close`, which then sees those slices.
        word.fetch_or(1 << (segment % 64), Ordering::AcqRel);
    }
}

/// Closes a segment that was seen without free slices, unless it `has_free` ones by then.
pub(crate) fn close(words: &[AtomicU64], segment: usize, has_free: impl FnOnce() -> bool) {
    if let Some(word) = words.get(segment / 64) {
        word.fetch_and(!(1 << (segment % 64)), Ordering::AcqRel);
    }
    if has_free() {
        open(words, segment);
    }
}
