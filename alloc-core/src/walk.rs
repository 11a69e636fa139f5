//! What lies where: the segments, pages and blocks of the heap, as they are when looked at.
//!
//! For snapshots of the address space, and for the heap's own checks. A walk begins at
//! [`CoreAlloc::segments`](crate::CoreAlloc::segments) and
//! [`CoreAlloc::huge_blocks`](crate::CoreAlloc::huge_blocks).
//!
//! # Contract
//!
//! - A walk allocates nothing, takes no lock, waits for nobody and stops nobody. It may be made at
//!   any time by any thread, in a signal handler and in the middle of a hook too.
//! - Whatever other threads do meanwhile, a walk is memory-safe and ends: records of the heap are
//!   never unmapped, and are read as atomics. Hence nothing here is `unsafe`.
//! - It is exact if no thread uses the heap during the walk. If others do, each figure was true at
//!   some moment of the walk, but two figures need not have been true at the same moment: a page
//!   may have been given up since its segment was looked at, a block may be handed out while it is
//!   listed as free. What looks impossible in such a mixture is left out rather than made up.
//! - Only addresses are given, as numbers. Reading the memory there is up to the caller, who has to
//!   know for other reasons that it is mapped and that nobody writes to it: a segment's memory can
//!   be unmapped, and belongs to the program where blocks are live.
//!
//! ```
//! use alloc_core::CoreAlloc;
//! use alloc_core::walk::{BlockState, Run};
//!
//! #[global_allocator]
//! static HEAP: CoreAlloc = CoreAlloc::new();
//!
//! let boxed = Box::new([1u8; 100]);
//! let address = &raw const *boxed as usize;
//! let state = HEAP
//!     .segments()
//!     .flat_map(|segment| segment.runs())
//!     .filter_map(|run| if let Run::Page(page) = run { Some(page) } else { None })
//!     .flat_map(|page| page.blocks())
//!     .find(|block| block.address == address)
//!     .map(|block| block.state);
//! assert_eq!(state, Some(BlockState::Live));
//! ```

use crate::arena::{self, Arena};
use crate::heap::Heap;
use crate::page::{Extent, Page as Record};
use crate::pool;
use crate::record::{Kind, WORDS};
use crate::segment::{SEGMENT, SLICE, SLICE_SHIFT, SLICES, USABLE};

/// Bytes of a segment.
pub const SEGMENT_BYTES: usize = SEGMENT;

/// Bytes of a slice, the unit in which a segment is handed out. A segment has 64 of them.
pub const SLICE_BYTES: usize = SLICE;

/// A region that holds pages and large blocks.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Segment {
    /// Its first byte, at a multiple of its size, [`SEGMENT_BYTES`].
    pub address: usize,
    /// The slices in use, a bit each, the lowest for the first.
    pub used: u64,
    /// The slices that may hold memory of the OS: all those that were used since they were last
    /// purged. The others take address space only.
    pub touched: u64,
    arena: &'static Arena,
    /// Index in the arena of the first slice.
    slice: usize,
}

/// What a run of slices is used for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Run {
    /// Blocks of one size class.
    Page(Page),
    /// One block.
    Large(LargeBlock),
}

/// Memory cut into blocks of one size class.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Page {
    /// Its first byte, which is also the first block's.
    pub address: usize,
    /// Bytes from there on, a multiple of [`SLICE_BYTES`]. Some behind the last block may be unused.
    pub bytes: usize,
    /// Index of the size class, as in [`Stats::classes`](crate::Stats::classes).
    pub class: usize,
    /// Usable bytes of a block.
    pub block_bytes: usize,
    /// Blocks that it is cut into.
    pub capacity: usize,
    /// Blocks that are free in the page. The others are live, or kept in a thread's cache:
    /// [`blocks`](Self::blocks) tells which.
    pub free: usize,
    /// Number of the heap that owns the page. A thread has a heap to itself until it ends, and
    /// another may go on with it then.
    pub heap: u32,
    record: Record,
}

/// A live block that is too large for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LargeBlock {
    /// Its first byte.
    pub address: usize,
    /// Its usable bytes.
    pub bytes: usize,
    /// The bytes that the program asked for.
    pub requested_bytes: usize,
}

/// A block of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Block {
    /// Its first byte.
    pub address: usize,
    /// Its usable bytes.
    pub bytes: usize,
    /// Who has it.
    pub state: BlockState,
}

/// Who has a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockState {
    /// The program.
    Live,
    /// A thread's cache, to be handed out next.
    Cached,
    /// The page.
    Free,
}

/// All segments.
pub(crate) fn segments() -> impl Iterator<Item = Segment> {
    arena::all().flat_map(|arena| {
        arena.segments().filter_map(move |(slice, segment)| {
            let address = segment.slice(0).addr();
            (address != 0).then(|| Segment {
                address,
                used: !segment.free() & USABLE,
                touched: segment.dirty(),
                arena,
                slice,
            })
        })
    })
}

/// All blocks that are mappings of their own.
pub(crate) fn huge_blocks() -> impl Iterator<Item = LargeBlock> {
    arena::all().flat_map(|arena| {
        arena.slices_of_kind(Kind::Huge).filter_map(move |slice| LargeBlock::at(arena, slice))
    })
}

impl Segment {
    /// What its used slices are used for, in the order of addresses.
    pub fn runs(&self) -> impl Iterator<Item = Run> + use<> {
        let Self { arena, slice: first, .. } = *self;
        let mut next = first;
        core::iter::from_fn(move || {
            while next < first + SLICES as usize {
                let slice = next;
                let (run, slices) = run_at(arena, first, slice);
                next = slice + slices;
                if run.is_some() {
                    return run;
                }
            }
            None
        })
    }
}

/// What begins at a slice of the segment whose first slice is `first`, and how many slices it has,
/// at least one.
fn run_at(arena: &'static Arena, first: usize, slice: usize) -> (Option<Run>, usize) {
    let room = first + SLICES as usize - slice;
    match arena.kind(slice) {
        Kind::Page(_) => {
            let page = Record::of_slice(arena.first_slice() + slice as u32);
            // What does not begin here, or does not fit, is a page that came or went meanwhile.
            let page = page.filter(|page| page.number() == arena.first_slice() + slice as u32);
            let page = page.map(Page::new).filter(|page| page.bytes / SLICE <= room);
            (page.map(Run::Page), page.map_or(1, |page| page.bytes / SLICE))
        }
        Kind::Large => {
            let block = LargeBlock::at(arena, slice).filter(|block| block.bytes / SLICE <= room);
            (block.map(Run::Large), block.map_or(1, |block| (block.bytes / SLICE).max(1)))
        }
        Kind::None | Kind::Huge => (None, 1),
    }
}

impl LargeBlock {
    /// The block that begins at a slice; `None` if it went.
    fn at(arena: &'static Arena, slice: usize) -> Option<Self> {
        let head = arena.head(slice);
        let bytes = head.bytes();
        let address = (arena.first_slice() as usize + slice) << SLICE_SHIFT;
        let requested_bytes = head.requested().min(bytes);
        (bytes != 0).then_some(Self { address, bytes, requested_bytes })
    }
}

impl Page {
    pub(crate) fn new(record: Record) -> Self {
        let shape = record.class().shape();
        let free: u32 = (0..record.words()).map(|word| record.free_bits(word).count_ones()).sum();
        // SAFETY: a page's owner is a heap's, and heaps are never unmapped.
        let owner = unsafe { record.owner().as_ref() };
        Self {
            address: (record.number() as usize) << SLICE_SHIFT,
            bytes: (shape.slices as usize) << SLICE_SHIFT,
            class: record.class().index(),
            block_bytes: shape.size as usize,
            capacity: shape.blocks as usize,
            free: (free as usize).min(shape.blocks as usize),
            heap: owner.map_or(0, |owner| owner.index.get()),
            record,
        }
    }

    /// Its blocks, in the order of addresses.
    ///
    /// Which of them are in caches is learnt by a look through all threads' caches of this class.
    pub fn blocks(&self) -> impl Iterator<Item = Block> + use<> {
        let page = *self;
        let free: [u64; WORDS] = core::array::from_fn(|word| page.record.free_bits(word));
        let cached = Cached::of(page.record);
        (0..page.capacity).map(move |index| {
            let (word, bit) = (index / 64, 1 << (index % 64));
            let has = |bits: &[u64; WORDS]| bits.get(word).is_some_and(|bits| bits & bit != 0);
            let state = if has(&free) {
                BlockState::Free
            } else if has(&cached.bits) {
                BlockState::Cached
            } else {
                BlockState::Live
            };
            let bytes = page.block_bytes;
            Block { address: page.address + index * bytes, bytes, state }
        })
    }
}

/// The blocks of a page that are in caches.
#[derive(Debug)]
pub(crate) struct Cached {
    pub(crate) bits: [u64; WORDS],
    /// A block that was found twice, or 0.
    pub(crate) twice: usize,
}

impl Cached {
    /// Looks through the caches of all heaps.
    pub(crate) fn of(page: Record) -> Self {
        let extent = page.extent();
        let mut cached = Self { bits: [0; WORDS], twice: 0 };
        for heap in pool::all() {
            cached.add(heap, page, &extent);
        }
        cached
    }

    fn add(&mut self, heap: &Heap, page: Record, extent: &Extent) {
        for block in heap.cached_blocks(page.class()) {
            // A block of another page; or the cache changed while it was read, and is of no block.
            let Some(place) = extent.find(block) else { continue };
            let Some(bits) = self.bits.get_mut(place.word) else { continue };
            if *bits & place.bit != 0 {
                self.twice = block.addr();
            }
            *bits |= place.bit;
        }
    }
}
