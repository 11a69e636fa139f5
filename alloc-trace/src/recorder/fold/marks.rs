//! Which numbers are named.

/// A set of numbers, some of which it has in vain.
pub(super) struct Marks<const WORDS: usize>([u64; WORDS]);

impl<const WORDS: usize> Marks<WORDS> {
    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }

    const fn place(number: u32) -> (usize, u64) {
        let bit = number as usize % (WORDS * 64);
        (bit / 64, 1 << (bit % 64))
    }

    pub(super) fn insert(&mut self, number: u32) {
        let (word, bit) = Self::place(number);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        let (word, bit) = Self::place(number);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }
}
