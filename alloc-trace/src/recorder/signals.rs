//! Signals by which somebody outside of the process tells the recorder something.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;

use super::{RECORDER, sys};

/// What is done when a signal arrives: on any thread, in the middle of anything.
pub(super) type Handler = extern "C" fn(c_int);

/// Has a signal handled. One that the program handles already is left alone, and somebody told that it
/// does not do what was asked for: `purpose`, as in "does not …".
pub(super) fn handle(signal: c_int, handler: Handler, purpose: &[u8]) {
    // SAFETY: all zero is an action: the default one, without flags.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut present = action;
    // SAFETY: the call only writes the present action.
    unsafe { libc::sigaction(signal, ptr::null(), &raw mut present) };
    let ours = handler as *const () as usize;
    if present.sa_sigaction == ours {
        return;
    }
    action.sa_sigaction = ours;
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    let free = present.sa_sigaction == libc::SIG_DFL;
    // SAFETY: the action is live, and the handlers ask nothing that a handler may not.
    if !free || unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } != 0 {
        sys::complain(&[b"a signal that was asked for is in use, and does not ", purpose]);
    }
}

/// Does what a handler is there for on a stack that is large enough: the one that the handler has can be of
/// 8 KiB, and what it does can be the first that a thread, or a forked child, tells the recorder.
pub(super) fn with_room(work: impl Fn()) {
    if RECORDER.log.in_room(&work).is_none() {
        work();
    }
}
