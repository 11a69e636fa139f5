//! The C library's functions that change the user and the groups of a process, and those that a process
//! with more than one thread is refused. While one runs, the heap has no thread: the C library does not
//! know of it, so it would stay what it was.
//!
//! Everything else is the C library's own, which is asked for at the first call.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use alloc_core::CoreAlloc;
use libc::{gid_t, uid_t};

/// A function of the libraries after this one.
struct Next {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Next {
    const fn new(name: &'static CStr) -> Self {
        Self { name, found: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Its address; null if there is none.
    fn find(&self) -> *mut c_void {
        let known = self.found.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name is a string.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

/// Exports functions of the C library that run while the heap has no thread.
macro_rules! alone {
    ($(fn $name:ident($($argument:ident: $type:ty),*);)*) => {
        $(#[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name($($argument: $type),*) -> c_int {
            static NEXT: Next = Next::new(
                match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => panic!("no name has a zero in it"),
                },
            );
            let next = NEXT.find();
            if next.is_null() {
                // SAFETY: this thread's `errno`, valid while it lives.
                unsafe { *libc::__errno_location() = libc::ENOSYS };
                return -1;
            }
            // As one that does not unwind: with nothing to clean up there is no need of an unwinder.
            // SAFETY: the C library's function of that name takes these arguments.
            let next: unsafe extern "C" fn($($type),*) -> c_int = unsafe { mem::transmute(next) };
            // SAFETY: passed on to the C program.
            CoreAlloc::new().without_background_thread(|| unsafe { next($($argument),*) })
        })*
    };
}

alone! {
    fn setuid(user: uid_t);
    fn seteuid(user: uid_t);
    fn setreuid(real: uid_t, effective: uid_t);
    fn setresuid(real: uid_t, effective: uid_t, saved: uid_t);
    fn setgid(group: gid_t);
    fn setegid(group: gid_t);
    fn setregid(real: gid_t, effective: gid_t);
    fn setresgid(real: gid_t, effective: gid_t, saved: gid_t);
    fn setgroups(count: usize, groups: *const gid_t);
    fn initgroups(user: *const c_char, group: gid_t);
    fn unshare(flags: c_int);
    fn setns(namespace: c_int, kind: c_int);
}
