//! Heaps whose pages and end are the crate's own code, with caches that are a page's bits.

use crate::class::{CLASSES, Class};
use crate::hold::Hold;
use crate::idle::{Idle, Waiting};
use crate::owner::{OwnerU32, OwnerU64};
use crate::page::{Block, Page};
use crate::record::Owner;
use crate::remote::Inbox;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

#[path = "../../src/heap/pages.rs"]
mod pages;
#[path = "../../src/heap/upkeep.rs"]
#[expect(dead_code, reason = "time stands still, and memory is out")]
mod upkeep;

const FIRST_LIMIT: u32 = 1;

/// Heaps that there are.
const HEAPS: usize = 3;

/// What the helper reads whoever has the heap.
struct Time(AtomicU64);

impl Time {
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, time: u64) {
        self.0.store(time, Ordering::Relaxed);
    }
}

struct InUse;

impl InUse {
    #[expect(clippy::unused_self, reason = "every class is in use")]
    fn replace(&self, _: Class, _: bool) -> bool {
        true
    }
}

/// What goes back is not counted.
struct Balance;

impl Balance {
    #[expect(clippy::unused_self, reason = "nothing is counted")]
    fn begin_period(&self) {}

    #[expect(clippy::unused_self, reason = "nothing is counted")]
    fn clear(&self) {}
}

pub(crate) struct Heap {
    limits: [OwnerU32; CLASSES],
    pages: [OwnerU32; CLASSES],
    period: Time,
    in_use: InUse,
    tended: Time,
    balance: Balance,
    is_rested: OwnerU32,
    pub(crate) hold: Hold,
    next_idle: AtomicU32,
    owner: Owner,
    /// The cached blocks, all of one page.
    cached_page: OwnerU32,
    cached_bits: OwnerU64,
}

loom::lazy_static! {
    static ref ALL: [Heap; HEAPS] = core::array::from_fn(|index| Heap {
        limits: [OwnerU32::new(FIRST_LIMIT)],
        pages: [OwnerU32::new(0)],
        period: Time(AtomicU64::new(1)),
        in_use: InUse,
        tended: Time(AtomicU64::new(0)),
        balance: Balance,
        is_rested: OwnerU32::new(0),
        hold: Hold::new([AtomicU32::new(0), AtomicU32::new(0)]),
        next_idle: AtomicU32::new(0),
        owner: Owner {
            inbox: Inbox::new(AtomicU32::new(0)),
            index: OwnerU32::new(index as u32 + 1),
        },
        cached_page: OwnerU32::new(0),
        cached_bits: OwnerU64::new(0),
    });
    static ref IDLE: Idle = Idle::new(AtomicU64::new(0));
}

/// The heap with a number, from 1.
pub(crate) fn heap(number: u32) -> Option<&'static Heap> {
    ALL.get((number as usize).checked_sub(1)?)
}

pub(crate) fn all() -> impl Iterator<Item = &'static Heap> {
    ALL.iter()
}

impl Waiting for Heap {
    fn number(&self) -> u32 {
        self.owner.index.get()
    }

    fn link(&self) -> &AtomicU32 {
        &self.next_idle
    }

    fn hold(&self) -> &Hold {
        &self.hold
    }
}

/// What the heap's own modules find in `pool`.
pub(crate) mod pool {
    use super::{Heap, IDLE, heap};

    pub(crate) fn take() -> Option<&'static Heap> {
        IDLE.take(heap)
    }

    pub(crate) fn put(heap: &'static Heap) {
        IDLE.put(heap);
    }

    pub(crate) fn push(heap: &'static Heap) {
        IDLE.push(heap);
    }
}

impl Heap {
    /// That has models of its own: here a sleeping thread keeps what is cached.
    #[expect(clippy::unused_self, reason = "nothing is taken")]
    fn take_over_caches(&self) -> bool {
        true
    }

    pub(crate) fn number(&self) -> u32 {
        self.owner.index.get()
    }

    /// Allocates a block, by whoever has hold: as a refill does, which looks into the inbox where no page has
    /// free blocks, and then claims a page, or takes over those of heaps that wait.
    pub(crate) fn take_block(&'static self) -> Option<Block> {
        if self.first_page(Class).is_none() {
            self.drain_inbox();
        }
        let page = self.first_page(Class).or_else(|| self.claim_page(Class))?;
        let block = page.take();
        if page.free() == 0 {
            self.unlist(page);
        }
        block.write();
        Some(block)
    }

    /// Takes what is free of the class's pages without asking for another one, by whoever has hold.
    pub(crate) fn take_rest(&'static self) -> impl Iterator<Item = Block> {
        core::iter::from_fn(|| self.first_page(Class).and_then(|_| self.take_block()))
    }

    /// Takes a block from the cache, by the heap's thread.
    pub(crate) fn take_cached(&self) -> Option<Block> {
        let bits = self.cached_bits.get();
        let bit = bits & bits.wrapping_neg();
        self.cached_bits.set(bits & !bit);
        (bit != 0).then(|| Block { page: self.cached_page.get(), bit })
    }

    /// Puts a block into the cache, which may hold blocks of one page, by the heap's thread.
    pub(crate) fn cache(&self, block: &Block) {
        block.write();
        self.cached_page.set(block.page);
        self.cached_bits.set(self.cached_bits.get() | block.bit);
    }

    fn cached(&self, _: Class) -> usize {
        self.cached_bits.get().count_ones() as usize
    }

    #[expect(clippy::unused_self, reason = "there are no signal handlers")]
    fn is_interrupted(&self, _: Class) -> bool {
        false
    }

    fn set_limit(&self, class: Class, limit: u32) {
        class.pick(&self.limits).set(limit);
    }

    /// All cached blocks go home, whoever's their page is.
    fn flush(&'static self, _: Class, _: usize) {
        let page = Page::of_slice(self.cached_page.get()).expect("the cached blocks' page");
        let bits = self.cached_bits.get();
        self.cached_bits.set(0);
        if core::ptr::eq(page.owner(), &raw const self.owner) {
            page.set_local_bits(bits);
            self.settle(page);
            return;
        }
        assert!(page.remote().set(0, bits));
        if page.remote().count(bits.count_ones() as i32) {
            page.post_to_owner();
        }
    }
}

/// Frees a block by a thread that does not own its page.
pub(crate) fn free_remotely(block: &Block) {
    block.write();
    Page::of_slice(block.page).expect("a live block's page").free_remotely(block.bit);
}
