//! The blocks that are live at one moment of a recording.

use rustc_hash::FxHashMap;

/// Who a live block belongs to: a number that the user of the map gives meaning to.
pub(crate) type Owner = u32;

/// The live blocks by address.
///
/// This is what grows with the recorded program, so an entry takes 16 bytes and its control byte:
/// between 20 and 39 bytes a block, by how full the table is. Sizes of 4 GiB and more stand apart.
#[derive(Debug, Default)]
pub(crate) struct LiveBlocks {
    blocks: FxHashMap<u64, Entry>,
    large: FxHashMap<u64, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    size: u32,
    owner: Owner,
}

/// What is known of a live block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) size: u64,
    pub(crate) owner: Owner,
}

/// In an entry: the size stands in the other map.
const LARGE: u32 = u32::MAX;

impl LiveBlocks {
    /// Adds a block; answers the one that was thought live at its address.
    #[inline]
    pub(crate) fn insert(&mut self, address: u64, block: Block) -> Option<Block> {
        let size = u32::try_from(block.size).unwrap_or(LARGE);
        let old = self.blocks.insert(address, Entry { size, owner: block.owner });
        let old = old.map(|entry| self.whole(address, entry));
        if size == LARGE {
            self.large.insert(address, block.size);
        }
        old
    }

    /// Removes the block at an address, if one is live there.
    #[inline]
    pub(crate) fn remove(&mut self, address: u64) -> Option<Block> {
        let entry = self.blocks.remove(&address)?;
        Some(self.whole(address, entry))
    }

    /// Looks for a block, so that its place is in a cache when it is asked for.
    #[inline]
    pub(crate) fn touch(&self, address: u64) {
        std::hint::black_box(self.blocks.contains_key(&address));
    }

    #[inline]
    fn whole(&mut self, address: u64, entry: Entry) -> Block {
        let size = if entry.size == LARGE {
            self.large.remove(&address).unwrap_or(u64::from(LARGE))
        } else {
            u64::from(entry.size)
        };
        Block { size, owner: entry.owner }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_beyond_32_bits_are_kept() {
        let mut live = LiveBlocks::default();
        let sizes = [0, 1, u64::from(LARGE) - 1, u64::from(LARGE), u64::from(LARGE) + 1, u64::MAX];
        for size in sizes {
            assert_eq!(live.insert(7, Block { size, owner: 1 }), None);
            assert_eq!(live.insert(7, Block { size: 5, owner: 2 }), Some(Block { size, owner: 1 }));
            assert_eq!(live.remove(7), Some(Block { size: 5, owner: 2 }));
            assert_eq!(live.remove(7), None);
        }
        assert!(live.large.is_empty());
    }

    #[test]
    fn an_entry_takes_sixteen_bytes() {
        assert_eq!(size_of::<(u64, Entry)>(), 16);
    }
}
