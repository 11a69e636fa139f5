//! The allocator that a program swaps in.

use std::alloc::{GlobalAlloc, Layout};

use alloc_trace_format::EventKind;

use crate::{hook, mode, recorder};

/// A global allocator that hands every request to `A` and tells whoever wants to know.
///
/// While nothing is recorded or measured, a request costs one relaxed load more than with `A`.
///
/// ```
/// use std::alloc::System;
///
/// use alloc_trace::TraceAlloc;
///
/// #[global_allocator]
/// static ALLOCATOR: TraceAlloc<System> = TraceAlloc::new(System);
/// # fn main() {}
/// ```
///
/// A free is recorded before the memory is released, an allocation after it was obtained: so in the
/// recording, as in the program, no address is live twice.
#[derive(Debug, Default, Clone, Copy)]
pub struct TraceAlloc<A> {
    inner: A,
}

impl<A> TraceAlloc<A> {
    /// Wraps an allocator.
    #[must_use]
    pub const fn new(inner: A) -> Self {
        Self { inner }
    }

    /// The wrapped allocator, for what it offers beside `GlobalAlloc`, as `CoreAlloc` has `stats`.
    #[must_use]
    pub const fn inner(&self) -> &A {
        &self.inner
    }
}

// SAFETY: every request is answered by the inner allocator, with the layout and the pointer that it
// came with; what is told of it changes neither.
unsafe impl<A: GlobalAlloc> GlobalAlloc for TraceAlloc<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { self.inner.alloc(layout) };
        if mode::load() != mode::OFF {
            hook::allocated(EventKind::Alloc, block, layout);
        }
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { self.inner.alloc_zeroed(layout) };
        if mode::load() != mode::OFF {
            hook::allocated(EventKind::AllocZeroed, block, layout);
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if mode::load() != mode::OFF {
            hook::freeing(block, layout);
        }
        // SAFETY: the caller's promise.
        unsafe { self.inner.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if mode::load() == mode::OFF {
            // SAFETY: the caller's promise.
            return unsafe { self.inner.realloc(block, layout, new_size) };
        }
        let begin = recorder::stamp();
        // SAFETY: the caller's promise.
        let new_block = unsafe { self.inner.realloc(block, layout, new_size) };
        hook::reallocated(begin, block, layout, new_block, new_size);
        new_block
    }
}
