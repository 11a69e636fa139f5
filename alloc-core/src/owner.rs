//! Cells that belong to one thread at a time in memory that all can reach.
//!
//! A thread's heap and the pages it owns are touched by that thread alone, until another takes
//! them over. These cells are atomics read and written `Relaxed`: the same instructions as plain
//! memory, but breaking the rule would make wrong numbers rather than undefined behaviour, and no
//! `unsafe impl Sync` is needed. What orders a hand-over is the hand-over itself (the pool of idle
//! heaps, the free bits of a segment).

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// A pointer that one thread at a time owns.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct OwnerPtr<T>(AtomicPtr<T>);

impl<T> OwnerPtr<T> {
    pub(crate) const fn new(pointer: *mut T) -> Self {
        Self(AtomicPtr::new(pointer))
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> *mut T {
        self.0.load(Ordering::Relaxed)
    }

    /// The same as [`get`](Self::get), which the compiler may make a part of what uses it: atomic
    /// loads it leaves alone.
    ///
    /// # Safety
    ///
    /// - The caller is the owner. (Nobody else writes, so this read races with no write.)
    #[inline(always)]
    pub(crate) unsafe fn get_as_owner(&self) -> *mut T {
        // SAFETY: valid for reads, and no write is under way by the caller's promise.
        unsafe { self.0.as_ptr().read() }
    }

    /// Writes `other` if `pointer` is there; says whether it was. For one who is not the owner, and knows
    /// what that does to the owner.
    pub(crate) fn replace(&self, pointer: *mut T, other: *mut T) -> bool {
        self.0.compare_exchange(pointer, other, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    #[inline(always)]
    pub(crate) fn set(&self, pointer: *mut T) {
        self.0.store(pointer, Ordering::Relaxed);
    }
}

/// A 64-bit word that one thread at a time owns.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct OwnerU64(AtomicU64);

impl OwnerU64 {
    pub(crate) const fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// A 32-bit number that one thread at a time owns.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct OwnerU32(AtomicU32);

impl OwnerU32 {
    pub(crate) const fn new(value: u32) -> Self {
        Self(AtomicU32::new(value))
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn set(&self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }
}
