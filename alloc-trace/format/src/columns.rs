//! The records of a chunk as columns: what is alike stands together, and what can be predicted is
//! left out. It is how a full chunk goes to the log; `docs/trace-format.md` has every byte.
//!
//! A row of a chunk is made for speed inside an allocation; most of its bytes say what a reader
//! could know. A free names a block that was mostly obtained in the same chunk, an allocation often
//! gets the block of its size class that was freed last, and a call site is mostly followed by the
//! same one as before. Both sides keep the same [`model`] of that, which knows nothing but the
//! records of this chunk, so that a chunk can still be read alone.
//!
//! [`pack`] is the writing half: it allocates nothing, never panics, and works in memory that is
//! given to it. [`unpack`] is the reading half and believes no byte.

mod compact_run;
mod inflate;
mod model;
pub(crate) mod pack;
mod plain_run;
mod reading;
mod sink;
pub(crate) mod skim;
mod stated_sites;
pub(crate) mod unpack;

/// How many columns there are.
pub(crate) const COLUMNS: usize = 22;

/// One byte a record: its kind, and what of it is predicted.
pub(crate) const CONTROL: usize = 0;
/// The low byte of the ticks since the previous record.
pub(crate) const TICKS: usize = 1;
/// The rest of the ticks.
pub(crate) const TICKS_HIGH: usize = 2;
/// The node's difference from the previous event's: two bytes, and the rest.
pub(crate) const NODE_0: usize = 3;
pub(crate) const NODE_1: usize = 4;
pub(crate) const NODE_HIGH: usize = 5;
/// The stack pointer's difference from the previous event's.
pub(crate) const STACK: usize = 6;
/// Alignments.
pub(crate) const ALIGN: usize = 7;
/// Sizes: those below 255, and for the others 255 and the rest.
pub(crate) const SIZE: usize = 8;
pub(crate) const SIZE_HIGH: usize = 9;
/// How many blocks were obtained since the one that is freed.
pub(crate) const AGE_0: usize = 10;
pub(crate) const AGE_1: usize = 11;
/// The difference of an address that was not predicted: two bytes, and the rest.
pub(crate) const ADDRESS_0: usize = 12;
pub(crate) const ADDRESS_1: usize = 13;
pub(crate) const ADDRESS_HIGH: usize = 14;
/// What few events have: flags, kept frames.
pub(crate) const UNUSUAL: usize = 15;
/// The new half of a reallocation.
pub(crate) const REALLOC: usize = 16;
/// A defined node's number and its parent.
pub(crate) const DEFINED: usize = 17;
pub(crate) const PARENT: usize = 18;
/// Return addresses.
pub(crate) const FRAME: usize = 19;
/// Which of the freed blocks of its class an allocation was given, where not the last.
pub(crate) const DEPTH: usize = 20;
/// The other records, as they are.
pub(crate) const OTHER: usize = 21;

/// The control byte: its low three bits are the record's kind, as in a row, 0 for the others.
mod control {
    pub(super) const KIND_MASK: u8 = 0x07;
    /// A kind of its own: an `alloc` that was given a freed block, but not the last of its class.
    pub(super) const ALLOC_AT_DEPTH: u8 = 6;
    /// The block is one that the model names.
    pub(super) const KNOWN_BLOCK: u8 = 0x08;
    /// There are more ticks than a byte holds.
    pub(super) const LONG_TICKS: u8 = 0x10;
    /// The size is the one that the call site asked for before.
    pub(super) const SAME_SIZE: u8 = 0x20;
    /// Where the call site comes from.
    pub(super) const SITE_SHIFT: u32 = 6;
    /// The site of the last event of this kind.
    pub(super) const SITE_LAST: u8 = 0;
    /// The site that followed the previous event's when that was met before.
    pub(super) const SITE_FOLLOWS: u8 = 1;
    /// It is stated.
    pub(super) const SITE_STATED: u8 = 2;
    /// It is stated, and flags with it.
    pub(super) const SITE_UNUSUAL: u8 = 3;
    /// Of a node: its number follows the last defined one's.
    pub(super) const NEXT_NODE: u8 = 0x08;
    /// Of a node: its parent is the last defined one.
    pub(super) const BELOW_LAST: u8 = 0x10;
}

/// Flags of an unusual event.
mod unusual {
    pub(super) const FAILED: u8 = 1;
    pub(super) const KEPT_FRAMES: u8 = 2;
    pub(super) const ALL: u8 = FAILED | KEPT_FRAMES;
}
