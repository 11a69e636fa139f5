//! The word that says which recording runs, and which generation of a ring: its values.

/// This process was forked from one that was recorded.
pub(super) const WIPED: u64 = 0;
/// Nothing is recorded.
pub(super) const STOPPED: u64 = 1;
/// A forked process is about to begin a recording of its own.
pub(super) const ADOPTING: u64 = 2;
/// The first recording's number. What is below are generations of a ring, 0 without one.
pub(super) const FIRST: u64 = 1 << 32;

/// Whether a recording runs.
pub(super) const fn is_recording(epoch: u64) -> bool {
    epoch >= FIRST
}

/// The recording, whatever its generation.
pub(super) const fn recording(epoch: u64) -> u64 {
    epoch & !(FIRST - 1)
}

pub(super) const fn generation(epoch: u64) -> u32 {
    epoch as u32
}

/// What a slot has in place of its epoch where its thread has something to write before its next event:
/// of the same recording, and of a generation that never comes.
#[cfg(feature = "span-layer")]
pub(super) const fn outdated(epoch: u64) -> u64 {
    if is_recording(epoch) { with_generation(epoch, u32::MAX) } else { epoch }
}

pub(super) const fn with_generation(epoch: u64, generation: u32) -> u64 {
    recording(epoch) | generation as u64
}
