//! From a request to whoever wants to know of it.
//!
//! A hook is entered through a few instructions that hand it the registers of its caller: so a
//! backtrace begins there, and the hook's own frame need not be unwound at each event.

#[cfg_attr(
    any(
        alloc_trace_passthrough,
        not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))
    ),
    path = "hook/plain_entry.rs"
)]
mod entry;

use std::alloc::Layout;

use alloc_trace_format::{EventKind, Stamp};

use crate::recorder::Registers;
use crate::request::Request;
use crate::{measure, mode, recorder};

/// A block was obtained, or was not.
#[inline(always)]
pub(crate) fn allocated(kind: EventKind, block: *mut u8, layout: Layout) {
    let zeroed = kind == EventKind::AllocZeroed;
    entry::allocated(block, layout.size(), layout.align(), usize::from(zeroed));
}

/// A block is about to be released.
#[inline(always)]
pub(crate) fn freeing(block: *mut u8, layout: Layout) {
    entry::freeing(block, layout.size(), layout.align());
}

/// A block was replaced by another one, or was not.
#[inline(always)]
pub(crate) fn reallocated(
    begin: Stamp,
    block: *mut u8,
    layout: Layout,
    new_block: *mut u8,
    new_size: usize,
) {
    entry::reallocated(&Request {
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

/// Tells of an allocation.
#[inline(always)]
fn tell_allocated(block: *mut u8, size: usize, align: usize, zeroed: usize, caller: Registers) {
    let kind = if zeroed == 0 { EventKind::Alloc } else { EventKind::AllocZeroed };
    let address = block.addr();
    let failed = block.is_null();
    tell(&Request { kind, failed, address, size, align, ..Request::EMPTY }, caller);
}

/// Tells of a free.
#[inline(always)]
fn tell_freeing(block: *mut u8, size: usize, align: usize, caller: Registers) {
    let address = block.addr();
    tell(&Request { kind: EventKind::Free, address, size, align, ..Request::EMPTY }, caller);
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

#[inline(always)]
fn tell(request: &Request, caller: Registers) {
    let mode = decided_mode();
    if mode::measures(mode) {
        measure::count(request);
    }
    if mode::records(mode) {
        recorder::record(request, caller);
    }
}
