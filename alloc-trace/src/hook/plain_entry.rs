//! How a hook is entered where nothing is recorded: as any function.

use super::{tell, tell_allocated, tell_freeing};
use crate::recorder::Registers;
use crate::request::Request;

#[inline(never)]
pub(super) fn allocated(block: *mut u8, size: usize, align: usize, zeroed: usize) {
    tell_allocated(block, size, align, zeroed, Registers);
}

#[inline(never)]
pub(super) fn freeing(block: *mut u8, size: usize, align: usize) {
    tell_freeing(block, size, align, Registers);
}

#[inline(never)]
pub(super) fn reallocated(request: &Request) {
    tell(request, Registers);
}
