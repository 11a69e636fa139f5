//! Keeping the library that the heap is part of.
//!
//! A program may load a library that has this heap, and unload it again. Threads that used the heap
//! would then end with a destructor that is no longer there, and blocks would lie in memory that
//! nothing knows of any more. So a library that has a heap stays.

use core::ffi::c_void;
use core::mem;

use crate::os;

/// Makes the library that this code is in one that `dlclose` leaves where it is. Nothing is done for
/// the program itself.
///
/// The loader is asked, as the C library does for every thread-local variable with a destructor: by
/// the first thread of all that needs a heap, once.
pub(crate) fn keep_library() {
    let here = keep_library as fn();
    // SAFETY: all zero is a valid value to be overwritten.
    let mut found: libc::Dl_info = unsafe { mem::zeroed() };
    // SAFETY: the address is only looked up; `found` is valid for writes.
    let status = unsafe { libc::dladdr(here as *const c_void, &raw mut found) };
    if status == 0 || is_program(found.dli_fbase.addr()) {
        return;
    }
    os::keeping_errno(
        || {
            let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
            // SAFETY: the loader's own name for a library that is loaded, which this code is part
            // of: nothing is loaded or run.
            unsafe { libc::dlopen(found.dli_fname, flags) }
        },
        |_| true,
    );
}

/// Whether what is loaded at this address is the program.
fn is_program(base: usize) -> bool {
    // The program's headers lie in its first OS page.
    // SAFETY: has no preconditions.
    let headers = unsafe { libc::getauxval(libc::AT_PHDR) } as usize;
    headers.wrapping_sub(base) < os::page_bytes()
}
