//! The allocator that a program swaps in.

use std::alloc::{GlobalAlloc, Layout};

use alloc_trace_format::EventKind;

use crate::request::Request;
use crate::{measure, mode, recorder};

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

    /// The wrapped allocator.
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
            allocated(EventKind::Alloc, block, layout);
        }
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { self.inner.alloc_zeroed(layout) };
        if mode::load() != mode::OFF {
            allocated(EventKind::AllocZeroed, block, layout);
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if mode::load() != mode::OFF {
            freeing(block, layout);
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
        reallocated(begin, block, layout, new_block, new_size);
        new_block
    }
}

/// The mode, once the environment was asked whether to record.
#[inline]
fn decided_mode() -> u32 {
    let mode = mode::load();
    if mode::must_decide(mode) {
        recorder::start_from_environment();
        return mode::load();
    }
    mode
}

#[inline(never)]
fn allocated(kind: EventKind, block: *mut u8, layout: Layout) {
    tell(&Request {
        kind,
        failed: block.is_null(),
        address: block.addr(),
        size: layout.size(),
        align: layout.align(),
        ..Request::EMPTY
    });
}

#[inline(never)]
fn freeing(block: *mut u8, layout: Layout) {
    tell(&Request {
        kind: EventKind::Free,
        address: block.addr(),
        size: layout.size(),
        align: layout.align(),
        ..Request::EMPTY
    });
}

#[inline(never)]
fn reallocated(begin: u64, block: *mut u8, layout: Layout, new_block: *mut u8, new_size: usize) {
    tell(&Request {
        kind: EventKind::Realloc,
        failed: new_block.is_null(),
        address: new_block.addr(),
        size: new_size,
        align: layout.align(),
        old_address: block.addr(),
        old_size: layout.size(),
        begin,
        ..Request::EMPTY
    });
}

#[inline(always)]
fn tell(request: &Request) {
    let mode = decided_mode();
    if mode::measures(mode) {
        measure::count(request);
    }
    if mode::records(mode) {
        recorder::record(request);
    }
}
