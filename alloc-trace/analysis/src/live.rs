//! The blocks that are live at one moment of a recording, by address.
//!
//! Nearly every event asks for a block whose entry is in no cache, so an entry is found with one access
//! where it can be: keys and values stand together in one table, open addressing with linear probing,
//! entries moved back where one is taken out. Against `hashbrown`, which looks at control bytes first,
//! that is one miss less an event. The table is at most three quarters full and doubles: an entry of 16
//! bytes takes 22 to 43 bytes a block.

/// Where a block is to stand.
#[derive(Debug)]
pub(crate) struct LivePlace(usize);

/// Live blocks, and what is kept of each.
#[derive(Debug)]
pub(crate) struct LiveBlocks<H> {
    /// A power of two of entries; an address of 0 says that one is free.
    entries: Vec<(u64, H)>,
    blocks: usize,
    /// What is kept of a block at the address 0, which only a damaged recording has.
    at_zero: Option<H>,
    none: H,
}

const FEWEST_ENTRIES: usize = 1024;

impl<H: Copy> LiveBlocks<H> {
    /// `none` fills entries that are free, and is never given out.
    pub(crate) fn new(none: H) -> Self {
        Self { entries: vec![(0, none); FEWEST_ENTRIES], blocks: 0, at_zero: None, none }
    }

    /// Where the search for an address begins.
    #[inline]
    fn home(&self, address: u64) -> usize {
        // The upper bits of the product depend on all bits of the address; the lowest four are mostly
        // zero.
        let product = (address >> 4 ^ address << 60).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (product >> 20) as usize & (self.entries.len() - 1)
    }

    /// What stands where the search for an address begins: asked for many at once, so that the
    /// processor fetches several at a time, by whoever throws it away.
    #[inline]
    pub(crate) fn peek(&self, address: u64) -> u64 {
        self.entries[self.home(address)].0
    }

    /// The place of a block that is to be added at an address; `None` where one is live there.
    #[inline]
    pub(crate) fn place(&mut self, address: u64) -> Option<LivePlace> {
        if address == 0 {
            return self.at_zero.is_none().then_some(LivePlace(usize::MAX));
        }
        if self.blocks * 4 >= self.entries.len() * 3 {
            self.grow();
        }
        let mask = self.entries.len() - 1;
        let mut at = self.home(address);
        loop {
            match self.entries[at].0 {
                0 => return Some(LivePlace(at)),
                found if found == address => return None,
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// Adds a block at the place that was found for its address just before.
    #[inline]
    pub(crate) fn put(&mut self, place: LivePlace, address: u64, held: H) {
        match self.entries.get_mut(place.0) {
            Some(entry) => {
                *entry = (address, held);
                self.blocks += 1;
            }
            None => self.at_zero = Some(held),
        }
    }

    /// Takes out the block at an address, if one is live there.
    #[inline]
    pub(crate) fn remove(&mut self, address: u64) -> Option<H> {
        if address == 0 {
            return self.at_zero.take();
        }
        let mask = self.entries.len() - 1;
        let mut at = self.home(address);
        let held = loop {
            match self.entries[at] {
                (found, held) if found == address => break held,
                (0, _) => return None,
                _ => at = (at + 1) & mask,
            }
        };
        self.blocks -= 1;
        self.close_gap(at);
        Some(held)
    }

    /// Moves back what stands behind an entry and could not be found past a free one.
    #[inline]
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.entries.len() - 1;
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let (address, _) = self.entries[at];
            if address == 0 {
                break;
            }
            // It may stand where its search passes the gap: from its home on, around the end.
            let home = self.home(address);
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(gap) & mask) {
                self.entries[gap] = self.entries[at];
                gap = at;
            }
        }
        self.entries[gap].0 = 0;
    }

    #[cold]
    fn grow(&mut self) {
        let larger = vec![(0, self.none); self.entries.len() * 2];
        let entries = std::mem::replace(&mut self.entries, larger);
        self.blocks = 0;
        for (address, held) in entries {
            if address != 0
                && let Some(place) = self.place(address)
            {
                self.put(place, address, held);
            }
        }
    }

    /// All live blocks, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &H)> {
        let entries = self.entries.iter().filter(|(address, _)| *address != 0);
        let at_zero = self.at_zero.iter().map(|held| (0, held));
        entries.map(|(address, held)| (*address, held)).chain(at_zero)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn insert<H: Copy>(table: &mut LiveBlocks<H>, address: u64, held: H) {
        let place = table.place(address).expect("no block there");
        table.put(place, address, held);
    }

    proptest! {
        #[test]
        fn the_table_is_a_map(
            steps in prop::collection::vec((any::<bool>(), 0..48_u64), 0..400),
            shift in 0..60_u32,
        ) {
            let mut table = LiveBlocks::new(0_u32);
            // Few entries, so that they collide, and wrap around the end.
            table.entries.truncate(64);
            let mut map = BTreeMap::new();
            for (number, (adds, address)) in (0..).zip(steps) {
                let address = address << shift;
                prop_assert_eq!(table.remove(address), map.remove(&address));
                if adds {
                    insert(&mut table, address, number);
                    prop_assert!(table.place(address).is_none());
                    map.insert(address, number);
                }
                let found: BTreeMap<u64, u32> = table.iter().map(|(at, held)| (at, *held)).collect();
                prop_assert_eq!(&found, &map);
            }
        }
    }

    #[test]
    fn the_table_grows_and_is_never_full() {
        let mut table = LiveBlocks::new(0_u64);
        for block in 1..=100_000_u64 {
            insert(&mut table, block * 0x1000, block);
        }
        assert!(table.entries.len() < 100_000 * 3);
        for block in (1..=100_000).rev() {
            assert_eq!(table.remove(block * 0x1000), Some(block));
        }
        assert_eq!(table.iter().count(), 0);
    }

    #[test]
    fn an_entry_of_the_summary_takes_sixteen_bytes() {
        assert_eq!(size_of::<(u64, (u32, u32))>(), 16);
    }
}
