//! C++'s operators `new` and `delete`, by their names in the Itanium C++ ABI.
//!
//! There are twenty forms of them, and a program may replace any. The standard says what the others
//! do then: the forms for arrays, with a size, and with `std::nothrow` go through the plain ones,
//! replaced or not, and only `new` and `delete`, without and with an alignment, allocate and free
//! ([new.delete]). So these four are here, and the C++ runtime's other sixteen come here by
//! themselves, or to the program's own. A library that answers all twenty frees blocks that never
//! were its own as soon as a program replaces only some.
//!
//! Where memory is out, `new` has to call the program's new-handler, again and again, and to throw:
//! that only a C++ runtime can. So the request is passed on to the runtime's function of the same
//! name, which does just that around `malloc`, and so comes back here.
//!
//! [new.delete]: https://eel.is/c++draft/new.delete

use core::ffi::{CStr, c_void};
use core::mem;

use alloc_core::c;

/// `operator new(std::size_t)`.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn _Znwm(size: usize) -> *mut c_void {
    let block = c::malloc(size);
    if block.is_null() {
        // SAFETY: passed on to the C++ program.
        return unsafe { new_by_runtime(size) };
    }
    block
}

/// `operator new(std::size_t, std::align_val_t)`.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn _ZnwmSt11align_val_t(size: usize, align: usize) -> *mut c_void {
    if align.is_power_of_two() {
        let block = c::memalign(align, size);
        if !block.is_null() {
            return block;
        }
    }
    // SAFETY: passed on to the C++ program.
    unsafe { new_aligned_by_runtime(size, align) }
}

/// `operator delete(void*)`.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn _ZdlPv(block: *mut c_void) {
    // SAFETY: passed on to the C++ program.
    unsafe { c::free(block) };
}

/// `operator delete(void*, std::align_val_t)`.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn _ZdlPvSt11align_val_t(block: *mut c_void, _align: usize) {
    // SAFETY: passed on to the C++ program.
    unsafe { c::free(block) };
}

/// The C++ runtime's `operator new`, for when there is no memory.
///
/// # Safety
///
/// - The caller is C++ code, which lets an exception through.
#[cold]
#[inline(never)]
unsafe fn new_by_runtime(size: usize) -> *mut c_void {
    let found = by_runtime(c"_Znwm");
    // SAFETY: what has this name in a C++ runtime is a function of this type.
    let new: unsafe extern "C-unwind" fn(usize) -> *mut c_void = unsafe { mem::transmute(found) };
    // SAFETY: it may be called with any size; it throws only through the caller's C++ code, and no
    // frame in between has anything to clean up.
    unsafe { new(size) }
}

/// The C++ runtime's `operator new` with an alignment.
///
/// # Safety
///
/// As for [`new_by_runtime`].
#[cold]
#[inline(never)]
unsafe fn new_aligned_by_runtime(size: usize, align: usize) -> *mut c_void {
    let found = by_runtime(c"_ZnwmSt11align_val_t");
    // SAFETY: what has this name in a C++ runtime is a function of this type.
    let new: unsafe extern "C-unwind" fn(usize, usize) -> *mut c_void =
        unsafe { mem::transmute(found) };
    // SAFETY: as in `new_by_runtime`, with any alignment.
    unsafe { new(size, align) }
}

/// C++ runtimes by name, for those that the program did not load for all to see: a plugin's.
const RUNTIMES: [&CStr; 3] = [c"libstdc++.so.6", c"libc++abi.so.1", c"libc++.so.1"];

/// The C++ runtime's function of this name. Ends the process if there is no runtime.
fn by_runtime(name: &CStr) -> *mut c_void {
    // SAFETY: the name is a string; the next definition behind this library's is looked for.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if !next.is_null() {
        return next;
    }
    for runtime in RUNTIMES {
        // SAFETY: the name is a string; nothing is loaded that is not there.
        let library =
            unsafe { libc::dlopen(runtime.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY) };
        if library.is_null() {
            continue;
        }
        // SAFETY: the handle was just opened, and stays so; the name is a string.
        let found = unsafe { libc::dlsym(library, name.as_ptr()) };
        if !found.is_null() {
            return found;
        }
    }
    let message = b"alloc-core: out of memory in operator new, and no C++ runtime to throw\n";
    // SAFETY: the message is valid for its length. A raw call: `write` is a cancellation point.
    unsafe {
        libc::syscall(libc::SYS_write, libc::STDERR_FILENO, message.as_ptr(), message.len());
    }
    // SAFETY: `abort` has no preconditions and does not return.
    unsafe { libc::abort() }
}
