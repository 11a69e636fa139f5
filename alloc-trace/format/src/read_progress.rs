//! How far a recording has been read, for whoever shows that to a person who waits.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far the passes over a recording have come. It is shared: a thread that shows it need not be the
/// one that reads.
#[derive(Debug, Default)]
pub struct ReadProgress {
    passes: AtomicU64,
    bytes: AtomicU64,
}

impl ReadProgress {
    /// How many passes have begun.
    #[must_use]
    pub fn passes(&self) -> u64 {
        self.passes.load(Ordering::Relaxed)
    }

    /// How many bytes of chunks the latest pass has come by.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    // Relaxed: nothing is read on the strength of these numbers.

    pub(crate) fn begin(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.passes.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn advance(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
