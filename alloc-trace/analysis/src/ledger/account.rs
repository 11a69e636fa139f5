//! What an analysis does with what the ledger finds.

use super::posting::Posting;
use crate::owners::{Owner, OwnerParts};

/// How a block came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Freed,
    /// Its successor is the block that the same event obtains.
    Reallocated,
    /// Its address was handed out again: the record of its release is missing.
    Replaced,
    /// A thread of the recorder's own released it.
    ByRecorder,
}

/// A block's end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Release<'a> {
    pub(crate) address: u64,
    pub(crate) how: How,
    /// The event that ended it.
    pub(crate) by: &'a Posting,
    /// Freed before its thread's next successful request.
    pub(crate) temporary: bool,
    pub(crate) owner: OwnerParts,
}

/// What an analysis does with what the ledger finds.
pub(crate) trait Account {
    /// What is kept of a live block. This is what grows with the recorded program.
    type Held: Copy + std::fmt::Debug;

    /// What stands for no block.
    const NONE: Self::Held;

    /// Who an event belongs to.
    fn parts(&self, posting: &Posting) -> OwnerParts;

    /// An event of an owner is about to come. What it answers means nothing: it is read so that it is
    /// near when the event comes.
    fn touch(&mut self, owner: Owner) -> u64 {
        let _ = owner;
        0
    }

    /// An event that counts, failed requests and frees included.
    fn made(&mut self, owner: Owner, parts: OwnerParts, posting: &Posting) {
        let _ = (owner, parts, posting);
    }

    /// A block was obtained.
    fn obtained(&mut self, owner: Owner, parts: OwnerParts, posting: &Posting) -> Self::Held;

    /// An event that counts obtained a block: [`Self::made`] and [`Self::obtained`] at once.
    #[inline(always)]
    fn requested(&mut self, owner: Owner, parts: OwnerParts, posting: &Posting) -> Self::Held {
        self.made(owner, parts, posting);
        self.obtained(owner, parts, posting)
    }

    /// An event that counts was a free, and what it freed is older than the recording.
    fn freed_unknown(&mut self, by: &Posting) {
        let _ = by;
    }

    /// The owner of a block.
    fn owner(held: &Self::Held) -> Owner;

    /// A block was released.
    fn released(&mut self, held: Self::Held, release: &Release<'_>);
}
