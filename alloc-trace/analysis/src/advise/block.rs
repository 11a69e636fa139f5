//! The live blocks, as advice follows them: much is to be known of each, and little is kept.

use alloc_trace_format::Stamp;

use super::makers::MakerIndex;
use crate::held_size::{HeldSize, LargeSizes};
use crate::live::LiveBlocks;

/// A live block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) maker: MakerIndex,
    /// The number of its allocation among the events of its thread, below 2⁴⁸.
    pub(super) event: u64,
    /// How many blocks of its origin there had been before.
    pub(super) ordinal: u32,
    pub(super) align_log2: u8,
    pub(super) size: u64,
    /// The size that it had at its largest.
    pub(super) max_size: u64,
    /// When it got its size, as [`Ticks`] have it. Of a block that ever shrank it is not kept.
    pub(super) last_change: u32,
    pub(super) history: History,
}

/// What happened to a block after its allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct History(u8);

impl History {
    pub(super) const REALLOCATED: Self = Self(1);
    pub(super) const GREW: Self = Self(2);
    pub(super) const SHRANK: Self = Self(4);
    /// Another thread reallocated it.
    pub(super) const STRAYED: Self = Self(8);
    /// It was reallocated after the span that it was made in had closed.
    pub(super) const USED_PAST: Self = Self(16);

    pub(super) const fn has(self, what: Self) -> bool {
        self.0 & what.0 != 0
    }

    /// With something that happened too, if it did.
    pub(super) const fn and(self, what: Self, happened: bool) -> Self {
        if happened { Self(self.0 | what.0) } else { self }
    }
}

/// Time in four bytes: in ticks of the recording's clock, or in powers of two of them where there are
/// too many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticks {
    first: Stamp,
    shift: u32,
}

impl Ticks {
    pub(super) fn new(first: Stamp, last: Stamp) -> Self {
        let bits = Stamp::BITS - last.saturating_sub(first).leading_zeros();
        Self { first, shift: bits.saturating_sub(u32::BITS) }
    }

    pub(super) fn at(self, stamp: Stamp) -> u32 {
        u32::try_from(stamp.saturating_sub(self.first) >> self.shift).unwrap_or(u32::MAX)
    }

    /// How long before a moment another one was, in ticks of the clock.
    pub(super) fn between(self, at: u32, now: Stamp) -> Stamp {
        Stamp::from(self.at(now).saturating_sub(at)) << self.shift
    }
}

/// What is kept of a live block: with its address 32 bytes.
#[derive(Debug, Clone, Copy)]
struct Held {
    maker: MakerIndex,
    event_low: u32,
    event_high: u16,
    align_log2: u8,
    history: History,
    ordinal: u32,
    size: HeldSize,
    /// The largest size of a block that shrank; others are at theirs, and have their last change here.
    detail: u32,
}

impl Held {
    /// Stands for no block.
    const NONE: Self = Self {
        maker: 0,
        event_low: 0,
        event_high: 0,
        align_log2: 0,
        history: History(0),
        ordinal: 0,
        size: HeldSize::ZERO,
        detail: 0,
    };
}

/// The live blocks, by address.
#[derive(Debug)]
pub(super) struct Blocks {
    table: LiveBlocks<Held>,
    sizes: LargeSizes,
    max_sizes: LargeSizes,
}

impl Blocks {
    pub(super) fn new() -> Self {
        Self {
            table: LiveBlocks::new(Held::NONE),
            sizes: LargeSizes::default(),
            max_sizes: LargeSizes::default(),
        }
    }

    /// Adds a block; answers the one that seemed to be live there.
    pub(super) fn insert(&mut self, address: u64, block: Block) -> Option<Block> {
        let (before, place) = match self.table.place(address) {
            Some(place) => (None, Some(place)),
            None => (self.remove(address), self.table.place(address)),
        };
        let Block { maker, event, ordinal, align_log2, history, .. } = block;
        let detail = if history.has(History::SHRANK) {
            self.max_sizes.hold(address, block.max_size).bits()
        } else {
            block.last_change
        };
        let held = Held {
            maker,
            event_low: event as u32,
            event_high: (event >> 32) as u16,
            align_log2,
            history,
            ordinal,
            size: self.sizes.hold(address, block.size),
            detail,
        };
        if let Some(place) = place {
            self.table.put(place, address, held);
        }
        before
    }

    /// As [`LiveBlocks::reserve`].
    pub(super) fn reserve(&mut self, more: usize) {
        self.table.reserve(more);
    }

    /// As [`LiveBlocks::peek_further`]: entries are large, so that the table is fuller than others.
    #[inline]
    pub(super) fn peek(&self, address: u64) -> u64 {
        self.table.peek_further(self.table.home(address), |held| u64::from(held.detail))
    }

    /// Who seems to have made the block that is live at an address: anybody where it stands further on, or
    /// where there is none.
    #[inline]
    pub(super) fn glance(&self, address: u64) -> MakerIndex {
        self.table.glance(self.table.home(address), address).1.maker
    }

    /// Takes out the block at an address, if one is live there.
    pub(super) fn remove(&mut self, address: u64) -> Option<Block> {
        let held = self.table.remove(address)?;
        let block = self.open(address, held);
        self.sizes.release(address, held.size);
        if block.history.has(History::SHRANK) {
            self.max_sizes.release(address, HeldSize::of_bits(held.detail));
        }
        Some(block)
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Block> {
        self.table.iter().map(|(address, held)| self.open(address, *held))
    }

    fn open(&self, address: u64, held: Held) -> Block {
        let size = self.sizes.get(address, held.size);
        let (max_size, last_change) = if held.history.has(History::SHRANK) {
            (self.max_sizes.get(address, HeldSize::of_bits(held.detail)), 0)
        } else {
            (size, held.detail)
        };
        Block {
            maker: held.maker,
            event: u64::from(held.event_high) << 32 | u64::from(held.event_low),
            ordinal: held.ordinal,
            align_log2: held.align_log2,
            size,
            max_size,
            last_change,
            history: held.history,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_given_back_as_it_was() {
        let four_gib = 1_u64 << 32;
        let block = Block {
            maker: 3,
            event: (1 << 40) + 6,
            ordinal: 7,
            align_log2: 8,
            size: 9,
            max_size: 9,
            last_change: 10,
            history: History::GREW.and(History::STRAYED, true),
        };
        let shrank = Block {
            last_change: 0,
            history: block.history.and(History::SHRANK, true),
            max_size: 99,
            ..block
        };
        let mut blocks = Blocks::new();
        for block in [
            block,
            shrank,
            Block { size: four_gib, max_size: four_gib, ..block },
            Block { size: four_gib, max_size: 2 * four_gib, ..shrank },
            Block { max_size: four_gib, ..shrank },
        ] {
            assert_eq!(blocks.insert(0x1000, block), None);
            assert_eq!(blocks.iter().collect::<Vec<_>>(), [block]);
            assert_eq!(blocks.insert(0x1000, Block { event: 11, ..block }), Some(block));
            assert_eq!(blocks.remove(0x1000), Some(Block { event: 11, ..block }));
            assert_eq!(blocks.remove(0x1000), None);
        }
    }

    #[test]
    fn thirty_two_bytes_are_kept_of_a_block() {
        assert_eq!(size_of::<Held>() + size_of::<u64>(), 32);
    }

    #[test]
    fn ticks_are_the_clock_s_unless_there_are_too_many() {
        let short = Ticks::new(1_000, 1_000 + u64::from(u32::MAX));
        assert_eq!(short.between(short.at(1_500), 2_500), 1_000);
        let long = Ticks::new(1_000, 1_000 + (1 << 40));
        assert_eq!(long.between(long.at(1_000), 1_000 + (1 << 39)), 1 << 39);
        assert_eq!(long.between(long.at(1_000), 1_000 + (1 << 39) + 100), 1 << 39, "rounded");
    }
}
