//! The rules of the C library's `malloc` family, over this heap.
//!
//! What a C program may rely on, as glibc has it: alignment to 16 bytes; null with `errno` set to
//! `ENOMEM` where a request cannot be met, including every size past `PTRDIFF_MAX`; blocks of their
//! own for requests of 0 bytes; a `free` that leaves `errno` alone. Where glibc's versions differ,
//! the rule is 2.36's.
//!
//! These are ordinary functions: nothing here has a symbol that a C program could find. The crate
//! `alloc-core-capi` exports them under their C names, for `LD_PRELOAD`. They and
//! [`CoreAlloc`](crate::CoreAlloc) serve from one heap, and a block of one can be freed by the
//! other; but their threads' caches are apart, since thread-local memory is found faster in a
//! shared library than the portable way allows.
//!
//! ```
//! use alloc_core::c;
//!
//! let text = c::malloc(100);
//! // SAFETY: `text` is a live block of this heap, or null.
//! let longer = unsafe { c::realloc(text, 200) };
//! // SAFETY: as above; `text` was given up.
//! assert!(unsafe { c::malloc_usable_size(longer) } >= 200);
//! // SAFETY: as above, and it is not used any more.
//! unsafe { c::free(longer) };
//! ```

mod aligned;
mod resize;
mod state;

use core::alloc::Layout;
use core::ffi::{c_int, c_void};
use core::ptr::{self, NonNull};

use crate::class::Class;
use crate::hardened::custody;
use crate::large::{self, Fill};
use crate::place::ForC;
use crate::{arena, grains, thread, tool};

pub use aligned::{aligned_alloc, memalign, posix_memalign, pvalloc, valloc};
pub use resize::{realloc, reallocarray};
pub use state::{hand_back, mallinfo, mallinfo2, malloc_trim, malloc_usable_size};

/// What every block is aligned to, at least.
const ALIGN: usize = 16;

/// `malloc`: a block of at least `size` bytes, their contents undefined.
///
/// # Errors
///
/// Null and `ENOMEM`.
#[inline(always)]
#[must_use]
pub fn malloc(size: usize) -> *mut c_void {
    let block = thread::alloc_cached_of_size::<ForC>(size);
    if block.is_null() {
        // As the last call of all, so that the fast path needs no stack frame.
        return malloc_slow(size);
    }
    tool::allocated(block, size);
    block.cast()
}

#[cold]
#[inline(never)]
fn malloc_slow(size: usize) -> *mut c_void {
    let block = alloc(size);
    tool::allocated(block, size);
    answer(block)
}

/// `calloc`: a block for `count` elements of `size` bytes, all zero.
///
/// # Errors
///
/// Null and `ENOMEM`, also when the product overflows.
#[inline(always)]
#[must_use]
pub fn calloc(count: usize, size: usize) -> *mut c_void {
    let Some(bytes) = count.checked_mul(size) else { return refuse(libc::ENOMEM) };
    let block = thread::alloc_cached_of_size::<ForC>(bytes);
    if block.is_null() {
        return calloc_slow(bytes);
    }
    tool::allocated(block, bytes);
    // SAFETY: a new block of at least so many bytes.
    unsafe { clear(block, bytes) };
    block.cast()
}

#[cold]
#[inline(never)]
fn calloc_slow(bytes: usize) -> *mut c_void {
    let Some(class) = Class::of_size(bytes) else {
        let block = alloc_large(bytes, Fill::Zero);
        tool::cleared(block, bytes);
        return answer(block);
    };
    let block = alloc_small(class);
    tool::allocated(block, bytes);
    if !block.is_null() {
        // SAFETY: a new block of at least so many bytes.
        unsafe { clear(block, bytes) };
    }
    answer(block)
}

/// Clears the first bytes of a new block.
///
/// # Safety
///
/// - It is a block of at least so many bytes, which nobody else uses.
#[inline(always)]
unsafe fn clear(block: *mut u8, bytes: usize) {
    if bytes <= grains::FEW_BYTES {
        // SAFETY: passed on, with as few bytes as that asks for.
        unsafe { grains::clear_few(block, bytes) };
    } else {
        // SAFETY: passed on.
        unsafe { block.write_bytes(0, bytes) };
    }
}

/// `free`: gives a block up; null is none. Leaves `errno` alone.
///
/// An address that is no block of this heap ends the process, with one line that names the address.
///
/// # Safety
///
/// - `block` is null, or a live block of this heap that nobody uses any more.
#[inline(always)]
pub unsafe fn free(block: *mut c_void) {
    let block: *mut u8 = block.cast();
    tool::freed(block);
    // SAFETY: passed on.
    if !unsafe { thread::dealloc_cached::<ForC>(block) } {
        // SAFETY: passed on.
        unsafe { free_slow(block) };
    }
}

/// The bytes of a live block that the program may use: all that it `has`, or, where a tool is told of
/// blocks, those that were asked for.
#[inline(always)]
fn requested(block: NonNull<u8>, has: usize) -> usize {
    if !tool::IS_TOLD {
        return has;
    }
    match arena::class_of(block.as_ptr()) {
        Some(_) => tool::requested(block.as_ptr(), has),
        None => large::requested(block),
    }
}

/// What a C program gets: the block, or null and `ENOMEM`.
#[inline(always)]
fn answer(block: *mut u8) -> *mut c_void {
    if block.is_null() {
        return refuse(libc::ENOMEM);
    }
    block.cast()
}

/// Says why a request is refused.
#[cold]
#[inline(never)]
fn refuse(error: c_int) -> *mut c_void {
    // SAFETY: has no preconditions; the result is this thread's `errno`, valid while it lives.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: valid for writes, as above.
    unsafe { errno.write(error) };
    ptr::null_mut()
}

/// A block of at least `size` bytes, or null, with `errno` as it was.
#[inline(always)]
fn alloc(size: usize) -> *mut u8 {
    match Class::of_size(size) {
        Some(class) => alloc_small(class),
        None => alloc_large(size, Fill::Any),
    }
}

/// A block of a class, or of a larger one where memory is out and one is free.
#[inline(always)]
fn alloc_small(class: Class) -> *mut u8 {
    let block = thread::alloc::<ForC>(class);
    if block.is_null() {
        return thread::alloc_larger::<ForC>(class);
    }
    block
}

#[cold]
#[inline(never)]
fn alloc_large(size: usize, fill: Fill) -> *mut u8 {
    Layout::from_size_align(size, ALIGN)
        .map_or(ptr::null_mut(), |layout| large::alloc::<ForC>(layout, fill))
}

/// Frees what no cache takes at once.
///
/// # Safety
///
/// As for [`free`].
#[cold]
#[inline(never)]
unsafe fn free_slow(block: *mut u8) {
    if let Some(class) = arena::class_of(block) {
        return thread::dealloc_checked::<ForC>(class, block);
    }
    let Some(block) = NonNull::new(block) else { return };
    custody::take_back_large(block.as_ptr(), None);
    // SAFETY: a block that lies in no page came from `large::alloc`, or the process is ended there;
    // by the caller's promise it is live and given up.
    unsafe { large::dealloc(block) };
}

#[cfg(test)]
mod tests {
    use core::alloc::GlobalAlloc;

    use super::*;
    use crate::CoreAlloc;

    #[test]
    fn blocks_go_between_c_and_rust() {
        for size in [1, 100, 5000, 40_000, 10_000_000] {
            let layout = Layout::from_size_align(size, ALIGN).unwrap();
            // SAFETY: the layout is not empty.
            let of_rust = unsafe { CoreAlloc::new().alloc(layout) };
            let of_c = malloc(size);
            assert!(!of_rust.is_null() && !of_c.is_null());
            // SAFETY: a live block of this heap, given up here.
            let resized = unsafe { realloc(of_rust.cast(), size * 2) };
            // SAFETY: as above.
            unsafe { free(resized) };
            // SAFETY: a live block of this heap of at least that layout, given up here.
            unsafe { CoreAlloc::new().dealloc(of_c.cast(), layout) };
        }
    }

    #[test]
    fn a_thread_ends_with_two_heaps_and_both_are_used_again() {
        let heaps = || CoreAlloc::new().stats().heaps;
        let before = heaps();
        for _ in 0..200 {
            std::thread::spawn(|| {
                let layout = Layout::from_size_align(48, ALIGN).unwrap();
                // SAFETY: the layout is not empty.
                let of_rust = unsafe { CoreAlloc::new().alloc(layout) };
                let of_c = malloc(48);
                // SAFETY: a live block of this heap, given up here.
                unsafe { free(of_rust.cast()) };
                // SAFETY: as above, of that layout.
                unsafe { CoreAlloc::new().dealloc(of_c.cast(), layout) };
            })
            .join()
            .unwrap();
        }
        // Other tests run beside this one, but not two hundred threads at once.
        assert!(heaps() < before + 150);
    }
}
