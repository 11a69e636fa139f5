//! Makes the machine the same before each measured run.

use std::io;
use std::process::Command;
use std::ptr;

/// Memory that is touched.
const BYTES: usize = 768 << 20;

/// Touches memory and releases it.
///
/// A virtual machine may hand idle memory back to its host; whoever touches memory first after that
/// pays many times a page fault's usual cost. This pays for it, outside of what is measured.
pub fn touch_and_release() {
    // SAFETY: a new anonymous mapping, of which nothing is asked but that it be fresh.
    let memory = unsafe {
        libc::mmap(
            ptr::null_mut(),
            BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
            -1,
            0,
        )
    };
    if memory != libc::MAP_FAILED {
        // SAFETY: mapped above, and nothing points into it.
        unsafe { libc::munmap(memory, BYTES) };
    }
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
