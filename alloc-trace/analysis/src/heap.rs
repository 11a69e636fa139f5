//! What the allocator below the recorder held: figures of the heap itself and not of requests.
//!
//! They are of the whole process, whatever is filtered, and in usable bytes, which are those requested
//! and what their size classes round them up to. Between two snapshots nothing is known.

use alloc_trace_format::{ClassFigures, Clock, HeapSnapshot, SnapshotReason};
use serde::Serialize;

use crate::definitions::Definitions;

/// What is known of the process's memory beside its heap events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Memory {
    /// How much was resident, in the order of time; the recorder's own memory is part of it.
    pub resident: Vec<Resident>,
    /// What the heap held, in the order of time. None where the allocator is not `alloc-core`'s.
    pub heap_snapshots: Vec<HeapState>,
}

/// How much memory the process had resident at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Resident {
    /// When, in nanoseconds from the beginning of the recording.
    pub time_ns: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// What a heap held at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HeapState {
    /// When, in nanoseconds from the beginning of the recording.
    pub time_ns: u64,
    /// Why it was looked at.
    pub reason: HeapReason,
    /// Address space mapped for all of it.
    pub mapped_bytes: u64,
    /// The part of it that is metadata.
    pub metadata_bytes: u64,
    /// Regions that hold pages and large blocks.
    pub segments: u64,
    /// Bytes of them that the system may keep in memory.
    pub touched_bytes: u64,
    /// Runs of memory cut into blocks of one size class.
    pub pages: u64,
    /// Bytes of those.
    pub page_bytes: u64,
    /// Usable bytes of all live blocks, those in pages, large and huge ones.
    pub live_bytes: u64,
    /// How many these are.
    pub live_blocks: u64,
    /// Bytes that threads keep as cached blocks.
    pub cached_bytes: u64,
    /// Bytes of pages that no block has: free blocks, and what is left behind the last one.
    pub free_bytes: u64,
    /// Live blocks that lie in a segment by themselves.
    pub large_blocks: u64,
    /// Their usable bytes.
    pub large_bytes: u64,
    /// The bytes that were asked of them.
    pub large_requested_bytes: u64,
    /// Live blocks that are mappings of their own.
    pub huge_blocks: u64,
    /// Their usable bytes.
    pub huge_bytes: u64,
    /// The bytes that were asked of them.
    pub huge_requested_bytes: u64,
    /// Thread heaps, in use or waiting for a thread.
    pub heaps: u64,
    /// Bytes given back to the system since the process began.
    pub purged_bytes: u64,
    /// The size classes that have pages, smallest blocks first.
    pub classes: Vec<ClassState>,
}

/// What the pages of a size class hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ClassState {
    /// Usable bytes of a block.
    pub block_bytes: u64,
    /// Pages.
    pub pages: u64,
    /// Blocks in them.
    pub capacity: u64,
    /// Blocks that the program has.
    pub live: u64,
    /// Blocks that threads keep, to hand them out next.
    pub cached: u64,
    /// Blocks that are free in their pages.
    pub free: u64,
    /// Pages of which at most a quarter of the blocks is live or cached, of which more than that and
    /// at most a half is, and so on.
    pub pages_by_fill: [u64; 4],
}

/// Why a heap was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HeapReason {
    /// The recording began.
    Start,
    /// The process had more memory resident than at any snapshot before, by a tenth.
    Peak,
    /// The recording was about to be closed.
    End,
    /// The program asked.
    Requested,
    /// A reason that this version does not know.
    Other,
}

impl Memory {
    pub(crate) fn of(definitions: &Definitions, clock: &Clock) -> Self {
        let resident = definitions.resident.iter();
        Self {
            resident: resident
                .map(|&(stamp, bytes)| Resident { time_ns: clock.ns(stamp), bytes })
                .collect(),
            heap_snapshots: definitions
                .heap_snapshots
                .iter()
                .map(|snapshot| HeapState::new(snapshot, clock))
                .collect(),
        }
    }

    /// The snapshot in which most memory of the heap had been touched and, among those, most was live;
    /// the first of those.
    #[must_use]
    pub fn largest(&self) -> Option<&HeapState> {
        let by_size = |state: &&HeapState| (state.touched_bytes, state.live_bytes);
        self.heap_snapshots.iter().rev().max_by_key(by_size)
    }
}

impl HeapState {
    fn new(snapshot: &HeapSnapshot, clock: &Clock) -> Self {
        let HeapSnapshot { stamp, reason, figures, classes } = snapshot;
        let sum = |figure: fn(&ClassFigures) -> u64| {
            classes.iter().fold(0_u64, |sum, class| sum.saturating_add(figure(class)))
        };
        let in_pages = sum(|class| class.block_bytes.saturating_mul(class.live));
        let cached_bytes = sum(|class| class.block_bytes.saturating_mul(class.cached));
        let live_bytes =
            in_pages.saturating_add(figures.large_bytes).saturating_add(figures.huge_bytes);
        let live_blocks = sum(|class| class.live)
            .saturating_add(figures.large_blocks)
            .saturating_add(figures.huge_blocks);
        Self {
            time_ns: clock.ns(*stamp),
            reason: HeapReason::from(*reason),
            mapped_bytes: figures.mapped_bytes,
            metadata_bytes: figures.metadata_bytes,
            segments: figures.segments,
            touched_bytes: figures.touched_bytes,
            pages: figures.pages,
            page_bytes: figures.page_bytes,
            live_bytes,
            live_blocks,
            cached_bytes,
            free_bytes: figures.page_bytes.saturating_sub(in_pages).saturating_sub(cached_bytes),
            large_blocks: figures.large_blocks,
            large_bytes: figures.large_bytes,
            large_requested_bytes: figures.large_requested_bytes,
            huge_blocks: figures.huge_blocks,
            huge_bytes: figures.huge_bytes,
            huge_requested_bytes: figures.huge_requested_bytes,
            heaps: figures.heaps,
            purged_bytes: figures.purged_bytes,
            classes: classes.iter().map(ClassState::from).collect(),
        }
    }

    /// Pages of which at most a quarter of the blocks is live or cached, and the bytes of their blocks:
    /// memory that few blocks keep.
    #[must_use]
    pub fn sparse(&self) -> (u64, u64) {
        self.classes.iter().map(ClassState::sparse).fold((0, 0), |sum, of_class| {
            (u64::saturating_add(sum.0, of_class.0), u64::saturating_add(sum.1, of_class.1))
        })
    }

    /// The part of the pages' bytes that live blocks have, from 0 to 1; 1 where there is no page.
    #[must_use]
    pub fn occupancy(&self) -> f64 {
        let live =
            self.page_bytes.saturating_sub(self.free_bytes).saturating_sub(self.cached_bytes);
        if self.page_bytes == 0 { 1.0 } else { live as f64 / self.page_bytes as f64 }
    }
}

impl ClassState {
    /// Pages of which at most a quarter of the blocks is live or cached, and the bytes of their blocks.
    #[must_use]
    pub fn sparse(&self) -> (u64, u64) {
        let [pages, ..] = self.pages_by_fill;
        let blocks = self.capacity.checked_div(self.pages).unwrap_or(0).saturating_mul(pages);
        (pages, blocks.saturating_mul(self.block_bytes))
    }
}

impl From<&ClassFigures> for ClassState {
    fn from(class: &ClassFigures) -> Self {
        let &ClassFigures { block_bytes, pages, capacity, live, cached, pages_by_fill } = class;
        Self { block_bytes, pages, capacity, live, cached, free: class.free(), pages_by_fill }
    }
}

impl From<SnapshotReason> for HeapReason {
    fn from(reason: SnapshotReason) -> Self {
        match reason {
            SnapshotReason::Start => Self::Start,
            SnapshotReason::Peak => Self::Peak,
            SnapshotReason::End => Self::End,
            SnapshotReason::Requested => Self::Requested,
            _ => Self::Other,
        }
    }
}
