//! What both sides expect of the next event, from the events of the chunk so far.

use crate::compact::Site;
use crate::record::{NodeId, tag};

/// How many blocks are remembered.
pub(super) const BLOCKS: usize = 1 << 14;
/// How many successions of call sites are remembered.
const FOLLOWERS: usize = 1 << 10;
/// Size classes: 16 bytes apart up to a kibibyte, above it four to each doubling.
const CLASSES: usize = 256;
/// How many freed blocks of a class are remembered: as many addresses as a line of the cache holds.
const FREED: usize = 8;

/// No allocation's size.
const NO_SIZE: u64 = u64::MAX;

/// A site and the size that was asked for there last; none for a free, whose block the reader finds later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habit {
    pub(super) site: Site,
    pub(super) size: u64,
}

impl Habit {
    const NONE: Self = Self { site: Site::NONE, size: 0 };

    /// That of an event of a kind.
    #[inline(always)]
    pub(super) const fn of(kind: u8, site: Site, size: u64) -> Self {
        // An allocation may meet a free's, since places are found by a hash.
        let size = if kind == tag::FREE { NO_SIZE } else { size };
        Self { site, size }
    }
}

/// The blocks of a size class that were freed, the last one first to be used again.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
pub(super) struct FreeList {
    addresses: [u64; FREED],
    count: u32,
    /// Where the last block of the class was obtained and where one was freed: what is not predicted
    /// is told as the difference from there.
    last_obtained: u64,
    last_freed: u64,
}

impl FreeList {
    /// Where the address at a depth stands, 0 being the last one's.
    #[inline(always)]
    fn place(&self, depth: u32) -> usize {
        self.count.wrapping_sub(1).wrapping_sub(depth) as usize % FREED
    }

    /// The address at a depth, 0 being the last one's.
    #[inline(always)]
    pub(super) fn at(&self, depth: u8) -> Option<u64> {
        let depth = u32::from(depth);
        let known = depth < self.count && depth < FREED as u32;
        known.then(|| self.addresses[self.place(depth)])
    }

    /// At which depth an address stands.
    #[inline]
    pub(super) fn depth_of(&self, address: u64) -> Option<u8> {
        // All are compared without a branch for each.
        let mut same = 0u32;
        for (place, &freed) in self.addresses.iter().enumerate() {
            same |= u32::from(freed == address) << place;
        }
        let place = same.trailing_zeros();
        let depth = self.count.wrapping_sub(1).wrapping_sub(place) % FREED as u32;
        (same != 0 && depth < self.count).then_some(depth as u8)
    }

    /// A block was obtained that is not known, or is forgotten.
    #[inline(always)]
    pub(super) fn obtain(&mut self, address: u64) {
        self.last_obtained = address;
    }

    /// The last block that was freed was obtained.
    #[inline(always)]
    pub(super) fn obtain_last(&mut self, address: u64) {
        self.last_obtained = address;
        self.count = self.count.wrapping_sub(1);
    }

    /// The block at a depth was obtained: those behind it move up.
    #[inline]
    pub(super) fn obtain_at(&mut self, depth: u8, address: u64) {
        for depth in (1..=u32::from(depth)).rev() {
            self.addresses[self.place(depth)] = self.addresses[self.place(depth - 1)];
        }
        self.obtain_last(address);
    }

    /// Where a block of the class was obtained last.
    #[inline(always)]
    pub(super) const fn last_obtained(&self) -> u64 {
        self.last_obtained
    }

    /// Where a block of the class was freed last.
    #[inline(always)]
    pub(super) const fn last_freed(&self) -> u64 {
        self.last_freed
    }

    /// A block was freed.
    #[inline(always)]
    pub(super) fn free(&mut self, address: u64) {
        self.addresses[self.count as usize % FREED] = address;
        self.count = self.count.wrapping_add(1);
        self.last_freed = address;
    }
}

/// A block that was obtained.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(super) address: u64,
    pub(super) size: u64,
}

impl Block {
    /// No block.
    pub(super) const NONE: Self = Self { address: 0, size: 0 };
}

/// The blocks that were obtained last.
#[derive(Debug)]
pub(super) struct Blocks<'a> {
    /// How many were obtained.
    pub(super) obtained: u32,
    places: &'a mut [Block; BLOCKS],
}

impl<'a> Blocks<'a> {
    /// None; what stands in the places does not count.
    pub(super) const fn new(places: &'a mut [Block; BLOCKS]) -> Self {
        Self { obtained: 0, places }
    }

    /// One more was obtained.
    #[inline(always)]
    pub(super) fn obtain(&mut self, address: u64, size: u64) {
        self.places[self.obtained as usize % BLOCKS] = Block { address, size };
        self.obtained = self.obtained.wrapping_add(1);
    }

    /// The block in a place, and how many were obtained behind it, if it was among the last ones.
    #[inline(always)]
    pub(super) fn at(&self, place: u16) -> (Block, u32) {
        let behind = self.obtained.wrapping_sub(u32::from(place) + 1) % BLOCKS as u32;
        (self.places[usize::from(place) % BLOCKS], behind)
    }

    /// The block that was obtained so many blocks ago: 1 is the last one.
    #[inline(always)]
    pub(super) fn aged(&self, age: u32) -> Option<Block> {
        let known = age >= 1 && age <= self.obtained && age as usize <= BLOCKS;
        known.then(|| self.places[self.obtained.wrapping_sub(age) as usize % BLOCKS])
    }
}

/// The place of what followed an event of this node and was of that kind.
#[inline(always)]
const fn succession(node: NodeId, kind: u8) -> usize {
    let key = node.0.wrapping_mul(8).wrapping_add(kind as u32);
    (key.wrapping_mul(0x9e37_79b1) >> 22) as usize % FOLLOWERS
}

/// The model. Zeroed memory is a model of nothing, once it is reset.
#[derive(Debug)]
pub(super) struct Model {
    /// What is added to a size before it is cut into classes: it depends on the allocator.
    rounding: u8,
    /// The previous event's kind.
    previous: u8,
    /// For each kind of event its last site, and the size that was asked for there.
    sites: [Site; 8],
    pub(super) sizes: [u64; 8],
    /// What followed a site, by the site's node and the kind of what followed.
    followers: [Habit; FOLLOWERS],
    classes: [FreeList; CLASSES],
}

impl Model {
    pub(super) const fn new() -> Self {
        let list = FreeList { addresses: [0; FREED], count: 0, last_obtained: 0, last_freed: 0 };
        Self {
            rounding: 0,
            previous: 0,
            sites: [Site::NONE; 8],
            sizes: [0; 8],
            followers: [Habit::NONE; FOLLOWERS],
            classes: [list; CLASSES],
        }
    }

    /// A model on the heap.
    pub(super) fn boxed() -> Box<Self> {
        Box::new(Self::new())
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self, rounding: u8) {
        self.rounding = rounding;
        (self.previous, self.sites, self.sizes) = (0, [Site::NONE; 8], [0; 8]);
        self.followers.fill(Habit::NONE);
        for class in &mut self.classes {
            (class.count, class.last_obtained, class.last_freed) = (0, 0, 0);
        }
    }

    /// The habit of the last event of a kind.
    #[inline(always)]
    pub(super) fn last(&self, kind: u8) -> Habit {
        let kind = usize::from(kind & 7);
        Habit { site: self.sites[kind], size: self.sizes[kind] }
    }

    /// The previous event's site.
    #[inline(always)]
    pub(super) fn previous(&self) -> &Site {
        &self.sites[usize::from(self.previous & 7)]
    }

    /// The habit of what followed the previous site before.
    #[inline(always)]
    pub(super) fn follower(&self, kind: u8) -> Habit {
        self.followers[self.succession(kind)]
    }

    /// An event of a kind came from the site of the last one, and asked for `size`.
    #[inline(always)]
    pub(super) fn came_from_last(&mut self, kind: u8, size: u64) {
        self.sizes[usize::from(kind & 7)] = size;
        self.previous = kind;
    }

    /// An event of a kind came from another site than the last one, and asked for `size`.
    #[inline(always)]
    pub(super) fn came_from(&mut self, kind: u8, site: Site, size: u64) {
        self.came_from_site(kind, site, size);
        self.came_from_last(kind, size);
    }

    /// As [`Self::came_from`], where later events are known: which the last one was, and what the last one of
    /// each kind asked for, is told by whoever calls.
    #[inline(always)]
    pub(super) fn came_from_site(&mut self, kind: u8, site: Site, size: u64) {
        let place = self.succession(kind);
        self.followers[place] = Habit::of(kind, site, size);
        self.sites[usize::from(kind & 7)] = site;
    }

    /// The previous event was of this kind.
    #[inline(always)]
    pub(super) const fn set_previous(&mut self, kind: u8) {
        self.previous = kind;
    }

    #[inline]
    fn succession(&self, kind: u8) -> usize {
        succession(self.previous().node, kind)
    }

    /// The kind of the previous event.
    #[inline(always)]
    pub(super) const fn previous_kind(&self) -> u8 {
        self.previous
    }

    /// What followed an event of this node before that was of a kind, and the place of that.
    #[inline(always)]
    pub(super) fn follower_of(&mut self, node: NodeId, kind: u8) -> &mut Habit {
        &mut self.followers[succession(node, kind)]
    }

    /// The last event of a kind came from this site. It has to be the previous event's kind then, or to
    /// become that.
    #[inline(always)]
    pub(super) fn set_site(&mut self, kind: u8, site: Site) {
        self.sites[usize::from(kind & 7)] = site;
    }

    /// The last event of a kind asked for `size`.
    #[inline(always)]
    pub(super) fn set_size(&mut self, kind: u8, size: u64) {
        self.sizes[usize::from(kind & 7)] = size;
    }

    /// The class of a size.
    #[inline(always)]
    pub(super) fn class(&self, size: u64) -> u8 {
        if size <= 1 << 10 {
            return ((size as u32 + u32::from(self.rounding)) >> 4).max(1) as u8;
        }
        let log2 = 63 - size.leading_zeros();
        let quarter = size >> (log2 - 2) & 3;
        (68 + (log2 - 10) * 4 + quarter as u32).min(255) as u8
    }

    /// What was freed of a class.
    #[inline(always)]
    pub(super) fn list(&mut self, class: u8) -> &mut FreeList {
        &mut self.classes[usize::from(class)]
    }
}
