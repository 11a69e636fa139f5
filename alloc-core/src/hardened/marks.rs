//! Which blocks of a page the program has: a bit each.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::record::WORDS;

/// The bits of a page. They are changed by whichever thread frees or is given a block; one block has one
/// such thread at a time, so `Relaxed` does.
#[derive(Debug)]
pub(crate) struct Marks([AtomicU64; WORDS]);

impl Marks {
    /// Marks the block of a bit as the program's or not. Says whether it was the other before.
    pub(crate) fn set(&self, word: usize, bit: u64, is_live: bool) -> bool {
        let Some(word) = self.0.get(word) else { return false };
        if is_live {
            word.fetch_or(bit, Ordering::Relaxed) & bit == 0
        } else {
            word.fetch_and(!bit, Ordering::Relaxed) & bit != 0
        }
    }

    /// The bits of a word.
    pub(crate) fn get(&self, word: usize) -> u64 {
        self.0.get(word).map_or(0, |word| word.load(Ordering::Relaxed))
    }
}
