//! `realloc` and `reallocarray`: a block that stays, one that moves from one cache's block to another's,
//! and the rest.

use core::alloc::Layout;
use core::ffi::c_void;
use core::ptr::{self, NonNull};

use super::{ALIGN, alloc, answer, free, free_slow, malloc, refuse, requested};
use crate::class::Class;
use crate::place::ForC;
use crate::{arena, core_alloc, grains, large, thread, tool, window};

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
    if tool::IS_TOLD {
        // SAFETY: passed on.
        return unsafe { realloc_slow(block, size) };
    }
    let from: *mut u8 = block.cast();
    // SAFETY: passed on.
    let kind = unsafe { thread::kind_in_window::<ForC>(from) };
    let Some(kind) = kind else {
        // SAFETY: passed on.
        return unsafe { realloc_slow(block, size) };
    };
    let have = window::block_bytes(kind);
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
                let before = requested(block, have);
                tool::resized(block.as_ptr(), block.as_ptr(), before, size);
                return block.as_ptr();
            }
            have
        }
        None => {
            if Class::of_size(size).is_none() {
                let before = requested(block, 0);
                // SAFETY: a block that lies in no page came from `large`, or the process is ended
                // there; by the caller's promise it is live, and the caller alone uses it. What it
                // was aligned to beyond a slice it may lose, as with glibc.
                let resized = unsafe { large::resize(block, ALIGN, size) };
                if !resized.is_null() {
                    tool::resized(block.as_ptr(), resized, before, size);
                    return resized;
                }
            }
            core_alloc::usable_size(block)
        }
    };
    let before = requested(block, have);
    let moved = if size > have && Class::of_size(size).is_none() {
        alloc_growing(size)
    } else {
        alloc(size)
    };
    if moved.is_null() {
        if size > have {
            return moved;
        }
        tool::resized(block.as_ptr(), block.as_ptr(), before, size);
        return block.as_ptr();
    }
    tool::allocated(moved, size);
    // SAFETY: both blocks have so many bytes, and a new block overlaps no live one.
    unsafe { ptr::copy_nonoverlapping(block.as_ptr(), moved, before.min(size)) };
    // SAFETY: the caller gives the old block up.
    unsafe { free(block.as_ptr().cast()) };
    moved
}

/// A large block in place of one that has to grow.
fn alloc_growing(size: usize) -> *mut u8 {
    Layout::from_size_align(size, ALIGN).map_or(ptr::null_mut(), large::alloc_growing::<ForC>)
}
