//! The top of a class's cache, and whether an operation on it is under way.
//!
//! A signal handler may allocate while its thread is in the middle of an operation. So one that ends
//! on the fast path says of its class's cache alone that it is busy, in the word beside the pointer
//! that it changes: stores into one line of the processor's cache, in a row, cost little more than
//! one of them. A handler that finds the cache busy leaves the fast path, and does there without the
//! heap; what it does with other classes' caches is nothing to the operation.
//!
//! What a handler does before the cache is found idle and made busy, or after it is idle again, is
//! over when the thread goes on.

use core::sync::atomic::{Ordering, compiler_fence};

use crate::owner::{OwnerPtr, OwnerU64};
use crate::slot::Slot;

/// See the module.
#[derive(Debug)]
#[repr(C, align(16))]
pub(crate) struct Top {
    /// The slot of the block that is used next.
    slot: OwnerPtr<Slot>,
    /// 1 in the middle of an operation.
    busy: OwnerU64,
}

impl Top {
    /// One that is busy for ever, at a slot.
    pub(crate) const fn busy_at(slot: *mut Slot) -> Self {
        Self { slot: OwnerPtr::new(slot), busy: OwnerU64::new(1) }
    }

    /// Begins an operation; `false` if it would interrupt another.
    #[inline(always)]
    pub(crate) fn begin(&self) -> bool {
        if self.is_busy() {
            return false;
        }
        self.busy.set(1);
        // A handler runs at some point of this thread's instructions; the fences keep the operation's
        // ones between the two stores.
        compiler_fence(Ordering::SeqCst);
        true
    }

    /// Ends the operation that began.
    #[inline(always)]
    pub(crate) fn end(&self) {
        compiler_fence(Ordering::SeqCst);
        self.busy.set(0);
    }

    /// Whether an operation is under way.
    #[inline(always)]
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.get() != 0
    }

    /// The slot of the block that is used next.
    #[inline(always)]
    pub(crate) fn get(&self) -> *mut Slot {
        self.slot.get()
    }

    #[inline(always)]
    pub(crate) fn set(&self, slot: *mut Slot) {
        self.slot.set(slot);
    }

    /// Puts another slot in the place of this one, if it is this one; says whether it was. The other
    /// one's contents are known to who asks.
    pub(crate) fn replace(&self, slot: *mut Slot, other: *mut Slot) -> bool {
        self.slot.replace(slot, other)
    }

    /// Takes the block there, or null when there is none.
    ///
    /// In fewer instructions than [`pop_once`](Self::pop_once): the slot is changed in memory.
    #[inline(always)]
    pub(crate) fn pop(&self) -> *mut u8 {
        let block = self.newest();
        if !block.is_null() {
            // It is read anew: in place of a sum and a store that is one instruction.
            self.set(self.get().wrapping_sub(1));
        }
        block
    }

    /// Takes the block there, or null when there is none. Reads the top once.
    ///
    /// If that is asked for, it brings the next block into the processor's cache: whoever allocates once
    /// allocates again, and writes to it. (A processor foresees loads of blocks that lie side by side, but
    /// waits for stores.)
    #[inline(always)]
    pub(crate) fn pop_once(&self, fetches_next: bool) -> *mut u8 {
        let top = self.get();
        // SAFETY: `top` is one of this cache's slots, or the first of a cache without any.
        let block = unsafe { &*top }.get();
        if !block.is_null() {
            // Below a block's slot there is always another one.
            let below = top.wrapping_sub(1);
            // From a register: whatever comes next waits less for it than for a sum in memory.
            self.set(below);
            if fetches_next {
                // SAFETY: the slot below one with a block is one of this cache's.
                prefetch(unsafe { &*below }.get());
            }
        }
        block
    }

    /// Caches a block; `false` when the cache is full.
    #[inline(always)]
    pub(crate) fn push(&self, block: *mut u8) -> bool {
        // SAFETY: the cache's top.
        let slot = unsafe { Self::put_above(self.get(), block) };
        slot.inspect(|slot| self.set(*slot)).is_some()
    }

    /// Caches a block; `false` when the cache is full, or the block was the last one cached. In fewer
    /// instructions than [`push`](Self::push), as [`pop`](Self::pop) is, unless the top is to be read once.
    #[inline(always)]
    pub(crate) fn push_other(&self, block: *mut u8, reads_once: bool) -> bool {
        let top = self.get();
        // SAFETY: `top` is one of this cache's slots, or the first of a cache without any.
        let newest = unsafe { &*top };
        // SAFETY: a heap's caches are used by its thread alone.
        if unsafe { newest.get_as_owner() } == block {
            return false;
        }
        // SAFETY: the cache's top.
        let slot = unsafe { Self::put_above(top, block) };
        let set = |slot: &*mut Slot| {
            self.set(if reads_once { *slot } else { self.get().wrapping_add(1) });
        };
        slot.inspect(set).is_some()
    }

    /// Puts a block into the slot above a cache's `top`, and tells that slot; `None` when there is none.
    ///
    /// # Safety
    ///
    /// - `top` is the top of a cache of the calling thread's heap.
    #[inline(always)]
    unsafe fn put_above(top: *mut Slot, block: *mut u8) -> Option<*mut Slot> {
        let next = top.wrapping_add(1);
        // SAFETY: `top` is at most a cache's last slot, or the first of a cache without any: there
        // is another one above it.
        let slot = unsafe { &*next };
        // SAFETY: a heap's caches are used by its thread alone.
        if unsafe { slot.is_end_for_owner() } {
            return None;
        }
        slot.set(block);
        Some(next)
    }

    /// The block there, or null.
    #[inline(always)]
    fn newest(&self) -> *mut u8 {
        // SAFETY: the top is one of this cache's slots, or the first of a cache without any.
        unsafe { &*self.get() }.get()
    }

    /// Whether a block is the one that was cached last.
    #[inline(always)]
    pub(crate) fn is_newest(&self, block: *mut u8) -> bool {
        self.newest() == block
    }
}

/// Asks the processor for the line of its cache that a block begins in, to write to it: where another
/// thread freed the block, a line that was fetched to be read would have to be taken from that thread's
/// processor a second time. Any address will do.
#[inline(always)]
fn prefetch(block: *mut u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it is only a hint, which changes no memory and no register; x86-64 processors that do
    // not know it pass over it.
    unsafe {
        core::arch::asm!(
            "prefetchw byte ptr [{block}]",
            block = in(reg) block,
            options(readonly, nostack, preserves_flags),
        );
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = block;
}
