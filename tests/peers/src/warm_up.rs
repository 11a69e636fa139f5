//! Makes the machine the same before each measured run.

use std::io;
use std::process::Command;
use std::ptr;

/// Memory that is touched as OS pages, and as huge pages.
///
/// The kernel keeps the two apart: what was released as OS pages is seldom handed out as a huge page.
/// With OS pages alone, an allocator that uses huge pages took four times as long in every third run.
const ORDINARY_BYTES: usize = 768 << 20;
const HUGE_BYTES: usize = 512 << 20;

/// Touches memory and releases it.
///
/// A virtual machine may hand idle memory back to its host; whoever touches memory first after that
/// pays many times a page fault's usual cost. This pays for it, outside of what is measured.
pub fn touch_and_release() {
    let ordinary = touched(ORDINARY_BYTES, libc::MADV_NOHUGEPAGE);
    let huge = touched(HUGE_BYTES, libc::MADV_HUGEPAGE);
    for (memory, bytes) in [(ordinary, ORDINARY_BYTES), (huge, HUGE_BYTES)] {
        if memory != libc::MAP_FAILED {
            // SAFETY: mapped above, and nothing points into it.
            unsafe { libc::munmap(memory, bytes) };
        }
    }
}

/// A new mapping of so many bytes, written from end to end, or `MAP_FAILED`; of which the kernel has this
/// advice.
fn touched(bytes: usize, advice: libc::c_int) -> *mut libc::c_void {
    // SAFETY: a new anonymous mapping, of which nothing is asked but that it be fresh.
    let memory = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if memory != libc::MAP_FAILED {
        // A kernel without huge pages refuses the advice, and has nothing to warm up then.
        // SAFETY: advice about the mapping above changes nothing that is in it.
        unsafe { libc::madvise(memory, bytes, advice) };
        // SAFETY: the mapping is readable, writable and nobody else's.
        unsafe { ptr::write_bytes(memory.cast::<u8>(), 1, bytes) };
    }
    memory
}

/// The same in a process of its own: the running program once more, with the argument `warm-up`.
///
/// The kernel counts what a process had before it executes another program as that program's peak, so
/// that whoever measures children from outside must never have had much.
///
/// # Errors
///
/// If that process fails.
pub fn apart() -> io::Result<()> {
    let status = Command::new(std::env::current_exe()?).arg("warm-up").status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("no memory to warm up with")) }
}
