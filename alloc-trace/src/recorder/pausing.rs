//! A recording that is set up and does not record: from its beginning, by the program, or by a
//! signal.
//!
//! While it is paused the allocator's mode says that nobody wants to know, so a request costs what it
//! costs without a recording. What was allocated meanwhile is not known, and its frees are
//! unmatched: markers tell where.

use std::ffi::c_int;
use std::sync::atomic::Ordering;

use super::session::ACTIVE;
use super::sys::PreserveErrno;
use super::{RECORDER, signals};
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
    if !super::interruptions::is_interrupted() {
        super::mark(text);
    }
}

/// Lets a signal pause the recording and go on with it, in turn.
pub(super) fn handle(signal: c_int) {
    signals::handle(signal, toggle, b"pause the recording");
}

extern "C" fn toggle(_signal: c_int) {
    let _errno = PreserveErrno::new();
    signals::with_room(|| {
        if !pause() {
            resume();
        }
    });
}
