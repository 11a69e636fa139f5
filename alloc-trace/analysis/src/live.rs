//! The blocks that are live at one moment of a recording, by address.
//!
//! Nearly every event asks for a block whose entry is in no cache, and which of the entries around it
//! is the right one is anybody's guess. So the table consists of *buckets*, for a summary one line of a
//! cache each: a block stands in the bucket of its address's hash, whose four addresses are compared
//! without a branch for each. What finds its bucket full goes to the next one that is not, and every
//! bucket that it passes counts it: a search ends at a bucket that was never passed. Against linear
//! probing over single entries, where each step is a branch that the processor guesses, that is half of
//! the time. The table is at most three quarters full and doubles: an entry of 16 bytes takes 22 to
//! 43 bytes a block.

/// How many entries a bucket has.
const BUCKET: usize = 4;

const FEWEST_BUCKETS: usize = 256;

/// Where a block is to stand.
#[derive(Debug)]
pub(crate) struct LivePlace {
    bucket: usize,
    entry: usize,
}

/// Entries whose addresses have a hash in common, and what those before had no room for.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Bucket<H> {
    /// 0 says that an entry is free.
    addresses: [u64; BUCKET],
    held: [H; BUCKET],
}

impl<H> Bucket<H> {
    /// A bit for each entry that has this address.
    #[inline]
    fn with(&self, address: u64) -> u32 {
        let [a, b, c, d] = self.addresses;
        let bit = |at: u64, place: u32| u32::from(at == address) << place;
        bit(a, 0) | bit(b, 1) | bit(c, 2) | bit(d, 3)
    }
}

/// Live blocks, and what is kept of each.
#[derive(Debug)]
pub(crate) struct LiveBlocks<H> {
    /// A power of two of them.
    buckets: Vec<Bucket<H>>,
    /// How many blocks passed each bucket on the way to theirs; at [`u8::MAX`] it stays.
    passed: Vec<u8>,
    blocks: usize,
    /// What is kept of a block at the address 0, which only a damaged recording has.
    at_zero: Option<H>,
    none: H,
}

impl<H: Copy> LiveBlocks<H> {
    /// `none` fills entries that are free, and is never given out.
    pub(crate) fn new(none: H) -> Self {
        Self::with_buckets(FEWEST_BUCKETS, none)
    }

    fn with_buckets(buckets: usize, none: H) -> Self {
        Self {
            buckets: vec![Bucket { addresses: [0; BUCKET], held: [none; BUCKET] }; buckets],
            passed: vec![0; buckets],
            blocks: 0,
            at_zero: None,
            none,
        }
    }

    /// The bucket where the search for an address begins.
    #[inline]
    fn home(&self, address: u64) -> usize {
        // The upper bits of the product depend on all bits of the address; the lowest four are mostly
        // zero.
        let product = (address >> 4 ^ address << 60).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (product >> 20) as usize & (self.buckets.len() - 1)
    }

    /// What stands where the search for an address begins: asked for many at once, so that the
    /// processor fetches several at a time, by whoever throws it away.
    #[inline]
    pub(crate) fn peek(&self, address: u64) -> u64 {
        self.buckets[self.home(address)].addresses[0]
    }

    /// The place of a block that is to be added at an address; `None` where one is live there.
    #[inline]
    pub(crate) fn place(&mut self, address: u64) -> Option<LivePlace> {
        if self.blocks * 4 >= self.buckets.len() * BUCKET * 3 {
            self.grow();
        }
        let bucket = self.home(address);
        let found = &self.buckets[bucket];
        let free = found.with(0);
        if address != 0 && free != 0 && self.passed[bucket] == 0 {
            let free = LivePlace { bucket, entry: free.trailing_zeros() as usize };
            return (found.with(address) == 0).then_some(free);
        }
        self.place_further(address)
    }

    #[cold]
    fn place_further(&self, address: u64) -> Option<LivePlace> {
        if address == 0 {
            return self.at_zero.is_none().then_some(LivePlace { bucket: usize::MAX, entry: 0 });
        }
        let mut place = None;
        let home = self.home(address);
        let mut bucket = home;
        loop {
            let found = &self.buckets[bucket];
            if found.with(address) != 0 {
                return None;
            }
            let free = found.with(0);
            if free != 0 && place.is_none() {
                place = Some(LivePlace { bucket, entry: free.trailing_zeros() as usize });
            }
            if self.passed[bucket] == 0 && place.is_some() {
                return place;
            }
            bucket = self.next(bucket);
            if bucket == home {
                // All were passed: there is room, for the table is never full.
                return place;
            }
        }
    }

    /// Adds a block at the place that was found for its address just before.
    #[inline]
    pub(crate) fn put(&mut self, place: LivePlace, address: u64, held: H) {
        let LivePlace { bucket, entry } = place;
        match self.buckets.get_mut(bucket) {
            Some(found) => {
                found.addresses[entry] = address;
                found.held[entry] = held;
                self.blocks += 1;
            }
            None => {
                self.at_zero = Some(held);
                return;
            }
        }
        let home = self.home(address);
        if home != bucket {
            self.each_passed(home, bucket, |passed| passed.saturating_add(1));
        }
    }

    /// Adds a block; answers the one that seemed to be live there.
    #[inline]
    pub(crate) fn insert(&mut self, address: u64, held: H) -> Option<H> {
        if let Some(place) = self.place(address) {
            self.put(place, address, held);
            return None;
        }
        let old = self.remove(address);
        if let Some(place) = self.place(address) {
            self.put(place, address, held);
        }
        old
    }

    /// Takes out the block at an address, if one is live there.
    #[inline]
    pub(crate) fn remove(&mut self, address: u64) -> Option<H> {
        let home = self.home(address);
        let found = &mut self.buckets[home];
        let entry = found.with(address);
        if entry == 0 || address == 0 {
            return self.remove_further(address);
        }
        let entry = entry.trailing_zeros() as usize;
        found.addresses[entry] = 0;
        self.blocks -= 1;
        Some(found.held[entry])
    }

    #[cold]
    fn remove_further(&mut self, address: u64) -> Option<H> {
        if address == 0 {
            return self.at_zero.take();
        }
        let home = self.home(address);
        let mut bucket = home;
        while self.passed[bucket] != 0 {
            bucket = self.next(bucket);
            let found = &mut self.buckets[bucket];
            let entry = found.with(address);
            if entry != 0 {
                let entry = entry.trailing_zeros() as usize;
                found.addresses[entry] = 0;
                let held = found.held[entry];
                self.blocks -= 1;
                let fewer = |passed| if passed == u8::MAX { passed } else { passed - 1 };
                self.each_passed(home, bucket, fewer);
                return Some(held);
            }
            if bucket == home {
                break;
            }
        }
        None
    }

    #[inline]
    fn next(&self, bucket: usize) -> usize {
        (bucket + 1) & (self.buckets.len() - 1)
    }

    /// Counts anew what passed the buckets from one to before another.
    #[cold]
    fn each_passed(&mut self, from: usize, to: usize, count: impl Fn(u8) -> u8) {
        let mut bucket = from;
        while bucket != to {
            self.passed[bucket] = count(self.passed[bucket]);
            bucket = self.next(bucket);
        }
    }

    #[cold]
    fn grow(&mut self) {
        let larger = Self::with_buckets(self.buckets.len() * 2, self.none);
        let at_zero = self.at_zero;
        let smaller = std::mem::replace(self, Self { at_zero, ..larger });
        for Bucket { addresses, held } in smaller.buckets {
            for (address, held) in addresses.into_iter().zip(held) {
                if address != 0
                    && let Some(place) = self.place(address)
                {
                    self.put(place, address, held);
                }
            }
        }
    }

    /// All live blocks, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &H)> {
        let entries =
            self.buckets.iter().flat_map(|bucket| bucket.addresses.iter().zip(&bucket.held));
        let entries = entries.filter(|(address, _)| **address != 0);
        let at_zero = self.at_zero.iter().map(|held| (0, held));
        entries.map(|(address, held)| (*address, held)).chain(at_zero)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_table_is_a_map(
            steps in prop::collection::vec((any::<bool>(), 0..48_u64), 0..400),
            shift in 0..60_u32,
            buckets in 2..5_u32,
        ) {
            // Few buckets, so that they are full, and that the way around the end is gone.
            let mut table = LiveBlocks::with_buckets(1 << buckets, 0_u32);
            let mut map = BTreeMap::new();
            for (number, (adds, address)) in (0..).zip(steps) {
                let address = address << shift;
                if adds {
                    prop_assert_eq!(table.insert(address, number), map.insert(address, number));
                    prop_assert!(table.place(address).is_none());
                } else {
                    prop_assert_eq!(table.remove(address), map.remove(&address));
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
            assert_eq!(table.insert(block * 0x1000, block), None);
        }
        assert!(table.buckets.len() * BUCKET < 100_000 * 3);
        for block in (1..=100_000).rev() {
            assert_eq!(table.remove(block * 0x1000), Some(block));
        }
        assert_eq!(table.iter().count(), 0);
        assert!(table.passed.iter().all(|&passed| passed == 0), "nothing is left of what passed");
    }

    #[test]
    fn an_entry_of_the_summary_takes_sixteen_bytes() {
        assert_eq!(size_of::<Bucket<(u32, u32)>>(), 16 * BUCKET);
    }
}
