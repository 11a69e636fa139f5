//! In place of snapshots where the feature for them is off: none is taken.

use alloc_trace_format::SnapshotReason;

use super::chunk_writer::ChunkWriter;
use super::log::Log;
use super::sys::Errno;

#[derive(Debug)]
pub(super) struct HeapSnapshots;

impl HeapSnapshots {
    pub(super) const fn new() -> Self {
        Self
    }

    pub(super) const fn begin(&self, _resident_bytes: u64) {}

    pub(super) const fn is_peak(&self, _resident_bytes: u64) -> bool {
        false
    }

    pub(super) const fn owe(&self) {}

    pub(super) const fn is_owed(&self) -> bool {
        false
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the other one can fail")]
pub(super) const fn take(
    _writer: &mut ChunkWriter,
    _log: &Log,
    _reason: SnapshotReason,
) -> Result<(), Errno> {
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "the other one can fail")]
pub(super) const fn take_in_room(
    _writer: &mut ChunkWriter,
    _log: &Log,
    _reason: SnapshotReason,
) -> Result<bool, Errno> {
    Ok(true)
}

pub(super) fn handle(_signal: std::ffi::c_int) {
    super::sys::complain(&[b"snapshots of the heap are not built in"]);
}
