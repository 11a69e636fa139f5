//! What the heap of `alloc-core` holds, written now and then: at a recording's beginning and end, when
//! the process has become larger, when the program asks, and when somebody does by a signal.
//!
//! There is one such heap in a process, so it does not matter how it is wrapped; where it holds
//! nothing, the program has another allocator and nothing is written. The figures are read without a
//! lock and without stopping anybody, in time that grows with the number of the heap's pages. So that
//! a peak costs nothing at each event, it is looked for when a chunk is full and the resident memory
//! was asked for anyway: a snapshot is taken where that is a tenth more than at any snapshot before.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alloc_core::{ClassStats, CoreAlloc};
use alloc_trace_format::{ClassFigures, HeapFigures, SnapshotReason};

use super::chunk_writer::ChunkWriter;
use super::log::Log;
use super::sys::{Errno, PreserveErrno};
use super::{RECORDER, signals};

/// When snapshots are taken.
#[derive(Debug)]
pub(super) struct HeapSnapshots {
    /// The most that was resident at a snapshot, in bytes.
    most: AtomicU64,
    /// Whether one was asked for that could not be taken then.
    owed: AtomicBool,
}

impl HeapSnapshots {
    pub(super) const fn new() -> Self {
        Self { most: AtomicU64::new(0), owed: AtomicBool::new(false) }
    }

    /// A recording begins with so many bytes resident.
    pub(super) fn begin(&self, resident_bytes: u64) {
        self.most.store(resident_bytes, Ordering::Relaxed);
        self.owed.store(false, Ordering::Relaxed);
    }

    /// One was asked for that cannot be taken now: whoever next has a full chunk shall see to it.
    pub(super) fn owe(&self) {
        self.owed.store(true, Ordering::Relaxed);
    }

    /// Whether one is owed, which the caller then takes.
    pub(super) fn is_owed(&self) -> bool {
        self.owed.load(Ordering::Relaxed) && self.owed.swap(false, Ordering::Relaxed)
    }

    /// So many bytes are resident; whether that asks for a snapshot, which the caller then takes.
    pub(super) fn is_peak(&self, resident_bytes: u64) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        resident_bytes > most.saturating_add(most / 10)
            && self
                .most
                .compare_exchange(most, resident_bytes, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// Writes what the heap holds now, at the stamp of the record before.
///
/// That takes some 8 KiB of stack, which a workroom has; where all rooms are taken, the caller's.
/// A full chunk is moved to the log outside of the room: that takes a room, too, and whoever waits for
/// one must not have another.
///
/// # Errors
///
/// As [`ChunkWriter::write`].
pub(super) fn take(
    writer: &mut ChunkWriter,
    log: &Log,
    reason: SnapshotReason,
) -> Result<(), Errno> {
    if !take_in_room(writer, log, reason)? && !write(writer, reason) {
        writer.go_on(log)?;
        if !write(writer, reason) {
            return Err(libc::E2BIG);
        }
    }
    Ok(())
}

/// As [`take`], but nothing is written where all rooms are taken: for a caller whose stack may be a
/// small one, as that of a hook or of a signal handler. Whether it was written.
///
/// # Errors
///
/// As [`ChunkWriter::write`].
pub(super) fn take_in_room(
    writer: &mut ChunkWriter,
    log: &Log,
    reason: SnapshotReason,
) -> Result<bool, Errno> {
    for _ in 0..2 {
        match log.in_room(|| write(writer, reason)) {
            Some(true) => return Ok(true),
            Some(false) => writer.go_on(log)?,
            None => return Ok(false),
        }
    }
    Err(libc::E2BIG)
}

/// Lets a signal ask for a snapshot.
pub(super) fn handle(signal: c_int) {
    signals::handle(signal, snapshot, b"take snapshots of the heap");
}

extern "C" fn snapshot(_signal: c_int) {
    let _errno = PreserveErrno::new();
    signals::with_room(|| {
        if crate::mode::is_recording() && !RECORDER.snapshot_in_handler() {
            RECORDER.heap_snapshots.owe();
        }
    });
}

/// Whether the chunk has room for it.
#[inline(never)]
fn write(writer: &mut ChunkWriter, reason: SnapshotReason) -> bool {
    let stats = CoreAlloc::new().stats();
    if stats.segments == 0 && stats.huge_blocks == 0 {
        return true;
    }
    let figures = HeapFigures {
        mapped_bytes: stats.mapped_bytes as u64,
        metadata_bytes: stats.metadata_bytes as u64,
        segments: stats.segments as u64,
        touched_bytes: stats.touched_bytes as u64,
        pages: stats.pages as u64,
        page_bytes: stats.page_bytes as u64,
        large_blocks: stats.large_blocks as u64,
        large_bytes: stats.large_bytes as u64,
        large_requested_bytes: stats.large_requested_bytes as u64,
        huge_blocks: stats.huge_blocks as u64,
        huge_bytes: stats.huge_bytes as u64,
        huge_requested_bytes: stats.huge_requested_bytes as u64,
        heaps: stats.heaps as u64,
        purged_bytes: stats.purged_bytes as u64,
    };
    let in_use = stats.classes.iter().filter(|class| class.pages != 0).map(figures_of);
    writer.write_here(|encoder, out| encoder.heap_snapshot(out, reason, &figures, in_use.clone()))
}

const fn figures_of(class: &ClassStats) -> ClassFigures {
    let [a, b, c, d] = class.pages_by_fill;
    ClassFigures {
        block_bytes: class.block_bytes as u64,
        pages: class.pages as u64,
        capacity: class.capacity as u64,
        live: class.live as u64,
        cached: class.cached as u64,
        pages_by_fill: [a as u64, b as u64, c as u64, d as u64],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_taken_once_and_not_by_the_next_recording() {
        let snapshots = HeapSnapshots::new();
        assert!(!snapshots.is_owed());
        snapshots.owe();
        assert!(snapshots.is_owed() && !snapshots.is_owed());
        snapshots.owe();
        snapshots.begin(1_000);
        assert!(!snapshots.is_owed());
    }

    #[test]
    fn a_peak_is_a_tenth_more_than_the_one_before_and_is_taken_once() {
        let snapshots = HeapSnapshots::new();
        snapshots.begin(1_000);
        let asked =
            [900, 1_100, 1_101, 1_101, 1_211, 1_212, 0].map(|bytes| snapshots.is_peak(bytes));
        assert_eq!(asked, [false, false, true, false, false, true, false]);
    }
}
