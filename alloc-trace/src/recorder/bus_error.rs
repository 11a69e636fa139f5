//! `SIGBUS` of the recording's own window does not reach the program.
//!
//! Where somebody truncates the file while it is written, the next store to a page that is no more
//! part of it raises `SIGBUS`. The handler puts an ordinary page there, so that the store goes on,
//! and the recording ends with that reason at the next chunk. Any other `SIGBUS` is given to whoever
//! handled it before, or does what it does without us.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, siginfo_t};

use super::RECORDER;
use super::sys::PreserveErrno;

/// What handled the signal before.
struct Previous {
    installed: AtomicBool,
    action: UnsafeCell<MaybeUninit<libc::sigaction>>,
}

// SAFETY: the action is written before the handler that reads it is installed, once a process.
unsafe impl Sync for Previous {}

static PREVIOUS: Previous =
    Previous { installed: AtomicBool::new(false), action: UnsafeCell::new(MaybeUninit::uninit()) };

/// Installs the handler, once a process. Called by whoever sets a recording up.
pub(super) fn handle() {
    if PREVIOUS.installed.swap(true, Ordering::Relaxed) {
        return;
    }
    let previous = PREVIOUS.action.get().cast::<libc::sigaction>();
    // SAFETY: all zero is an action; the call only writes the present one.
    unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), previous) };
    // SAFETY: all zero is an action: the default one, without flags.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = bus_error as *const () as usize;
    // On the alternate stack where there is one: the program's may be what is broken.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    // SAFETY: the action is live, and the handler stays in memory.
    unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) };
}

unsafe extern "C" fn bus_error(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let _errno = PreserveErrno::new();
    // SAFETY: the kernel gives a whole `siginfo_t` to a handler with `SA_SIGINFO`.
    let told = unsafe { &*info };
    let code = told.si_code;
    // SAFETY: as above; of a signal that was sent the address means nothing and is not used.
    let address = unsafe { told.si_addr() };
    if code > 0 && RECORDER.log.patch(address.addr()) {
        return;
    }
    let previous = PREVIOUS.action.get().cast::<libc::sigaction>();
    // SAFETY: written before this handler was installed.
    let previous = unsafe { &*previous };
    match previous.sa_sigaction {
        libc::SIG_IGN if code <= 0 => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: as above. The program dies of it: at once where the signal was sent, else by
            // the access that is tried again.
            unsafe { libc::sigaction(libc::SIGBUS, previous, ptr::null_mut()) };
            if code <= 0 {
                // SAFETY: the call touches no memory.
                unsafe { libc::raise(signal) };
            }
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: the program installed a function of this form.
            let handler = unsafe {
                std::mem::transmute::<usize, unsafe extern "C" fn(c_int, *mut siginfo_t, *mut c_void)>(
                    handler,
                )
            };
            // SAFETY: it is given what the kernel gave.
            unsafe { handler(signal, info, context) };
        }
        handler => {
            // SAFETY: the program installed a function of this form.
            let handler =
                unsafe { std::mem::transmute::<usize, unsafe extern "C" fn(c_int)>(handler) };
            // SAFETY: it is given what the kernel gave.
            unsafe { handler(signal) };
        }
    }
}
