//! Keeping the library that the recorder is part of.
//!
//! A program may load a library that has this recorder, and unload it again. The threads that were recorded would then
//! end with a destructor that is no longer there, and signals come to handlers that are not. So a library that has made a
//! recording stays. The heap of `alloc-core` does the same for itself; a recorder can be over any other.

use std::ffi::c_void;
use std::mem;

use super::sys;

/// Makes the library that this code is in one that `dlclose` leaves where it is. Nothing is done for the program itself.
///
/// The loader is asked, which may wait for its lock and asks the C library for memory: only to be called by set-up. It
/// may change `errno`.
pub(super) fn keep_library() {
    let here = keep_library as fn();
    // SAFETY: all zero is a valid value to be overwritten.
    let mut found: libc::Dl_info = unsafe { mem::zeroed() };
    // SAFETY: the address is only looked up; `found` is valid for writes.
    let status = unsafe { libc::dladdr(here as *const c_void, &raw mut found) };
    if status == 0 || is_program(found.dli_fbase.addr()) {
        return;
    }
    let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
    // SAFETY: the loader's own name for a library that is loaded, which this code is part of: nothing is loaded or run.
    unsafe { libc::dlopen(found.dli_fname, flags) };
}

/// Whether what is loaded at this address is the program.
fn is_program(base: usize) -> bool {
    // The program's headers lie in its first OS page.
    // SAFETY: has no preconditions.
    let headers = unsafe { libc::getauxval(libc::AT_PHDR) } as usize;
    headers.wrapping_sub(base) < sys::os_page_bytes()
}
