//! Telling valgrind of blocks: in the ordinary build, nothing. `valgrind.rs` takes this file's place
//! with the feature `valgrind`.

/// Whether valgrind is told.
pub(crate) const IS_TOLD: bool = false;

#[inline(always)]
pub(crate) fn allocated(_: *mut u8, _: usize) {}

#[inline(always)]
pub(crate) fn cleared(_: *mut u8, _: usize) {}

#[inline(always)]
pub(crate) fn resized(_: *mut u8, _: *mut u8, _: usize, _: usize) {}

#[inline(always)]
pub(crate) fn freed(_: *mut u8) {}

#[inline(always)]
pub(crate) fn requested(_: *mut u8, has: usize) -> usize {
    has
}

#[inline(always)]
pub(crate) fn closed(_: *mut u8, _: usize) {}

#[inline(always)]
pub(crate) fn hide(block: *mut u8) -> *mut u8 {
    block
}

#[inline(always)]
pub(crate) fn opened(_: *mut u8, _: usize) {}
