//! Telling valgrind of blocks, with the feature `valgrind`: to its tools a block of this heap is
//! then what a block of `malloc` is. memcheck finds reads and writes before, behind and after a
//! block's life, uses of what was never written, frees of what is none, and leaks.
//!
//! A request is a sequence of instructions that does nothing, and that valgrind looks for in the
//! code that it translates: see `valgrind.h`, "client requests". So a program with this feature runs
//! without valgrind too; it costs a few instructions for each request. The tool is told what the
//! program asked for, not what the block has.

use core::arch::asm;

/// Whether valgrind is told.
pub(crate) const IS_TOLD: bool = true;

/// valgrind's numbers of requests (`valgrind.h`, and `memcheck.h` for the last three).
const MALLOCLIKE_BLOCK: usize = 0x1301;
const FREELIKE_BLOCK: usize = 0x1302;
const RESIZEINPLACE_BLOCK: usize = 0x130b;
const CHANGE_ERR_DISABLEMENT: usize = 0x1801;
const MAKE_MEM_NOACCESS: usize = 0x4d43_0000;
const MAKE_MEM_UNDEFINED: usize = 0x4d43_0001;
const CHECK_MEM_IS_ADDRESSABLE: usize = 0x4d43_0004;

/// A block was handed out, of which nothing was written yet; null is none.
pub(crate) fn allocated(block: *mut u8, bytes: usize) {
    announce(block, bytes, false);
}

/// A block of zeros was handed out.
pub(crate) fn cleared(block: *mut u8, bytes: usize) {
    announce(block, bytes, true);
}

fn announce(block: *mut u8, bytes: usize, is_written: bool) {
    if !block.is_null() {
        request([MALLOCLIKE_BLOCK, block.expose_provenance(), bytes, 0, is_written.into(), 0]);
    }
}

/// A block was resized without a copy, and moved by its pages perhaps.
pub(crate) fn resized(block: *mut u8, to: *mut u8, old_bytes: usize, bytes: usize) {
    if block == to {
        request([RESIZEINPLACE_BLOCK, block.expose_provenance(), old_bytes, bytes, 0, 0]);
    } else {
        freed(block);
        // What was written of it is not known here; all of it counts as written.
        cleared(to, bytes);
    }
}

/// A block is given up; null is none. To be said before another thread can be given it.
pub(crate) fn freed(block: *mut u8) {
    if !block.is_null() {
        request([FREELIKE_BLOCK, block.expose_provenance(), 0, 0, 0, 0]);
    }
}

/// The bytes of a live block that the program asked for, as far as the tool was told; all that it `has`
/// where no tool is at work.
pub(crate) fn requested(block: *mut u8, has: usize) -> usize {
    let address = block.expose_provenance();
    request([CHANGE_ERR_DISABLEMENT, 1, 0, 0, 0, 0]);
    let end = request([CHECK_MEM_IS_ADDRESSABLE, address, has, 0, 0, 0]);
    request([CHANGE_ERR_DISABLEMENT, 1usize.wrapping_neg(), 0, 0, 0, 0]);
    if end == 0 { has } else { end.wrapping_sub(address) }
}

/// Memory that blocks will lie in: nobody's until then.
pub(crate) fn closed(start: *mut u8, bytes: usize) {
    request([MAKE_MEM_NOACCESS, start.expose_provenance(), bytes, 0, 0, 0]);
}

/// A block as it is kept in a cache, and back: it must not look like a pointer to it, or a block that
/// was cached once would never count as lost.
pub(crate) fn hide(block: *mut u8) -> *mut u8 {
    if block.is_null() { block } else { block.map_addr(|address| !address) }
}

/// The heap itself is about to write to memory that may have been a block.
pub(crate) fn opened(start: *mut u8, bytes: usize) {
    request([MAKE_MEM_UNDEFINED, start.expose_provenance(), bytes, 0, 0, 0]);
}

/// Makes a request and returns the answer, which is 0 without valgrind.
#[cfg(target_arch = "x86_64")]
fn request(arguments: [usize; 6]) -> usize {
    let mut answer = 0;
    // SAFETY: four rotations that add up to a full turn, and an exchange of a register with itself:
    // nothing is changed but the flags. valgrind reads the array and writes the answer.
    unsafe {
        asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") arguments.as_ptr(),
            inout("rdx") answer,
            options(nostack),
        );
    }
    answer
}

/// Makes a request and returns the answer, which is 0 without valgrind.
#[cfg(target_arch = "aarch64")]
fn request(arguments: [usize; 6]) -> usize {
    let mut answer = 0;
    // SAFETY: four rotations that add up to two full turns, and a register that is combined with
    // itself: nothing is changed. valgrind reads the array and writes the answer.
    unsafe {
        asm!(
            "ror x12, x12, #3",
            "ror x12, x12, #13",
            "ror x12, x12, #51",
            "ror x12, x12, #61",
            "orr x10, x10, x10",
            in("x4") arguments.as_ptr(),
            inout("x3") answer,
            options(nostack),
        );
    }
    answer
}
