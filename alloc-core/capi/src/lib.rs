//! The C `malloc` family and C++'s operators `new` and `delete` over the heap of `alloc-core`, for
//! `LD_PRELOAD`.
//!
//! Only names are here, but for `ids`: what the functions do is told and done by [`alloc_core::c`]. Every name is
//! here under which the C library hands out or takes back a block, so that no block of one heap
//! meets the `free` of the other. What describes glibc's own heap (`mallopt`, `malloc_stats`,
//! `malloc_info`) stays glibc's, and finds that heap empty.
//!
//! Nothing here unwinds. The functions are `"C-unwind"` all the same: `"C"` would put a guard around
//! every call that the compiler cannot see through, and with it a stack frame on the fast path.
//!
//! The library is for loading, not for linking: whatever it were linked into would get this heap.

use core::ffi::{CStr, c_int, c_void};

use alloc_core::{CoreAlloc, c};

mod ids;
mod operators;

/// Sets the heap up when the library is loaded, if nobody has asked for a block by then: a program may
/// begin with limiting its address space to what it has. What the environment says of the heap is
/// taken from here on.
#[used]
#[unsafe(link_section = ".init_array")]
static SET_UP: extern "C-unwind" fn() = set_up;

extern "C-unwind" fn set_up() {
    // SAFETY: the name is a string, and nobody changes the environment while libraries are loaded.
    let value = unsafe { libc::getenv(c"ALLOC_CORE_PURGE_IN_BACKGROUND".as_ptr()) };
    // SAFETY: a value of the environment is a string.
    if !value.is_null() && unsafe { CStr::from_ptr(value) } == c"off" {
        CoreAlloc::new().purge_in_background(false);
    }
    // SAFETY: a new block, used by nobody.
    unsafe { c::free(c::malloc(1)) };
}

/// Has a last look at what was freed when the program exits, after its own destructors.
#[used]
#[unsafe(link_section = ".fini_array")]
static LOOK_BACK: extern "C-unwind" fn() = look_back;

extern "C-unwind" fn look_back() {
    c::hand_back();
}

/// Exports a function of [`alloc_core::c`] under a C name.
macro_rules! export {
    (fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty = $function:path) => {
        #[unsafe(no_mangle)]
        extern "C-unwind" fn $name($($argument: $type),*) -> $result {
            $function($($argument),*)
        }
    };
    (unsafe fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty = $function:path) => {
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name($($argument: $type),*) -> $result {
            // SAFETY: passed on to the C program.
            unsafe { $function($($argument),*) }
        }
    };
}

export!(fn malloc(size: usize) -> *mut c_void = c::malloc);
export!(fn calloc(count: usize, size: usize) -> *mut c_void = c::calloc);
export!(unsafe fn realloc(block: *mut c_void, size: usize) -> *mut c_void = c::realloc);
export!(unsafe fn reallocarray(block: *mut c_void, count: usize, size: usize) -> *mut c_void = c::reallocarray);
export!(unsafe fn free(block: *mut c_void) -> () = c::free);
export!(fn memalign(align: usize, size: usize) -> *mut c_void = c::memalign);
export!(fn aligned_alloc(align: usize, size: usize) -> *mut c_void = c::aligned_alloc);
export!(unsafe fn posix_memalign(result: *mut *mut c_void, align: usize, size: usize) -> c_int = c::posix_memalign);
export!(fn valloc(size: usize) -> *mut c_void = c::valloc);
export!(fn pvalloc(size: usize) -> *mut c_void = c::pvalloc);
export!(unsafe fn malloc_usable_size(block: *mut c_void) -> usize = c::malloc_usable_size);
export!(fn mallinfo() -> libc::mallinfo = c::mallinfo);
export!(fn mallinfo2() -> libc::mallinfo2 = c::mallinfo2);
export!(fn malloc_trim(keep: usize) -> c_int = c::malloc_trim);

// C23. The sizes are not believed: a program that passes a wrong one runs well with glibc.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn free_sized(block: *mut c_void, _size: usize) {
    // SAFETY: passed on to the C program.
    unsafe { c::free(block) };
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn free_aligned_sized(block: *mut c_void, _align: usize, _size: usize) {
    // SAFETY: passed on to the C program.
    unsafe { c::free(block) };
}

// Before C had settled on names, for programs linked long ago.
export!(unsafe fn cfree(block: *mut c_void) -> () = c::free);

// glibc's own names for them, which it exports to programs with a `malloc` of their own.
export!(fn __libc_malloc(size: usize) -> *mut c_void = c::malloc);
export!(fn __libc_calloc(count: usize, size: usize) -> *mut c_void = c::calloc);
export!(unsafe fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void = c::realloc);
export!(unsafe fn __libc_free(block: *mut c_void) -> () = c::free);
export!(fn __libc_memalign(align: usize, size: usize) -> *mut c_void = c::memalign);
export!(fn __libc_valloc(size: usize) -> *mut c_void = c::valloc);
export!(fn __libc_pvalloc(size: usize) -> *mut c_void = c::pvalloc);
export!(unsafe fn __posix_memalign(result: *mut *mut c_void, align: usize, size: usize) -> c_int = c::posix_memalign);
