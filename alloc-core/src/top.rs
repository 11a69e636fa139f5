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

    /// The slot below becomes the one that is used next. It is read anew: in place of a sum and a store
    /// that is one instruction, which adds to memory.
    #[inline(always)]
    pub(crate) fn lower(&self) {
        self.slot.set(self.slot.get().wrapping_sub(1));
    }

    /// The slot above becomes the one that is used next; see [`lower`](Self::lower).
    #[inline(always)]
    pub(crate) fn raise(&self) {
        self.slot.set(self.slot.get().wrapping_add(1));
    }
}
