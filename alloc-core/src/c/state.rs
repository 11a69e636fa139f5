//! What a block really has, what the heap holds, and giving back what it does not need.

use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

use super::requested;
use crate::heap::Heap;
use crate::place::ForC;
use crate::{core_alloc, decay, stats, thread, tool, window};

/// `malloc_usable_size`: the bytes that a block really has, all of which may be used; 0 for null.
///
/// # Safety
///
/// - `block` is null or a live block of this heap.
#[inline(always)]
#[must_use]
pub unsafe fn malloc_usable_size(block: *mut c_void) -> usize {
    // SAFETY: by the caller's promise; nothing of the heap's lies where null does.
    let kind = unsafe { window::kind_byte(window::index(block.cast())) };
    let bytes = match kind.map_or(0, window::block_bytes) {
        0 => usable_size_slow(block.cast()),
        bytes => bytes,
    };
    if tool::IS_TOLD {
        return NonNull::new(block.cast()).map_or(0, |block| requested(block, bytes));
    }
    bytes
}

#[cold]
#[inline(never)]
fn usable_size_slow(block: *mut u8) -> usize {
    NonNull::new(block).map_or(0, core_alloc::usable_size)
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
