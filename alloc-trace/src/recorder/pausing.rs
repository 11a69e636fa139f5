//! A recording that is set up and does not record: from its beginning, by the program, or by a
//! signal.
//!
//! While it is paused the allocator's mode says that nobody wants to know, so a request costs what it
//! costs without a recording. What was allocated meanwhile is not known, and its frees are
//! unmatched: markers tell where.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::Ordering;

use super::session::ACTIVE;
use super::sys::{self, PreserveErrno};
use super::{RECORDER, THREAD};
use crate::mode;

/// The texts of the markers.
const PAUSED: &str = "alloc-trace: paused";
const RESUMED: &str = "alloc-trace: resumed";

/// Pauses the recording that runs; whether one did.
pub(crate) fn pause() -> bool {
    let runs = is_active() && mode::is_recording();
    if runs {
        mark(PAUSED);
        mode::end_recording();
    }
    runs
}

/// Goes on with a recording that is paused; whether there is one.
pub(crate) fn resume() -> bool {
    let paused = is_active() && !mode::is_recording();
    if paused {
        mode::begin_recording();
        mark(RESUMED);
        if !is_active() {
            // It was stopped meanwhile.
            mode::end_recording();
        }
    }
    paused
}

fn is_active() -> bool {
    RECORDER.state.load(Ordering::Acquire) == ACTIVE
}

/// Writes a marker, unless this is a signal handler that interrupted the recorder.
fn mark(text: &str) {
    let busy = THREAD.with(|thread| {
        // SAFETY: a thread's pointer is null or leads to a slot, and slots are never given back.
        let slot = unsafe { thread.slot.get().as_ref() };
        slot.is_some_and(|slot| slot.busy.load(Ordering::Relaxed))
    });
    if !busy {
        super::mark(text);
    }
}

/// Lets a signal pause the recording and go on with it, in turn. One that the program handles already
/// is left alone.
pub(super) fn handle(signal: c_int) {
    // SAFETY: all zero is an action: the default one, without flags.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut present = action;
    // SAFETY: the call only writes the present action.
    unsafe { libc::sigaction(signal, ptr::null(), &raw mut present) };
    let ours = toggle as *const () as usize;
    if present.sa_sigaction == ours {
        return;
    }
    action.sa_sigaction = ours;
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    let free = present.sa_sigaction == libc::SIG_DFL;
    // SAFETY: the action is live, and the handler asks nothing that a handler may not.
    if !free || unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } != 0 {
        sys::complain(&[
            b"the signal that was asked for is in use and does not pause the recording",
        ]);
    }
}

extern "C" fn toggle(_signal: c_int) {
    let _errno = PreserveErrno::new();
    if !pause() {
        resume();
    }
}
