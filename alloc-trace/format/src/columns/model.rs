//! What both sides expect of the next event, from the events of the chunk so far.

use crate::record::NodeId;

/// How many blocks are remembered.
pub(super) const BLOCKS: usize = 1 << 14;
/// How many successions of call sites are remembered.
const FOLLOWERS: usize = 1 << 10;
/// Size classes: 16 bytes apart up to a kibibyte, above it four to each doubling.
const CLASSES: usize = 256;
/// How many freed blocks of a class are remembered.
const FREED: usize = 16;

/// Where an event came from, and what it asked for there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) node: NodeId,
    pub(super) align_log2: u8,
    pub(super) stack_pointer: u64,
    pub(super) kept_frames: Option<u32>,
}

impl Site {
    const NONE: Self =
        Self { node: NodeId::ROOT, align_log2: 0, stack_pointer: 0, kept_frames: None };
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
struct FreeList {
    addresses: [u64; FREED],
    count: u32,
    /// Where the last block of the class was obtained and where one was freed: what is not predicted
    /// is told as the difference from there.
    last_obtained: u64,
    last_freed: u64,
}

impl FreeList {
    /// The address at a depth, 0 being the last one's.
    #[inline]
    fn at(&self, depth: u8) -> Option<u64> {
        let depth = u32::from(depth);
        let known = depth < self.count && depth < FREED as u32;
        known.then(|| self.addresses[(self.count - 1 - depth) as usize % FREED])
    }

    /// Takes the address at a depth out.
    #[inline]
    fn remove(&mut self, depth: u8) {
        let depth = u32::from(depth);
        if depth >= self.count {
            return;
        }
        for place in self.count - 1 - depth..self.count - 1 {
            self.addresses[place as usize % FREED] = self.addresses[(place as usize + 1) % FREED];
        }
        self.count -= 1;
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
    #[inline]
    pub(super) fn obtain(&mut self, address: u64, size: u64) {
        self.places[self.obtained as usize % BLOCKS] = Block { address, size };
        self.obtained = self.obtained.wrapping_add(1);
    }

    /// The block that was obtained so many blocks ago: 1 is the last one.
    #[inline]
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
    #[inline]
    pub(super) fn last(&self, kind: u8) -> Habit {
        self.last[usize::from(kind & 7)]
    }

    /// The habit of what followed the previous site before.
    #[inline]
    pub(super) fn follower(&self, kind: u8) -> Habit {
        self.followers[self.succession(kind)]
    }

    /// An event of a kind came from the site of the last one, and asked for `size`.
    #[inline]
    pub(super) fn came_from_last(&mut self, kind: u8, size: u64) {
        let last = &mut self.last[usize::from(kind & 7)];
        last.size = size;
        (self.previous_node, self.previous_stack) = (last.site.node, last.site.stack_pointer);
    }

    /// An event of a kind came from another site than the last one, and asked for `size`.
    #[inline]
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
    #[inline]
    pub(super) fn class(&self, size: u64) -> u8 {
        if size <= 1 << 10 {
            return ((size as u32 + u32::from(self.rounding)) >> 4).max(1) as u8;
        }
        let log2 = 63 - size.leading_zeros();
        let quarter = size >> (log2 - 2) & 3;
        (68 + (log2 - 10) * 4 + quarter as u32).min(255) as u8
    }

    /// How many blocks of the class were freed behind this one, if it is among the last.
    #[inline]
    pub(super) fn depth_of(&self, class: u8, address: u64) -> Option<u8> {
        let list = &self.classes[usize::from(class)];
        let known = (list.count as usize).min(FREED);
        (1..known).find(|&depth| list.at(depth as u8) == Some(address)).map(|depth| depth as u8)
    }

    /// The block behind which so many of its class were freed.
    pub(super) fn at_depth(&self, class: u8, depth: u8) -> Option<u64> {
        self.classes[usize::from(class)].at(depth)
    }

    /// Where a block of the class was obtained last.
    #[inline]
    pub(super) fn last_obtained(&self, class: u8) -> u64 {
        self.classes[usize::from(class)].last_obtained
    }

    /// Where a block of the class was freed last.
    #[inline]
    pub(super) fn last_freed(&self, class: u8) -> u64 {
        self.classes[usize::from(class)].last_freed
    }

    /// A block was obtained: one that was freed at a depth, or one that is not known.
    #[inline]
    pub(super) fn obtain(&mut self, address: u64, class: u8, depth: Option<u8>) {
        let list = &mut self.classes[usize::from(class)];
        if let Some(depth) = depth {
            list.remove(depth);
        }
        list.last_obtained = address;
    }

    /// A block was freed.
    #[inline]
    pub(super) fn free(&mut self, address: u64, class: u8) {
        let list = &mut self.classes[usize::from(class)];
        list.addresses[list.count as usize % FREED] = address;
        list.count = list.count.wrapping_add(1);
        list.last_freed = address;
    }
}
