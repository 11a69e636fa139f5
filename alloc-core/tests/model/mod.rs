//! Drives an allocator with operations and compares it with a plain map of what is live: blocks
//! overlap nothing, are aligned, keep their contents, and are zero where that was asked for.
//!
//! One driver serves the property tests, the stress tests and the stress program, the fault-injection
//! tests and the fuzz target.

use std::alloc::{GlobalAlloc, Layout};
use std::collections::BTreeMap;
use std::panic;
use std::sync::Barrier;

/// One step. Indices are taken modulo the number of live blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    /// Allocates a block.
    Alloc { size: usize, align_shift: u32 },
    /// Allocates a block of zeros.
    AllocZeroed { size: usize, align_shift: u32 },
    /// Changes a live block's size.
    Realloc { which: usize, size: usize },
    /// Frees a live block.
    Free { which: usize },
}

/// A live block, filled with a pattern that its seed gives.
#[derive(Debug)]
pub(crate) struct Block {
    start: *mut u8,
    layout: Layout,
    seed: u8,
}

// SAFETY: a block may be used and freed by any thread, and is owned by whoever has this.
unsafe impl Send for Block {}

impl Block {
    fn read(&self, index: usize) -> u8 {
        assert!(index < self.layout.size());
        // SAFETY: the block is live and has this byte, which was written or is zero.
        unsafe { self.start.wrapping_add(index).read() }
    }

    fn fill(&mut self, seed: u8) {
        self.seed = seed;
        for index in watched(self.layout.size()) {
            // SAFETY: `index` is inside the block.
            unsafe { self.start.wrapping_add(index).write(pattern(seed, index)) };
        }
    }

    /// Fails if a byte changed since the block was filled as one of `filled` bytes. The block may
    /// have been resized since.
    fn expect_pattern(&self, filled: usize) {
        for index in watched(filled).filter(|index| *index < self.layout.size()) {
            assert_eq!(self.read(index), pattern(self.seed, index), "byte {index} of {self:?}");
        }
    }

    fn expect_zeros(&self) {
        for index in watched(self.layout.size()) {
            assert_eq!(self.read(index), 0, "byte {index} of {self:?}");
        }
    }
}

/// The bytes of a block that are filled and looked at: all of a small one; of a large one both
/// ends and some of each OS page.
fn watched(size: usize) -> impl Iterator<Item = usize> {
    const ENDS: usize = 1024;
    let all = 0..if size <= 4 * ENDS { size } else { ENDS };
    let middle = (all.end..size.saturating_sub(ENDS)).step_by(1361);
    let last = size.saturating_sub(ENDS).max(all.end)..size;
    all.chain(middle).chain(last)
}

/// Differs between blocks and between the cache lines of one.
fn pattern(seed: u8, index: usize) -> u8 {
    seed.wrapping_add((index as u8).wrapping_mul(7)).wrapping_add((index >> 8) as u8)
}

/// The allocator, and what it must hold.
#[derive(Debug)]
pub(crate) struct Model<A> {
    allocator: A,
    live: Vec<Block>,
    /// End of each live block by its start.
    spans: BTreeMap<usize, usize>,
    live_bytes: usize,
    /// Requests that were answered with null.
    pub(crate) refused: usize,
    seed: u8,
}

impl<A: GlobalAlloc> Model<A> {
    pub(crate) fn new(allocator: A) -> Self {
        let (live, spans) = (Vec::new(), BTreeMap::new());
        Self { allocator, live, spans, live_bytes: 0, refused: 0, seed: 0 }
    }

    /// Does one step.
    pub(crate) fn step(&mut self, operation: Operation) {
        match operation {
            Operation::Alloc { size, align_shift } => self.alloc(size, align_shift, false),
            Operation::AllocZeroed { size, align_shift } => self.alloc(size, align_shift, true),
            Operation::Realloc { which, size } => self.realloc(which, size),
            Operation::Free { which } => {
                if let Some(block) = self.remove(which) {
                    self.free(block);
                }
            }
        }
    }

    fn alloc(&mut self, size: usize, align_shift: u32, zeroed: bool) {
        let layout = Layout::from_size_align(size.max(1), 1 << align_shift).expect("a layout");
        let start = if zeroed {
            // SAFETY: the layout is not empty.
            unsafe { self.allocator.alloc_zeroed(layout) }
        } else {
            // SAFETY: the layout is not empty.
            unsafe { self.allocator.alloc(layout) }
        };
        if start.is_null() {
            self.refused += 1;
            return;
        }
        let mut block = Block { start, layout, seed: 0 };
        self.expect_room(&block);
        if zeroed {
            block.expect_zeros();
        }
        self.seed = self.seed.wrapping_add(1);
        block.fill(self.seed);
        self.insert(block);
    }

    fn realloc(&mut self, which: usize, size: usize) {
        let Some(mut block) = self.remove(which) else { return };
        let (size, old) = (size.max(1), block.layout.size());
        // SAFETY: the block is live with this layout, and the size is not 0.
        let start = unsafe { self.allocator.realloc(block.start, block.layout, size) };
        if start.is_null() {
            self.refused += 1;
            block.expect_pattern(old);
            self.insert(block);
            return;
        }
        block.start = start;
        block.layout = Layout::from_size_align(size, block.layout.align()).expect("a layout");
        self.expect_room(&block);
        block.expect_pattern(old);
        self.seed = self.seed.wrapping_add(1);
        block.fill(self.seed);
        self.insert(block);
    }

    /// Fails if a new block is misaligned or overlaps a live one.
    fn expect_room(&self, block: &Block) {
        let start = block.start.addr();
        let end = start + block.layout.size();
        assert_eq!(start % block.layout.align(), 0, "{block:?} is misaligned");
        if let Some((other, other_end)) = self.spans.range(..end).next_back() {
            assert!(*other_end <= start, "{block:?} overlaps {other:#x}..{other_end:#x}");
        }
    }

    /// Takes over a live block, from another model perhaps.
    pub(crate) fn insert(&mut self, block: Block) {
        self.spans.insert(block.start.addr(), block.start.addr() + block.layout.size());
        self.live_bytes += block.layout.size();
        self.live.push(block);
    }

    /// The slices of 64 KiB that live blocks begin in.
    #[allow(dead_code, reason = "not every program that drives the model looks at addresses")]
    pub(crate) fn slices(&self) -> impl Iterator<Item = usize> {
        self.spans.keys().map(|start| start >> 16)
    }

    /// Gives up a live block, which stays live.
    pub(crate) fn remove(&mut self, which: usize) -> Option<Block> {
        if self.live.is_empty() {
            return None;
        }
        let block = self.live.swap_remove(which % self.live.len());
        self.spans.remove(&block.start.addr());
        self.live_bytes -= block.layout.size();
        Some(block)
    }

    fn free(&mut self, block: Block) {
        block.expect_pattern(block.layout.size());
        // SAFETY: the block was live with this layout and is given up.
        unsafe { self.allocator.dealloc(block.start, block.layout) };
    }

    /// Requested bytes of live blocks.
    #[allow(dead_code, reason = "not every program that drives the model bounds its memory")]
    pub(crate) fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// Live blocks.
    pub(crate) fn live(&self) -> usize {
        self.live.len()
    }

    /// Frees everything, looking at it once more.
    pub(crate) fn free_all(&mut self) {
        while let Some(block) = self.remove(0) {
            self.free(block);
        }
    }
}

/// A source of steps: xorshift64*.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit
    }

    /// Mostly small, now and then large, rarely huge.
    pub(crate) fn size(&mut self) -> usize {
        match self.below(1000) {
            0 => self.below(8 << 20),
            1..20 => self.below(300 << 10),
            20..200 => self.below(8 << 10),
            _ => self.below(300),
        }
    }

    /// The next step for a model that should hold about `target` blocks.
    pub(crate) fn operation(&mut self, live: usize, target: usize) -> Operation {
        let align_shift = if self.below(8) == 0 { self.below(17) as u32 } else { 3 };
        let grows = self.below(2 * target) >= live;
        match self.below(10) {
            0..5 if grows => Operation::Alloc { size: self.size(), align_shift },
            5..7 if grows => Operation::AllocZeroed { size: self.size(), align_shift },
            7..9 => Operation::Realloc { which: self.below(1 << 20), size: self.size() },
            _ => Operation::Free { which: self.below(1 << 20) },
        }
    }
}

/// Where the threads of a test are at rest: one of those that meet here does something while the others
/// wait.
#[derive(Debug)]
pub(crate) struct Rest(Barrier);

impl Rest {
    /// For so many threads. A panic in any thread ends the process from now on, after its report: the
    /// others would wait for that thread for ever.
    #[allow(dead_code, reason = "not every program that drives the model has threads that meet")]
    pub(crate) fn new(threads: usize) -> Self {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            report(what);
            std::process::exit(1);
        }));
        Self(Barrier::new(threads))
    }

    #[allow(dead_code, reason = "not every program that drives the model has threads that meet")]
    pub(crate) fn meet(&self, look: impl FnOnce()) {
        if self.0.wait().is_leader() {
            look();
        }
        self.0.wait();
    }
}
