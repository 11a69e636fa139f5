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
    entry::obtained(block, layout.size(), layout.align(), kind);
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

/// Tells of a request that is no reallocation, if a recording runs and that is all, as it mostly is: then all
/// goes on in registers. Else it does nothing and answers `false`: that is for [`tell_anyhow`].
#[inline(always)]
fn tell_of_one_block(
    block: *mut u8,
    size: usize,
    align: usize,
    kind: EventKind,
    caller: Registers,
) -> bool {
    let only_recorded = mode::load() == mode::RECORDING && !block.is_null();
    only_recorded && recorder::record_plain(kind, block.addr(), size, align, caller)
}

/// Tells of a request that is no reallocation.
#[inline(always)]
fn tell_anyhow(block: *mut u8, size: usize, align: usize, kind: EventKind, caller: Registers) {
    let failed = block.is_null() && kind != EventKind::Free;
    tell(&Request { kind, failed, address: block.addr(), size, align, ..Request::EMPTY }, caller);
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
