//! The blocks that are live at one moment of a recording, by address.
//!
//! Nearly every event asks for a block whose entry is in no cache, and which of the entries around it
//! is the right one is anybody's guess. So the table consists of *buckets*, for a summary one line of a
//! cache each: a block stands in the bucket of its address's hash, whose four addresses are compared
//! without a branch for each. What finds its bucket full goes to the next one that is not, and every
//! bucket that it passes counts it: a search ends at a bucket that was never passed. Against linear
//! probing over single entries, where each step is a branch that the processor guesses, that is half of
//! the time.
//!
//! The table is all that grows with the recorded program, so there is a limit to what a block takes: where
//! it is too full it grows by what its blocks may take: [`MOST_BYTES`] bytes each. The emptier it is, the
//! rarer is a search that goes on. It grows where it is, for a hash is scaled to the number of
//! buckets, and not cut to its bits: in a longer table each block stands at the same place or further on,
//! and those that stand last are moved first. An entry of 16 bytes takes 30 to 47 bytes a block, one of
//! 24 takes 31 to 47.

/// How many entries a bucket has.
const BUCKET: usize = 4;

/// How many buckets are asked of the allocator at a time: what is there is never copied.
const CHUNK: usize = 1024;

/// How many buckets there are at first: half a megabyte of a summary's. Programs with few live blocks then have a
/// table that is nearly empty; where they filled a small one to a half, what to do about every seventh new block
/// was found out by a search.
const FEWEST: usize = 8 * CHUNK;

/// The most that a block takes just after the table has grown, in bytes.
const MOST_BYTES: usize = 47;

/// The bucket where the search for an address begins, until the table grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Home(u32);

/// Where a block is to stand.
#[derive(Debug)]
pub(crate) struct LivePlace {
    /// Where a search begins; of the address 0 nowhere.
    home: usize,
    bucket: usize,
    entry: usize,
}

/// Entries whose addresses have a hash in common, and what those before had no room for.
///
/// A bucket of 64 bytes is one line of a cache. One of another length has its addresses in one.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
struct Bucket<H> {
    /// 0 says that an entry is free.
    addresses: [u64; BUCKET],
    held: [H; BUCKET],
}

impl<H> Bucket<H> {
    /// Whether an entry has this address.
    #[inline]
    fn has(&self, address: u64) -> bool {
        let [a, b, c, d] = self.addresses;
        (a == address) | (b == address) | (c == address) | (d == address)
    }

    /// A bit for each entry that has this address.
    #[inline]
    fn with(&self, address: u64) -> u32 {
        let [a, b, c, d] = self.addresses;
        let bit = |at: u64, place: u32| u32::from(at == address) << place;
        bit(a, 0) | bit(b, 1) | bit(c, 2) | bit(d, 3)
    }
}

/// Buckets that were asked for together: one of 64 bytes lies in no two lines of a cache.
#[derive(Debug)]
#[repr(align(64))]
struct Buckets<H>([Bucket<H>; CHUNK]);

/// Live blocks, and what is kept of each.
#[derive(Debug)]
pub(crate) struct LiveBlocks<H> {
    /// The buckets; of the last of these the last ones may not be in use yet.
    chunks: Vec<Box<Buckets<H>>>,
    /// How many blocks passed each bucket on the way to theirs; at [`u8::MAX`] it stays.
    passed: Vec<u8>,
    blocks: usize,
    /// From so many on it grows.
    full: usize,
    /// What is kept of a block at the address 0, which only a damaged recording has.
    at_zero: Option<H>,
    none: H,
}

impl<H: Copy> LiveBlocks<H> {
    /// `none` fills entries that are free, and is never given out.
    pub(crate) fn new(none: H) -> Self {
        Self::with_buckets(FEWEST, none)
    }

    fn with_buckets(buckets: usize, none: H) -> Self {
        let (chunks, passed) = (Vec::new(), Vec::new());
        let mut table = Self { chunks, passed, blocks: 0, full: 0, at_zero: None, none };
        table.extend_to(buckets);
        table
    }

    fn buckets(&self) -> usize {
        self.passed.len()
    }

    #[inline]
    fn bucket(&self, bucket: usize) -> &Bucket<H> {
        &self.chunks[bucket / CHUNK].0[bucket % CHUNK]
    }

    #[inline]
    fn bucket_mut(&mut self, bucket: usize) -> &mut Bucket<H> {
        &mut self.chunks[bucket / CHUNK].0[bucket % CHUNK]
    }

    /// The bucket where the search for an address begins.
    #[inline]
    pub(crate) fn home(&self, address: u64) -> Home {
        // The upper bits of the product depend on all bits of the address; the lowest four are mostly
        // zero.
        let product = (address >> 4 ^ address << 60).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Below the number of buckets, which a `u32` can hold.
        Home((((product >> 32) * self.buckets() as u64) >> 32) as u32)
    }

    /// What stands where the search for an address begins: asked for many at once, so that the
    /// processor fetches several at a time, by whoever throws it away.
    #[inline]
    pub(crate) fn peek(&self, home: Home) -> u64 {
        self.bucket(home.0 as usize).addresses[0]
    }

    /// As [`Self::peek`], for whoever searches on where the home of an address is full: all lines of that one, and
    /// where the next one begins.
    #[inline]
    pub(crate) fn peek_further(&self, home: Home, held: impl Fn(&H) -> u64) -> u64 {
        let home = home.0 as usize;
        let (found, next) = (self.bucket(home), self.bucket(self.next(home)));
        found.addresses[0] ^ held(&found.held[BUCKET - 1]) ^ next.addresses[0]
    }

    /// Makes room for so many more blocks: until they are there the homes of all addresses stay.
    #[inline]
    pub(crate) fn reserve(&mut self, more: usize) {
        while self.blocks + more > self.full {
            self.grow();
        }
    }

    /// The place of a block that is to be added at an address; `None` where one is live there.
    #[inline]
    pub(crate) fn place(&mut self, address: u64) -> Option<LivePlace> {
        self.reserve(1);
        let home = self.home(address).0 as usize;
        let found = self.bucket(home);
        let free = found.with(0);
        if address != 0 && free != 0 && self.passed[home] == 0 {
            let entry = free.trailing_zeros() as usize;
            return (!found.has(address)).then_some(LivePlace { home, bucket: home, entry });
        }
        self.place_further(home, address)
    }

    /// Adds a block where that is simple, and tells whether it did: where there is room at the home of its
    /// address, and none can be live at that. The home is known, [room](Self::reserve) was made, and what is
    /// kept of the block is made only where it is added.
    #[inline(always)]
    pub(crate) fn add_at_home(
        &mut self,
        home: Home,
        address: u64,
        held: impl FnOnce() -> H,
    ) -> bool {
        let bucket = home.0 as usize;
        let passed = self.passed[bucket];
        let found = self.bucket_mut(bucket);
        let free = found.with(0);
        // The address 0 stands wherever an entry is free.
        if free == 0 || passed != 0 || found.has(address) {
            return false;
        }
        let entry = free.trailing_zeros() as usize % BUCKET;
        found.addresses[entry] = address;
        found.held[entry] = held();
        self.blocks += 1;
        true
    }

    #[cold]
    fn place_further(&self, home: usize, address: u64) -> Option<LivePlace> {
        if address == 0 {
            let zero = LivePlace { home: usize::MAX, bucket: usize::MAX, entry: 0 };
            return self.at_zero.is_none().then_some(zero);
        }
        let mut place = None;
        let mut bucket = home;
        loop {
            let found = self.bucket(bucket);
            if found.has(address) {
                return None;
            }
            let free = found.with(0);
            if free != 0 && place.is_none() {
                place = Some(LivePlace { home, bucket, entry: free.trailing_zeros() as usize });
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

    /// Whether a block is live at an address.
    #[inline]
    pub(crate) fn has(&self, address: u64) -> bool {
        if address == 0 {
            return self.at_zero.is_some();
        }
        let home = self.home(address).0 as usize;
        let mut bucket = home;
        loop {
            if self.bucket(bucket).has(address) {
                return true;
            }
            if self.passed[bucket] == 0 {
                return false;
            }
            bucket = self.next(bucket);
            if bucket == home {
                return false;
            }
        }
    }

    /// Adds a block at the place that was found for its address just before.
    #[inline(always)]
    pub(crate) fn put(&mut self, place: LivePlace, address: u64, held: H) {
        let LivePlace { home, bucket, entry } = place;
        if bucket == usize::MAX {
            self.at_zero = Some(held);
            return;
        }
        let found = self.bucket_mut(bucket);
        found.addresses[entry] = address;
        found.held[entry] = held;
        self.blocks += 1;
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

    /// At which entry of its home an address stands, and what is kept there; anything if it stands nowhere
    /// there.
    #[inline]
    pub(crate) fn glance(&self, home: Home, address: u64) -> (u8, &H) {
        let found = self.bucket(home.0 as usize);
        let entry = found.with(address).trailing_zeros() as usize % BUCKET;
        (entry as u8, &found.held[entry])
    }

    /// Takes out the block at an address where it still stands at the entry of its home at which a
    /// [glance](Self::glance) saw it.
    #[inline(always)]
    pub(crate) fn remove_seen(&mut self, home: Home, entry: u8, address: u64) -> Option<H> {
        let found = self.bucket_mut(home.0 as usize);
        let entry = usize::from(entry) % BUCKET;
        if found.addresses[entry] != address || address == 0 {
            return None;
        }
        found.addresses[entry] = 0;
        let held = found.held[entry];
        self.blocks -= 1;
        Some(held)
    }

    /// Takes out the block at an address, if one is live there.
    #[inline]
    pub(crate) fn remove(&mut self, address: u64) -> Option<H> {
        let home = self.home(address);
        let (entry, _) = self.glance(home, address);
        self.remove_seen(home, entry, address).or_else(|| self.remove_further(home, address))
    }

    /// Takes out a block that stands elsewhere than it seemed.
    #[cold]
    fn remove_further(&mut self, home: Home, address: u64) -> Option<H> {
        if address == 0 {
            return self.at_zero.take();
        }
        let home = home.0 as usize;
        let mut bucket = home;
        loop {
            let found = self.bucket_mut(bucket);
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
            if self.passed[bucket] == 0 {
                return None;
            }
            bucket = self.next(bucket);
            if bucket == home {
                return None;
            }
        }
    }

    #[inline]
    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets() { 0 } else { bucket + 1 }
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

    /// Adds free buckets.
    fn extend_to(&mut self, buckets: usize) {
        let free = Bucket { addresses: [0; BUCKET], held: [self.none; BUCKET] };
        while self.chunks.len() * CHUNK < buckets {
            self.chunks.push(Box::new(Buckets([free; CHUNK])));
        }
        self.passed.reserve_exact(buckets - self.passed.len());
        self.passed.resize(buckets, 0);
        // Large entries have to be closer together, or the table could not grow by anything to speak of.
        let is_large = size_of::<Bucket<H>>() > 24 * BUCKET;
        self.full = buckets * BUCKET * if is_large { 16 } else { 11 } / 20;
    }

    #[cold]
    fn grow(&mut self) {
        let before = self.buckets();
        // What a bucket takes with its counter, and what its blocks may take.
        let affordable = self.blocks * MOST_BYTES / (size_of::<Bucket<H>>() + 1);
        self.extend_to(affordable.min(2 * before).max(before + 1));
        self.passed.fill(0);
        // The place of a block is its own one or further on, unless that was full and it went on from
        // the last bucket to the first. So what follows a bucket is in place already; where a bucket before it
        // takes up a block, that is moved once more.
        for bucket in (0..before).rev() {
            let Bucket { addresses, held } = *self.bucket(bucket);
            self.bucket_mut(bucket).addresses = [0; BUCKET];
            for (address, held) in addresses.into_iter().zip(held) {
                if address != 0 {
                    self.move_to_its_place(address, held);
                }
            }
        }
        // Only now is it known who passed whom.
        for bucket in 0..self.buckets() {
            for address in self.bucket(bucket).addresses {
                let home = self.home(address).0 as usize;
                if address != 0 && home != bucket {
                    self.each_passed(home, bucket, |passed| passed.saturating_add(1));
                }
            }
        }
    }

    fn move_to_its_place(&mut self, address: u64, held: H) {
        let mut bucket = self.home(address).0 as usize;
        loop {
            let found = self.bucket_mut(bucket);
            let free = found.with(0);
            if free != 0 {
                let entry = free.trailing_zeros() as usize;
                found.addresses[entry] = address;
                found.held[entry] = held;
                return;
            }
            // There is room: the table is never full.
            bucket = self.next(bucket);
        }
    }

    /// All live blocks, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &H)> {
        let buckets = self.chunks.iter().flat_map(|chunk| chunk.0.iter());
        let entries = buckets.flat_map(|bucket| bucket.addresses.iter().zip(&bucket.held));
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
            buckets in 2..20_usize,
        ) {
            // Few buckets, so that they are full, and that the way around the end is gone.
            let mut table = LiveBlocks::with_buckets(buckets, 0_u32);
            let mut map = BTreeMap::new();
            for (number, (adds, address)) in (0..).zip(steps) {
                let address = address << shift;
                table.reserve(1);
                let home = table.home(address);
                // Every second step by the way that most events take.
                let (entry, _) = table.glance(home, address);
                let is_seen = number % 2 == 0;
                if adds && is_seen && table.add_at_home(home, address, || number) {
                    prop_assert_eq!(map.insert(address, number), None);
                } else if adds {
                    prop_assert_eq!(table.insert(address, number), map.insert(address, number));
                    prop_assert!(table.place(address).is_none());
                } else {
                    let seen = if is_seen { table.remove_seen(home, entry, address) } else { None };
                    let removed = seen.or_else(|| table.remove(address));
                    prop_assert_eq!(removed, map.remove(&address));
                }
                let found: BTreeMap<u64, u32> = table.iter().map(|(at, held)| (at, *held)).collect();
                prop_assert_eq!(&found, &map);
                for address in (0..48).map(|address| address << shift) {
                    prop_assert_eq!(table.has(address), map.contains_key(&address));
                }
            }
        }
    }

    #[test]
    fn the_table_grows_and_is_never_full() {
        let mut table = LiveBlocks::new(0_u64);
        for block in 1..=100_000_u64 {
            assert_eq!(table.insert(block * 0x1000, block), None);
        }
        assert_eq!(table.iter().count(), 100_000);
        assert!(table.buckets() * BUCKET < 100_000 * 3);
        for block in (1..=100_000).rev() {
            assert_eq!(table.remove(block * 0x1000), Some(block));
        }
        assert_eq!(table.iter().count(), 0);
        assert!(table.passed.iter().all(|&passed| passed == 0), "nothing is left of what passed");
    }

    #[test]
    fn a_block_takes_no_more_bytes_than_are_stated() {
        most_bytes_a_block(());
        most_bytes_a_block((0_u32, 0_u32));
        most_bytes_a_block((0_u64, 0_u32, 0_u32));
        most_bytes_a_block([0_u32; 6]);
    }

    fn most_bytes_a_block<H: Copy>(none: H) {
        let mut table = LiveBlocks::new(none);
        let mut most = 0;
        for block in 1..=200_000 {
            table.insert(block as u64 * 48, none);
            let buckets = table.chunks.len() * CHUNK;
            let bytes = buckets * size_of::<Bucket<H>>() + table.passed.capacity();
            // A part of the last chunk may not be in use.
            let bytes = bytes - size_of::<[Bucket<H>; CHUNK]>();
            if table.buckets() > FEWEST {
                most = most.max(bytes / block);
            }
        }
        assert!(most <= MOST_BYTES, "{most} bytes, of which {} are kept", size_of::<H>());
    }

    #[test]
    fn an_entry_of_the_summary_takes_sixteen_bytes() {
        assert_eq!(size_of::<Bucket<(u32, u32)>>(), 16 * BUCKET);
    }
}
