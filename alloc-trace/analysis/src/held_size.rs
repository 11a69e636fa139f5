//! Requested sizes in four bytes: what is kept of each live block is what a reader's memory grows with.

use rustc_hash::FxHashMap;

/// A block's requested size; one of 4 GiB and more stands with the [`LargeSizes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeldSize(u32);

impl HeldSize {
    /// Of no bytes.
    pub(crate) const ZERO: Self = Self(0);
    const LARGE: Self = Self(u32::MAX);

    /// As a number that [`HeldSize::of_bits`] takes.
    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    /// Of what [`HeldSize::bits`] gave.
    pub(crate) const fn of_bits(bits: u32) -> Self {
        Self(bits)
    }
}

/// The sizes of large blocks, by their addresses.
#[derive(Debug, Default)]
pub(crate) struct LargeSizes(FxHashMap<u64, u64>);

impl LargeSizes {
    /// What is to be kept of a block that is live from now on.
    #[inline]
    pub(crate) fn hold(&mut self, address: u64, size: u64) -> HeldSize {
        let held = u32::try_from(size).map_or(HeldSize::LARGE, HeldSize);
        if held == HeldSize::LARGE {
            self.hold_large(address, size);
        }
        held
    }

    #[cold]
    fn hold_large(&mut self, address: u64, size: u64) {
        self.0.insert(address, size);
    }

    #[cold]
    fn release_large(&mut self, address: u64) -> u64 {
        self.0.remove(&address).unwrap_or(u64::from(u32::MAX))
    }

    /// The size of a live block, in bytes.
    #[inline]
    pub(crate) fn get(&self, address: u64, held: HeldSize) -> u64 {
        match held {
            HeldSize::LARGE => self.0.get(&address).copied().unwrap_or(u64::from(u32::MAX)),
            HeldSize(size) => u64::from(size),
        }
    }

    /// The size of a block that is live no longer, in bytes.
    #[inline]
    pub(crate) fn release(&mut self, address: u64, held: HeldSize) -> u64 {
        match held {
            HeldSize::LARGE => self.release_large(address),
            HeldSize(size) => u64::from(size),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_given_back() {
        let mut large = LargeSizes::default();
        let four_gib = 1_u64 << 32;
        for (address, size) in (0..).zip([0, 1, four_gib - 2, four_gib - 1, four_gib, u64::MAX]) {
            let held = large.hold(address, size);
            assert_eq!(large.get(address, held), size);
            assert_eq!(large.release(address, held), size);
        }
        assert!(large.0.is_empty());
    }
}
