//! Blocks of an alignment that is asked for.

use core::alloc::Layout;
use core::ffi::{c_int, c_void};
use core::ptr;

use super::{answer, refuse};
use crate::class::Class;
use crate::large::{self, Fill};
use crate::place::ForC;
use crate::{os, thread, tool};

/// `memalign`: a block aligned to `align`, rounded up to a power of two.
///
/// # Errors
///
/// Null and `EINVAL` when no power of two is as large, null and `ENOMEM` when memory is out.
#[must_use]
pub fn memalign(align: usize, size: usize) -> *mut c_void {
    let Some(align) = align.checked_next_power_of_two() else { return refuse(libc::EINVAL) };
    answer(alloc_aligned(align, size))
}

/// `aligned_alloc`: [`memalign`], as in glibc before 2.38. Later ones refuse an alignment that is
/// no power of two; the C standard leaves it to the implementation.
///
/// # Errors
///
/// As for [`memalign`].
#[must_use]
pub fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    memalign(align, size)
}

/// `posix_memalign`: stores a block aligned to `align` in `result`, and returns 0.
///
/// # Errors
///
/// `EINVAL` for an alignment that is not a power of two and a multiple of a pointer's size, `ENOMEM`
/// when memory is out; `result` is untouched then. `ENOMEM` is in `errno` too: POSIX does not ask
/// for it, but glibc has it there, and programs look.
///
/// # Safety
///
/// - `result` is valid for writes.
#[must_use]
pub unsafe fn posix_memalign(result: *mut *mut c_void, align: usize, size: usize) -> c_int {
    if !align.is_power_of_two() || align < size_of::<*mut c_void>() {
        return libc::EINVAL;
    }
    let block = answer(alloc_aligned(align, size));
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: by the caller's promise.
    unsafe { result.write(block) };
    0
}

/// `valloc`: a block aligned to the OS's page size.
///
/// # Errors
///
/// Null and `ENOMEM`.
#[must_use]
pub fn valloc(size: usize) -> *mut c_void {
    memalign(os::page_bytes(), size)
}

/// `pvalloc`: whole OS pages, at least one.
///
/// # Errors
///
/// Null and `ENOMEM`, also when rounding up overflows.
#[must_use]
pub fn pvalloc(size: usize) -> *mut c_void {
    let page = os::page_bytes();
    let Some(bytes) = size.max(1).checked_next_multiple_of(page) else {
        return refuse(libc::ENOMEM);
    };
    memalign(page, bytes)
}

/// A block aligned to a power of two, or null.
fn alloc_aligned(align: usize, size: usize) -> *mut u8 {
    let Ok(layout) = Layout::from_size_align(size.max(1), align) else { return ptr::null_mut() };
    let block = match Class::of(layout) {
        Some(class) => thread::alloc::<ForC>(class),
        None => large::alloc::<ForC>(layout, Fill::Any),
    };
    tool::allocated(block, layout.size());
    block
}
