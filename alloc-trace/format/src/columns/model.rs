//! What both sides expect of the next event, from the events of the chunk so far.

use crate::record::NodeId;

/// How many blocks are remembered.
pub(super) const BLOCKS: usize = 1 << 14;
/// How many successions of call sites are remembered.
const FOLLOWERS: usize = 1 << 10;
/// Size classes: 16 bytes apart up to a kibibyte, above it four to each doubling.
const CLASSES: usize = 256;
/// How many freed blocks of a class are remembered: as many addresses as a line of the cache holds.
const FREED: usize = 8;

/// Where an event came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site {
    pub(super) node: NodeId,
    pub(super) align_log2: u32,
    pub(super) stack_pointer: u64,
}

impl Site {
    const NONE: Self = Self { node: NodeId::ROOT, align_log2: 0, stack_pointer: 0 };

    /// Whether it is the same one, found out without a branch for each field.
    #[inline(always)]
    pub(super) const fn is(&self, other: &Self) -> bool {
        let node = self.node.0 ^ other.node.0;
        let align = self.align_log2 ^ other.align_log2;
        (node | align) as u64 | self.stack_pointer ^ other.stack_pointer == 0
    }
}

/// A site and the size that was asked for there last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habit {
    pub(super) site: Site,
    pub(super) size: u64,
}

impl Habit {
    const NONE: Self = Self { site: Site::NONE, size: 0 };
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

    /// The block that was obtained so many blocks ago: 1 is the last one.
    #[inline(always)]
    pub(super) fn aged(&self, age: u32) -> Option<Block> {
        let known = age >= 1 && age <= self.obtained && age as usize <= BLOCKS;
        known.then(|| self.places[self.obtained.wrapping_sub(age) as usize % BLOCKS])
    }
}

/// The model. Zeroed memory is a model of nothing, once it is reset.
#[derive(Debug)]
pub(super) struct Model {
    /// What is added to a size before it is cut into classes: it depends on the allocator.
    rounding: u8,
    /// The previous event's node and stack pointer.
    pub(super) previous_node: NodeId,
    pub(super) previous_stack: u64,
    /// For each kind of event its last site.
    last: [Habit; 8],
    /// What followed a site, by the site's node and the kind of what followed.
    followers: [Habit; FOLLOWERS],
    classes: [FreeList; CLASSES],
}

impl Model {
    pub(super) const fn new() -> Self {
        let list = FreeList { addresses: [0; FREED], count: 0, last_obtained: 0, last_freed: 0 };
        Self {
            rounding: 0,
            previous_node: NodeId::ROOT,
            previous_stack: 0,
            last: [Habit::NONE; 8],
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
        (self.previous_node, self.previous_stack) = (NodeId::ROOT, 0);
        self.last = [Habit::NONE; 8];
        self.followers.fill(Habit::NONE);
        for class in &mut self.classes {
            (class.count, class.last_obtained, class.last_freed) = (0, 0, 0);
        }
    }

    /// The habit of the last event of a kind.
    #[inline(always)]
    pub(super) fn last(&self, kind: u8) -> &Habit {
        &self.last[usize::from(kind & 7)]
    }

    /// The habit of what followed the previous site before.
    #[inline(always)]
    pub(super) fn follower(&self, kind: u8) -> &Habit {
        &self.followers[self.succession(kind)]
    }

    /// An event of a kind came from the site of the last one, and asked for `size`.
    #[inline(always)]
    pub(super) fn came_from_last(&mut self, kind: u8, size: u64) {
        let last = &mut self.last[usize::from(kind & 7)];
        last.size = size;
        (self.previous_node, self.previous_stack) = (last.site.node, last.site.stack_pointer);
    }

    /// An event of a kind came from another site than the last one, and asked for `size`.
    #[inline(always)]
    pub(super) fn came_from(&mut self, kind: u8, site: Site, size: u64) {
        let habit = Habit { site, size };
        let place = self.succession(kind);
        self.followers[place] = habit;
        self.last[usize::from(kind & 7)] = habit;
        (self.previous_node, self.previous_stack) = (site.node, site.stack_pointer);
    }

    #[inline]
    fn succession(&self, kind: u8) -> usize {
        let key = self.previous_node.0.wrapping_mul(8).wrapping_add(u32::from(kind));
        (key.wrapping_mul(0x9e37_79b1) >> 22) as usize % FOLLOWERS
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
