//! A thread's heap: a small cache of blocks for each class, and behind it the pages it owns.
//!
//! The caches are arrays of pointers. An allocation pops, a free pushes, whoever the block's page
//! belongs to: `dealloc` is given the class by the `Layout`, so neither touches metadata or the
//! block. Only when a cache runs empty or full are blocks moved, in batches, from and to the bits
//! of their pages: the heap's own pages directly, others' by remote frees.
//!
//! The caches are touched by the heap's current thread alone, until the helper takes over those of a
//! thread that sleeps: see [`takeover`]. What lies behind them belongs to whoever
//! holds the heap: its thread while it is off the fast path, or the [`purger`], which looks after the
//! heaps of sleeping threads. A thread that finds its heap held does not wait, but does as one that has
//! none. Into the inbox any thread posts pages with remote frees. A heap outlives its thread: see
//! [`pool`](crate::pool).

mod balance;
mod check;
mod pages;
mod takeover;
mod upkeep;

use core::ptr::{self, NonNull};
use core::sync::atomic::AtomicU32;

use crate::class::{CACHES, CLASSES, CacheIndex, Class, SLOTS};
use crate::fatal::fatal;
use crate::hardened::custody;
use crate::hold::Hold;
use crate::owner::{OwnerPtr, OwnerU32, OwnerU64};
use crate::page::{Page, Place};
use crate::record::Owner;
use crate::remote::Inbox;
use crate::slot::{FULL, Slot};
use crate::top::Top;
use crate::{counters, os};

use balance::Balance;
pub(crate) use upkeep::trim_idle_heaps;

/// Blocks that a class's cache may hold at first. It may hold twice as many each time that it is
/// found empty or full, up to the class's `cache_blocks`; half of that is what a refill brings.
/// A cache that becomes full although it was refilled since it was last full is too small for how
/// its thread takes and gives back, and may hold twice as many again, up to `cache_blocks_max`; a
/// thread that only gives back does not get there, and keeps an eighth.
const FIRST_LIMIT: u32 = 16;

/// Bytes that a thread gives back on balance before its caches begin small again: each block in them
/// keeps an OS page, and the blocks of a burst that is freed in no order lie in as many.
const MUCH_BYTES: u64 = 8 << 20;

/// What a heap is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Role {
    /// Serves a thread, or waits for one.
    #[expect(dead_code, reason = "never written: it is zero, as fresh memory is")]
    Live = 0,
    /// Stands for a heap that the thread does not have yet.
    Unset = 1,
    /// Stands for the thread's heap while an operation on it is under way.
    Busy = 2,
    /// Stands for the heap that an exiting thread has handed back.
    Detached = 3,
}

/// A bit for each class.
#[derive(Debug)]
struct ClassBits([OwnerU64; ClassBits::WORDS]);

impl ClassBits {
    const WORDS: usize = CLASSES.div_ceil(64);

    const fn new() -> Self {
        Self([const { OwnerU64::new(0) }; Self::WORDS])
    }

    /// Sets a class's bit or clears it; says whether it was set.
    fn replace(&self, class: Class, is_set: bool) -> bool {
        // The remainder is the quotient itself, and spares a check of the bounds.
        let (word, bit) = (&self.0[class.index() / 64 % Self::WORDS], 1 << (class.index() % 64));
        let before = word.get();
        word.set(if is_set { before | bit } else { before & !bit });
        before & bit != 0
    }
}

/// A thread's heap. Fresh memory, all zero, is a valid one without caches.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Heap {
    // Every allocation and free.
    /// The cached blocks of each class are a stack of slots, above one that holds null; behind the
    /// last slot comes one that holds [`FULL`]. A top is the slot of the block that is used next;
    /// when there is none, the null one. What is no class's has [`NO_SLOTS`].
    tops: [Top; CACHES],
    // Refills and flushes.
    /// Blocks that each cache may hold. 0 for a class that was never used, whose top is [`NO_SLOTS`].
    limits: [OwnerU32; CLASSES],
    /// First page with free blocks, as the number of its first slice; 0 for none.
    pages: [OwnerU32; CLASSES],
    /// The period in which the thread left the fast path last, and which classes it did so for.
    period: OwnerU64,
    in_use: ClassBits,
    /// That period when the heap was last looked after by the helper.
    tended: OwnerU64,
    /// 1 while the helper looks after it, whose pages were not in use for a period.
    is_rested: OwnerU32,
    /// What went back on balance, for the helper to know.
    balance: Balance,
    /// Bytes of blocks that went back to own pages, less those that were taken again.
    returned_bytes: OwnerU64,
    /// 1 from when these were [`MUCH_BYTES`] until the next refill.
    gives_back: OwnerU32,
    /// Which classes were refilled since their caches were full.
    refilled: ClassBits,
    /// The caches' slots.
    slots: OwnerPtr<Slot>,
    role: Role,
    /// Whether its thread's operations read a top once: [`Place::READS_TOPS_ONCE`](crate::place::Place).
    reads_tops_once: OwnerU32,
    /// Who has hold of what lies behind the caches.
    pub(crate) hold: Hold,
    /// The next idle heap in the pool.
    pub(crate) next_idle: AtomicU32,
    /// What its pages know of it.
    pub(crate) owner: Owner,
}

/// A heap and its slots, as they are mapped.
#[repr(C)]
struct HeapMemory {
    heap: Heap,
    slots: [Slot; SLOTS],
}

/// Bytes that a heap is mapped with.
pub(crate) const MAPPED_BYTES: usize = size_of::<HeapMemory>().next_multiple_of(os::OS_PAGE);

/// A cache without slots: empty and full at once.
static NO_SLOTS: [Slot; 2] = [Slot(OwnerPtr::new(ptr::null_mut())), Slot(OwnerPtr::new(FULL))];

const fn no_slots() -> *mut Slot {
    (&raw const NO_SLOTS).cast::<Slot>().cast_mut()
}

/// What a thread has before it has a heap.
pub(crate) static UNSET: Heap = Heap::stand_in(Role::Unset);

/// What a thread has while an operation is under way on its heap, or it is given one.
pub(crate) static BUSY: Heap = Heap::stand_in(Role::Busy);

impl Heap {
    /// A heap whose caches are busy, and empty and full at once, so that every operation on it leaves
    /// the fast path and finds out there.
    pub(crate) const fn stand_in(role: Role) -> Self {
        const {
            assert!(!core::mem::needs_drop::<Self>());
        }
        Self {
            tops: [const { Top::busy_at(no_slots()) }; CACHES],
            limits: [const { OwnerU32::new(0) }; CLASSES],
            pages: [const { OwnerU32::new(0) }; CLASSES],
            period: OwnerU64::new(0),
            in_use: ClassBits::new(),
            tended: OwnerU64::new(0),
            is_rested: OwnerU32::new(0),
            balance: Balance::new(),
            returned_bytes: OwnerU64::new(0),
            gives_back: OwnerU32::new(0),
            refilled: ClassBits::new(),
            slots: OwnerPtr::new(ptr::null_mut()),
            role,
            reads_tops_once: OwnerU32::new(0),
            hold: Hold::new([const { AtomicU32::new(0) }; 2]),
            next_idle: AtomicU32::new(0),
            owner: Owner { inbox: Inbox::new(AtomicU32::new(0)), index: OwnerU32::new(0) },
        }
    }

    /// Maps a new heap. It is never unmapped.
    pub(crate) fn make() -> Option<&'static Self> {
        let memory: NonNull<HeapMemory> = os::map(MAPPED_BYTES)?.cast();
        // SAFETY: the mapping is large enough, aligned to an OS page, never unmapped, and zeroed,
        // which is valid: atomics, and a `Role` of `Live`.
        let memory: &'static HeapMemory = unsafe { memory.as_ref() };
        let heap = &memory.heap;
        heap.slots.set(memory.slots.as_ptr().cast_mut());
        for top in &heap.tops {
            top.set(no_slots());
        }
        counters::HEAPS.add(1);
        counters::METADATA_BYTES.add(MAPPED_BYTES);
        Some(heap)
    }

    /// Says how the thread that is given the heap works on its caches. By who has hold.
    pub(crate) fn set_reads_tops_once(&self, does: bool) {
        self.reads_tops_once.set(does.into());
    }

    #[inline(always)]
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn top(&self, class: Class) -> &Top {
        self.top_of(CacheIndex::of(class))
    }

    /// The top of a cache.
    #[inline(always)]
    pub(crate) fn top_of(&self, cache: CacheIndex) -> &Top {
        cache.pick(&self.tops)
    }

    /// The top of a cache, by its address in a register: where the cache is not known when compiling,
    /// a processor hands on at once what it stores through one register to what it loads next, but not
    /// what it stores through a sum of two.
    #[inline(always)]
    pub(crate) fn top_at(&self, cache: CacheIndex) -> &Top {
        let top = self.top_of(cache);
        #[cfg(target_arch = "x86_64")]
        {
            let mut address = ptr::from_ref(top);
            // SAFETY: no instruction at all. But the compiler no longer knows what the address is a sum of.
            #[expect(clippy::pointers_in_nomem_asm_block, reason = "nothing is done with it")]
            unsafe {
                core::arch::asm!(
                    "/* {address} */",
                    address = inout(reg) address,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            // SAFETY: the same reference.
            unsafe { &*address }
        }
        #[cfg(not(target_arch = "x86_64"))]
        top
    }

    /// Whether a signal handler that asks has interrupted an operation on a class's cache, which then
    /// nobody may touch.
    pub(crate) fn is_interrupted(&self, class: Class) -> bool {
        self.top(class).is_busy()
    }

    /// Forgets the operations that were interrupted for ever, as their thread was cancelled. What
    /// they had in hand is lost, a block at most for each.
    pub(crate) fn forget_interrupted(&self) {
        for top in &self.tops {
            top.end();
        }
    }

    /// Makes room in a cache that is full.
    pub(crate) fn make_room(&'static self, class: Class) {
        self.keep_time(class);
        let limit = class.pick(&self.limits).get();
        let was_refilled = self.refilled.replace(class, false);
        if limit == 0 {
            // A cache that was never used is full, too, and nothing but this makes room in it.
            self.raise_limit(class);
            return;
        }
        if self.returned_bytes.get() >= MUCH_BYTES {
            self.returned_bytes.set(0);
            self.gives_back.set(1);
            self.shrink_caches();
            return;
        }
        let may_grow = limit < class.shape().cache_blocks;
        if !was_refilled && (!may_grow || self.gives_back.get() != 0) {
            // Hardly any of them will be wanted: the more go at once, the less each costs.
            self.flush(class, limit as usize / 8);
        } else if may_grow {
            self.raise_limit(class);
        } else if limit < class.shape().cache_blocks_max {
            self.set_limit(class, limit * 2);
        } else {
            self.flush(class, limit as usize / 2);
        }
    }

    /// Lets all caches begin small again, with their newest blocks.
    fn shrink_caches(&'static self) {
        for class in Class::all() {
            let limit = FIRST_LIMIT.min(class.shape().cache_blocks);
            if class.pick(&self.limits).get() != 0 && !self.is_interrupted(class) {
                self.flush(class, limit as usize / 2);
                self.set_limit(class, limit);
            }
        }
    }

    /// Doubles what a cache may hold, up to what it may without more ado.
    fn raise_limit(&self, class: Class) {
        let limit = class.pick(&self.limits).get();
        if limit < class.shape().cache_blocks {
            self.set_limit(class, (limit * 2).max(FIRST_LIMIT).min(class.shape().cache_blocks));
        }
    }

    /// Says how many blocks a class's cache may hold, not less than it does.
    fn set_limit(&self, class: Class, limit: u32) {
        let place = class.pick(&self.limits);
        let limit = limit.min(class.shape().cache_blocks_max);
        let (before, from) = (place.get(), self.bottom(class));
        let to = self.slots.get().wrapping_add(class.first_slot(limit));
        if before == 0 {
            self.top(class).set(to);
        } else {
            self.forget_end(class);
            if from != to {
                let cached = self.cached(class);
                for index in 1..=cached {
                    // SAFETY: a slot of a cached block.
                    let block = unsafe { &*from.wrapping_add(index) }.get();
                    // SAFETY: no more blocks are cached than may be, here and there.
                    unsafe { &*to.wrapping_add(index) }.set(block);
                }
                self.top(class).set(to.wrapping_add(cached));
            }
        }
        // SAFETY: as above.
        unsafe { &*to.wrapping_add(limit as usize + 1) }.set_end();
        place.set(limit);
    }

    /// Clears the slot that marks the end of a class's cache, before its limit changes.
    fn forget_end(&self, class: Class) {
        let limit = class.pick(&self.limits).get() as usize;
        // SAFETY: a limit is at most the class's slots, behind which there is one more.
        unsafe { &*self.bottom(class).wrapping_add(limit + 1) }.set(ptr::null_mut());
    }

    /// Takes a block of any larger class, from what this heap has free; null if there is none.
    pub(crate) fn pop_larger(&'static self, class: Class) -> *mut u8 {
        let mut larger = Class::all().skip(class.index() + 1);
        let block = larger.find_map(|class| {
            if self.is_interrupted(class) {
                return None;
            }
            if self.cached(class) == 0 && self.first_page(class).is_some() {
                self.refill(class);
            }
            let block = self.top(class).pop();
            custody::hand_out(class, block);
            NonNull::new(block)
        });
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    /// The blocks in a class's cache; a guess if it is not the caller's heap.
    pub(crate) fn cached_blocks(&self, class: Class) -> impl Iterator<Item = *mut u8> {
        let limit = class.pick(&self.limits).get();
        let bottom = self.slots.get().wrapping_add(class.first_slot(limit));
        (1..=self.cached(class).min(limit as usize)).map(move |index| {
            // SAFETY: `index` is at most a limit that was the class's, so many slots are above its bottom,
            // and a heap is never unmapped.
            unsafe { &*bottom.wrapping_add(index) }.get()
        })
    }

    /// The null slot below a class's cache.
    fn bottom(&self, class: Class) -> *mut Slot {
        self.slots.get().wrapping_add(class.first_slot(class.pick(&self.limits).get()))
    }

    /// Blocks in a class's cache; a guess if it is not the caller's heap.
    pub(crate) fn cached(&self, class: Class) -> usize {
        self.cached_below(class, self.top(class).get())
    }

    /// Blocks up to what is or was a class's top.
    fn cached_below(&self, class: Class, top: *mut Slot) -> usize {
        let limit = class.pick(&self.limits).get();
        if limit == 0 {
            return 0;
        }
        let bottom = self.slots.get().wrapping_add(class.first_slot(limit));
        let cached = top.addr().wrapping_sub(bottom.addr()) / size_of::<Slot>();
        // Another thread may find the top where the cache was or will be.
        if cached > limit as usize { 0 } else { cached }
    }

    /// Fills an empty cache from the heap's pages, or from a new one. `false` when memory is out.
    #[cold]
    pub(crate) fn refill(&'static self, class: Class) -> bool {
        self.keep_time(class);
        if class.pick(&self.pages).get() == 0 {
            self.drain_inbox();
        }
        let mut page = match self.first_page(class).or_else(|| self.claim_page(class)) {
            Some(page) => page,
            None => return false,
        };
        self.raise_limit(class);
        self.refilled.replace(class, true);
        self.gives_back.set(0);

        let place = self.top(class);
        let mut rest = class.pick(&self.limits).get().min(class.shape().cache_blocks) / 2;
        loop {
            let count = rest.min(page.free());
            let top = place.get();
            // SAFETY: the cache was empty and gets at most half of its slots, which begin above
            // `top`.
            unsafe { page.take(count, top.wrapping_add(1)) };
            place.set(top.wrapping_add(count as usize));
            if page.free() == 0 {
                self.unlist(page);
            }
            let bytes = u64::from(count * class.shape().size);
            self.returned_bytes.set(self.returned_bytes.get().saturating_sub(bytes));
            self.balance.take(bytes);
            rest -= count;
            if rest == 0 {
                return true;
            }
            page = match self.first_page(class) {
                Some(page) => page,
                None => return true,
            };
        }
    }

    /// Moves a cache's blocks to their pages, but for the `keep` newest.
    #[cold]
    pub(crate) fn flush(&'static self, class: Class, keep: usize) {
        let cached = self.cached(class);
        let count = cached.saturating_sub(keep);
        let bottom = self.bottom(class);
        let mut next = 1;
        while next <= count {
            // SAFETY: `count` blocks are cached at least, in the slots above `bottom`.
            next += unsafe { self.free_neighbours(bottom.wrapping_add(next), count + 1 - next) };
        }
        let mut to = bottom.wrapping_add(1);
        for _ in count..cached {
            // SAFETY: at most the last cached block's slot.
            let block = unsafe { &*to.wrapping_add(count) }.get();
            // SAFETY: as above.
            unsafe { &*to }.set(block);
            to = to.wrapping_add(1);
        }
        self.top(class).set(bottom.wrapping_add(cached - count));
    }

    /// Frees as many of `count` blocks as lie in the first one's page: neighbours share the look-up
    /// of their page and the writing of its bits. Returns how many.
    ///
    /// # Safety
    ///
    /// - From `slots` up there are `count` slots with blocks, at least one.
    #[inline(always)]
    unsafe fn free_neighbours(&'static self, slots: *mut Slot, count: usize) -> usize {
        // SAFETY: there is at least one, by the caller's promise.
        let first = unsafe { &*slots }.get();
        let page = Page::locate(first);
        let is_own = ptr::eq(page.owner(), &raw const self.owner);
        let freed = if is_own {
            // SAFETY: passed on.
            unsafe { page.put(slots, count) }
        } else {
            // SAFETY: passed on.
            unsafe { page.put_remotely(slots, count) }
        };
        if freed == 0 {
            fatal("freed an address that is not the start of a block", first.addr());
        }
        let bytes = (freed * page.class().size()) as u64;
        if is_own {
            self.returned_bytes.set(self.returned_bytes.get() + bytes);
            self.settle(page);
            self.balance.give(bytes);
            return freed;
        }
        if page.remote().count(freed as i32) {
            page.post_to_owner();
        }
        self.balance.send(bytes);
        freed
    }
}

/// Frees one block without any heap: for a thread that has none, or whose heap is in the middle of
/// something.
pub(crate) fn free_remotely(block: *mut u8) {
    let page = Page::locate(block);
    let Some(Place { word, bit }) = page.extent().place(block) else {
        fatal("freed an address that is not the start of a block", block.addr())
    };
    page.set_remote_bits(word, bit);
    if page.remote().count(1) {
        page.post_to_owner();
    }
}

#[cfg(test)]
mod tests;
