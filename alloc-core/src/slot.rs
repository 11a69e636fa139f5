//! What a cache is an array of.

use core::ptr;

use crate::hardened::secret;
use crate::owner::OwnerPtr;
use crate::tool;

/// A place for a block in a cache.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Slot(pub(crate) OwnerPtr<u8>);

impl Slot {
    #[inline(always)]
    pub(crate) fn get(&self) -> *mut u8 {
        secret::decode(tool::hide(self.0.get()))
    }

    #[inline(always)]
    pub(crate) fn set(&self, block: *mut u8) {
        self.0.set(tool::hide(secret::encode(block)));
    }

    /// The same for the slot's owner: see [`OwnerPtr::get_as_owner`].
    ///
    /// # Safety
    ///
    /// - The slot is one of the calling thread's heap, or of a stand-in.
    #[inline(always)]
    pub(crate) unsafe fn get_as_owner(&self) -> *mut u8 {
        // SAFETY: passed on; a stand-in's slots are never written.
        secret::decode(tool::hide(unsafe { self.0.get_as_owner() }))
    }

    /// Whether this is the one behind a cache's last.
    #[inline(always)]
    pub(crate) fn is_end(&self) -> bool {
        self.0.get() == FULL
    }

    /// The same for the slot's owner.
    ///
    /// # Safety
    ///
    /// As for [`get_as_owner`](Self::get_as_owner).
    #[inline(always)]
    pub(crate) unsafe fn is_end_for_owner(&self) -> bool {
        // SAFETY: passed on.
        unsafe { self.0.get_as_owner() == FULL }
    }

    pub(crate) fn set_end(&self) {
        self.0.set(FULL);
    }
}

/// What is in the slot behind a cache's last one. Neither a block nor an encoded one looks like this.
pub(crate) const FULL: *mut u8 = ptr::without_provenance_mut(1);
