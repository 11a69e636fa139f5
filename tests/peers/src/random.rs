//! Numbers that are the same in every run, under every allocator.

/// A xorshift generator (Marsaglia, "Xorshift RNGs", 2003).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator whose numbers depend on the seed alone.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next 64 bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next number below a bound.
    #[inline]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// A request's size in bytes: mostly small, as programs ask for them: half of them below 64,
    /// few above 1024, at most 8192.
    #[inline]
    pub fn size(&mut self) -> usize {
        let bits = 3 + self.below(4) + self.below(4) + self.below(16) / 13;
        8 + self.below((1 << bits.min(13)) - 7)
    }

    /// Shuffles a slice.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index + 1));
        }
    }
}
