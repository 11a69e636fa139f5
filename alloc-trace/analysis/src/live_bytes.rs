//! How many bytes are live, exactly, whatever sizes a recording states.

/// Bytes that were obtained and not released.
///
/// A sum of 64 bits that stops at its greatest number says too little once something is taken from it again.
/// This one has room for as many of the greatest blocks as a recording can have; only what is shown of it
/// stops at 2^64 − 1. So every command shows the same, also of sizes that no heap can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LiveBytes(u128);

impl LiveBytes {
    /// A block was obtained.
    #[inline(always)]
    pub(crate) const fn add(&mut self, size: u64) {
        self.0 += size as u128;
    }

    /// A block was released that had been added.
    #[inline(always)]
    pub(crate) const fn take(&mut self, size: u64) {
        self.0 = self.0.wrapping_sub(size as u128);
    }

    /// In bytes; 2^64 − 1 where it is more.
    #[inline(always)]
    pub(crate) const fn get(self) -> u64 {
        if self.0 >> u64::BITS == 0 { self.0 as u64 } else { u64::MAX }
    }
}
