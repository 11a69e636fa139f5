//! What the heap of `alloc-core` holds, written now and then: at a recording's beginning and end, when
//! the process has become larger, and when the program asks.
//!
//! There is one such heap in a process, so it does not matter how it is wrapped; where it holds
//! nothing, the program has another allocator and nothing is written. The figures are read without a
//! lock and without stopping anybody, in time that grows with the number of the heap's pages. So that
//! a peak costs nothing at each event, it is looked for when a chunk is full and the resident memory
//! was asked for anyway: a snapshot is taken where that is a tenth more than at any snapshot before.

use std::sync::atomic::{AtomicU64, Ordering};

use alloc_core::{ClassStats, CoreAlloc};
use alloc_trace_format::{ClassFigures, HeapFigures, SnapshotReason};

use super::chunk_writer::ChunkWriter;
use super::log::Log;
use super::sys::Errno;

/// Size classes in a record; there are fewer.
const MAX_CLASSES: usize = 96;

/// When snapshots are taken.
#[derive(Debug)]
pub(super) struct HeapSnapshots {
    /// The most that was resident at a snapshot, in bytes.
    most: AtomicU64,
}

impl HeapSnapshots {
    pub(super) const fn new() -> Self {
        Self { most: AtomicU64::new(0) }
    }

    /// A recording begins with so many bytes resident.
    pub(super) fn begin(&self, resident_bytes: u64) {
        self.most.store(resident_bytes, Ordering::Relaxed);
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
/// That takes some 8 KiB of stack, which a workroom has. Where all rooms are taken a peak is passed
/// over, since there is a hook around it and the next one is not far; the others take the caller's.
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
    for _ in 0..2 {
        let written = match log.in_room(|| write(writer, reason)) {
            Some(written) => written,
            None if reason == SnapshotReason::Peak => return Ok(()),
            None => write(writer, reason),
        };
        if written {
            return Ok(());
        }
        writer.go_on(log)?;
    }
    Err(libc::E2BIG)
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
    let mut classes = [ClassFigures::default(); MAX_CLASSES];
    let mut count = 0;
    let in_use = stats.classes.iter().filter(|class| class.pages != 0);
    for (place, class) in classes.iter_mut().zip(in_use) {
        *place = figures_of(class);
        count += 1;
    }
    let classes = classes.get(..count).unwrap_or_default();
    writer.write_here(|encoder, out| encoder.heap_snapshot(out, reason, &figures, classes))
}

const fn figures_of(class: &ClassStats) -> ClassFigures {
    ClassFigures {
        block_bytes: class.block_bytes as u64,
        pages: class.pages as u64,
        capacity: class.capacity as u64,
        live: class.live as u64,
        cached: class.cached as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_a_tenth_more_than_the_one_before_and_is_taken_once() {
        let snapshots = HeapSnapshots::new();
        snapshots.begin(1_000);
        let asked =
            [900, 1_100, 1_101, 1_101, 1_211, 1_212, 0].map(|bytes| snapshots.is_peak(bytes));
        assert_eq!(asked, [false, false, true, false, false, true, false]);
    }
}
