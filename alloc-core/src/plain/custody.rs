//! Nobody asks who has a block: what `hardened/custody.rs` does in the ordinary build.

use super::marks::Marks;
use crate::class::Class;
use crate::page::Page;

#[inline(always)]
pub(crate) fn hand_out(_: Class, _: *mut u8) {}

#[inline(always)]
pub(crate) fn take_back(_: Class, _: *mut u8) {}

#[inline(always)]
pub(crate) fn take_back_large(_: *mut u8, _: Option<usize>) {}

#[inline(always)]
pub(crate) fn check(page: Page, _: &[u64]) -> Result<(), &'static str> {
    let Marks = page.marks();
    Ok(())
}
