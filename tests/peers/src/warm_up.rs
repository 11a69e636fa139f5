//! Makes the machine the same before each measured run.

use std::io;
use std::process::Command;

use crate::fresh::Memory;

/// Memory that is touched as OS pages, and as huge pages.
///
/// The kernel keeps the two apart: what was released as OS pages is seldom handed out as a huge page.
/// With OS pages alone, an allocator that uses huge pages took four times as long in every third run.
const ORDINARY_BYTES: usize = 768 << 20;

/// How much of it is huge pages, where nothing takes more.
pub const HUGE_BYTES: usize = 256 << 20;

/// Touches memory and releases it.
///
/// A virtual machine may hand idle memory back to its host; whoever touches memory first after that
/// pays many times a page fault's usual cost. This pays for it, outside of what is measured.
pub fn touch_and_release() {
    touch_and_release_huge(HUGE_BYTES);
}

/// The same, with so many bytes of huge pages: for what takes more of them than the usual.
pub fn touch_and_release_huge(huge_bytes: usize) {
    // All is touched before any is released. Where there is not that much, less is warm.
    let _touched = [(ORDINARY_BYTES, false), (huge_bytes, true)].map(|(bytes, huge_pages)| {
        let mut memory = Memory::new(bytes)?;
        memory.huge_pages(huge_pages);
        memory.bytes().fill(1);
        Some(memory)
    });
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
