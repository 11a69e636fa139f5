//! The one word that the allocator looks at before each request: whether anybody wants to know.

use std::sync::atomic::{AtomicU32, Ordering};

/// Nobody does.
pub(crate) const OFF: u32 = 0;
/// A recording runs.
pub(crate) const RECORDING: u32 = 1;
/// The environment has not been asked yet.
const UNDECIDED: u32 = 2;
/// The others count the measurements under way.
const MEASURING: u32 = 4;

static MODE: AtomicU32 = AtomicU32::new(UNDECIDED);

/// The word as it is.
#[inline(always)]
pub(crate) fn load() -> u32 {
    // Relaxed: what a recording needs is published with its epoch, and a measurement is begun by
    // the thread that is measured.
    MODE.load(Ordering::Relaxed)
}

/// Whether this is the process's first request and it falls to the caller to ask the environment.
#[inline]
pub(crate) fn must_decide(mode: u32) -> bool {
    mode & UNDECIDED != 0 && MODE.fetch_and(!UNDECIDED, Ordering::Relaxed) & UNDECIDED != 0
}

/// Whether `mode` has a recording.
#[inline]
pub(crate) const fn records(mode: u32) -> bool {
    mode & RECORDING != 0
}

/// Whether `mode` has a measurement.
#[inline]
pub(crate) const fn measures(mode: u32) -> bool {
    mode >= MEASURING
}

/// Whether a recording runs.
#[inline]
pub(crate) fn is_recording() -> bool {
    records(load())
}

/// A recording runs from now on.
#[cfg_attr(alloc_trace_passthrough, expect(dead_code, reason = "nothing is recorded"))]
pub(crate) fn begin_recording() {
    MODE.fetch_or(RECORDING, Ordering::Release);
}

/// No recording runs from now on.
#[cfg_attr(alloc_trace_passthrough, expect(dead_code, reason = "nothing is recorded"))]
pub(crate) fn end_recording() {
    MODE.fetch_and(!RECORDING, Ordering::Relaxed);
}

/// One more measurement is under way.
pub(crate) fn begin_measurement() {
    MODE.fetch_add(MEASURING, Ordering::Relaxed);
}

/// One measurement is over.
pub(crate) fn end_measurement() {
    MODE.fetch_sub(MEASURING, Ordering::Relaxed);
}
