//! How a hook is entered where nothing is recorded: as any function.

use alloc_trace_format::EventKind;

use super::{tell, tell_anyhow, tell_of_one_block};
use crate::recorder::Registers;
use crate::request::Request;

#[inline(never)]
pub(super) fn obtained(block: *mut u8, size: usize, align: usize, kind: EventKind) {
    if !tell_of_one_block(block, size, align, kind, Registers) {
        tell_anyhow(block, size, align, kind, Registers);
    }
}

#[inline(never)]
pub(super) fn freeing(block: *mut u8, size: usize, align: usize) {
    obtained(block, size, align, EventKind::Free);
}

#[inline(never)]
pub(super) fn reallocated(request: &Request) {
    tell(request, Registers);
}
