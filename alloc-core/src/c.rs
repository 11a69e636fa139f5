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

use core::alloc::Layout;
use core::ffi::{c_int, c_void};
use core::ptr::{self, NonNull};

use crate::class::{self, Class};
use crate::heap::Heap;
use crate::large::{self, Fill};
use crate::place::ForC;
use crate::{arena, core_alloc, decay, grains, os, stats, thread};

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
    block.cast()
}

#[cold]
#[inline(never)]
fn malloc_slow(size: usize) -> *mut c_void {
    answer(alloc(size))
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
    // SAFETY: a new block of at least so many bytes.
    unsafe { clear(block, bytes) };
    block.cast()
}

#[cold]
#[inline(never)]
fn calloc_slow(bytes: usize) -> *mut c_void {
    let Some(class) = Class::of_size(bytes) else { return answer(alloc_large(bytes, Fill::Zero)) };
    let block = alloc_small(class);
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
    // SAFETY: passed on.
    if !unsafe { thread::dealloc_cached::<ForC>(block) } {
        // SAFETY: passed on.
        unsafe { free_slow(block) };
    }
}

/// `realloc`: the block with another size, perhaps elsewhere, as much of its contents as fits kept.
/// With a null `block` it is [`malloc`]; with a size of 0 it frees the block and returns null.
///
/// # Errors
///
/// Null and `ENOMEM`; the block is unchanged then. A block never fails to become smaller.
///
/// # Safety
///
/// - `block` is null or a live block of this heap. Unless null is returned for a size other than 0,
///   it is given up.
#[inline(always)]
pub unsafe fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    let from: *mut u8 = block.cast();
    // SAFETY: passed on.
    let kind = unsafe { thread::kind_in_window::<ForC>(from) };
    let Some(kind) = kind else {
        // SAFETY: passed on.
        return unsafe { realloc_slow(block, size) };
    };
    let have = class::block_bytes(kind);
    if have == 0 || size == 0 {
        // SAFETY: passed on.
        return unsafe { realloc_slow(block, size) };
    }
    if fits(size, have) {
        return block;
    }
    let to = thread::alloc_cached_of_size::<ForC>(size);
    if to.is_null() {
        // SAFETY: passed on.
        return unsafe { realloc_slow(block, size) };
    }
    let bytes = have.min(size);
    if bytes > grains::FEW_BYTES {
        // SAFETY: both have so many bytes, a new block overlaps no live one, and the caller gives the
        // old one up.
        return unsafe { move_to(from, to, bytes) };
    }
    // SAFETY: as above, and they are as few bytes as that asks for.
    unsafe { grains::copy_few(from, to, bytes) };
    // SAFETY: the caller gives it up.
    if !unsafe { thread::dealloc_cached_of_kind::<ForC>(from, kind) } {
        // SAFETY: as above.
        return unsafe { give_up(from, to) };
    }
    to.cast()
}

/// Whether a block stays that becomes a little smaller, or not larger than it is: moving it would save
/// nothing much.
#[inline(always)]
const fn fits(size: usize, have: usize) -> bool {
    have.wrapping_sub(size) <= have / 2
}

/// Moves the contents of a block to a new one. Returns that one.
///
/// # Safety
///
/// - Both are live blocks of at least `bytes` bytes, not the same, and nobody else uses them. The
///   first is given up.
#[inline(never)]
unsafe fn move_to(from: *mut u8, to: *mut u8, bytes: usize) -> *mut c_void {
    // SAFETY: by the caller's promise.
    unsafe { ptr::copy_nonoverlapping(from, to, bytes) };
    // SAFETY: passed on.
    unsafe { free(from.cast()) };
    to.cast()
}

/// Frees a block that no cache takes at once, and returns another one: as the last call of all it
/// needs no stack frame.
///
/// # Safety
///
/// - The first one is a live block that is given up.
#[cold]
#[inline(never)]
unsafe fn give_up(block: *mut u8, instead: *mut u8) -> *mut c_void {
    // SAFETY: passed on.
    unsafe { free_slow(block) };
    instead.cast()
}

/// [`realloc`] of what is not moved from one cache's block to another's.
///
/// # Safety
///
/// As for [`realloc`].
#[cold]
#[inline(never)]
unsafe fn realloc_slow(block: *mut c_void, size: usize) -> *mut c_void {
    let Some(known) = NonNull::new(block.cast::<u8>()) else { return malloc(size) };
    if size == 0 {
        // SAFETY: passed on.
        unsafe { free(block) };
        return ptr::null_mut();
    }
    // SAFETY: passed on.
    answer(unsafe { resize(known, size) })
}

/// `reallocarray`: [`realloc`] to `count` elements of `size` bytes.
///
/// # Errors
///
/// Null and `ENOMEM`, also when the product overflows; the block is unchanged then.
///
/// # Safety
///
/// As for [`realloc`], with the product as the size.
#[inline(always)]
pub unsafe fn reallocarray(block: *mut c_void, count: usize, size: usize) -> *mut c_void {
    let Some(bytes) = count.checked_mul(size) else { return refuse(libc::ENOMEM) };
    // SAFETY: passed on.
    unsafe { realloc(block, bytes) }
}

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

/// `malloc_usable_size`: the bytes that a block really has, all of which may be used; 0 for null.
///
/// # Safety
///
/// - `block` is null or a live block of this heap.
#[inline(always)]
#[must_use]
pub unsafe fn malloc_usable_size(block: *mut c_void) -> usize {
    // SAFETY: passed on.
    let kind = unsafe { thread::kind_in_window::<ForC>(block.cast()) };
    match kind.map_or(0, class::block_bytes) {
        0 => usable_size_slow(block.cast()),
        bytes => bytes,
    }
}

#[cold]
#[inline(never)]
fn usable_size_slow(block: *mut u8) -> usize {
    NonNull::new(block).map_or(0, core_alloc::usable_size)
}

/// `malloc_trim`: gives all unused memory back to the OS now. Returns 1 if there was any, else 0.
///
/// `keep` is glibc's room to leave at the top of its heap; this heap has no top, and keeps nothing.
pub fn malloc_trim(keep: usize) -> c_int {
    let _ = keep;
    thread::with_own_heap::<ForC, _>(Heap::trim);
    c_int::from(decay::purge(true) != 0)
}

/// Hands the blocks in the calling thread's caches back to where they lie, at the end of a program: one
/// that was freed twice is found then, if it was not before.
pub fn hand_back() {
    thread::with_own_heap::<ForC, _>(Heap::retire);
}

/// What a C program gets: the block, or null and `ENOMEM`.
#[inline(always)]
fn answer(block: *mut u8) -> *mut c_void {
    if block.is_null() {
        return refuse(libc::ENOMEM);
    }
    block.cast()
}

/// `mallinfo2`: what the heap holds, in the terms of glibc's, as far as they mean something here.
/// `uordblks` is the bytes of live blocks without the huge ones, which are `hblkhd`, and `fordblks`
/// what is free beside them. Where other threads are at work it is a guess.
///
/// It looks at every page, so it takes time in proportion to the heap.
#[must_use]
pub fn mallinfo2() -> libc::mallinfo2 {
    let stats = stats::read();
    let arena = stats.page_bytes + stats.large_bytes;
    let live = (stats.live_bytes() - stats.huge_bytes).min(arena);
    libc::mallinfo2 {
        arena,
        ordblks: stats.pages + stats.large_blocks,
        smblks: 0,
        hblks: stats.huge_blocks,
        hblkhd: stats.huge_bytes,
        usmblks: 0,
        fsmblks: 0,
        uordblks: live,
        fordblks: arena - live,
        keepcost: 0,
    }
}

/// `mallinfo`: [`mallinfo2`], as far as its numbers fit in an `int`.
#[must_use]
pub fn mallinfo() -> libc::mallinfo {
    let wide = mallinfo2();
    let narrow = |number| c_int::try_from(number).unwrap_or(c_int::MAX);
    libc::mallinfo {
        arena: narrow(wide.arena),
        ordblks: narrow(wide.ordblks),
        smblks: narrow(wide.smblks),
        hblks: narrow(wide.hblks),
        hblkhd: narrow(wide.hblkhd),
        usmblks: narrow(wide.usmblks),
        fsmblks: narrow(wide.fsmblks),
        uordblks: narrow(wide.uordblks),
        fordblks: narrow(wide.fordblks),
        keepcost: narrow(wide.keepcost),
    }
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
        .map_or(ptr::null_mut(), |layout| large::alloc(layout, fill))
}

/// A large block in place of one that has to grow.
fn alloc_growing(size: usize) -> *mut u8 {
    Layout::from_size_align(size, ALIGN).map_or(ptr::null_mut(), large::alloc_growing)
}

/// A block aligned to a power of two, or null.
fn alloc_aligned(align: usize, size: usize) -> *mut u8 {
    let Ok(layout) = Layout::from_size_align(size.max(1), align) else { return ptr::null_mut() };
    match Class::of(layout) {
        Some(class) => thread::alloc::<ForC>(class),
        None => large::alloc(layout, Fill::Any),
    }
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
    // SAFETY: a block that lies in no page came from `large::alloc`, or the process is ended there;
    // by the caller's promise it is live and given up.
    unsafe { large::dealloc(block) };
}

/// Resizes a block in place, or moves it. Null, with the block unchanged, when memory is out.
///
/// # Safety
///
/// As for [`realloc`]; `size` is not 0.
unsafe fn resize(block: NonNull<u8>, size: usize) -> *mut u8 {
    let have = match arena::class_of(block.as_ptr()) {
        Some(class) => {
            let have = class.size();
            if fits(size, have) {
                return block.as_ptr();
            }
            have
        }
        None => {
            if Class::of_size(size).is_none() {
                // SAFETY: a block that lies in no page came from `large`, or the process is ended
                // there; by the caller's promise it is live, and the caller alone uses it. What it
                // was aligned to beyond a slice it may lose, as with glibc.
                let resized = unsafe { large::resize(block, ALIGN, size) };
                if !resized.is_null() {
                    return resized;
                }
            }
            core_alloc::usable_size(block)
        }
    };
    let moved = if size > have && Class::of_size(size).is_none() {
        alloc_growing(size)
    } else {
        alloc(size)
    };
    if moved.is_null() {
        return if size <= have { block.as_ptr() } else { moved };
    }
    // SAFETY: both blocks have so many bytes, and a new block overlaps no live one.
    unsafe { ptr::copy_nonoverlapping(block.as_ptr(), moved, have.min(size)) };
    // SAFETY: the caller gives the old block up.
    unsafe { free(block.as_ptr().cast()) };
    moved
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
