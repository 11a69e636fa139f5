//! What the allocator below the recorder held at a moment: records of the heap itself and not of the
//! program's requests.
//!
//! A snapshot has no stamp of its own. It stands behind a record of the resident memory, whose moment
//! it shares: so a reader that does not know snapshots passes over them and counts stamps on as
//! before.

use crate::encoder::{Encoder, extended};
use crate::input::{Fault, Input};
use crate::record::{Stamp, kind};

/// What a heap held at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeapSnapshot {
    /// When: that of the record before it in its stream.
    pub stamp: Stamp,
    /// Why it was taken.
    pub reason: SnapshotReason,
    /// What the heap held in all.
    pub figures: HeapFigures,
    /// What the pages of each size class held: of those that had pages, smallest blocks first.
    pub classes: Box<[ClassFigures]>,
}

/// Why a snapshot was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotReason {
    /// The recording began.
    Start,
    /// The process had more memory resident than at any snapshot before.
    Peak,
    /// The recording was about to be closed.
    End,
    /// The program asked for it.
    Requested,
    /// A reason that this reader does not know.
    Other(u8),
}

/// What a heap holds. Whatever the allocator has none of is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeapFigures {
    /// Address space mapped for segments, huge blocks and metadata, in bytes.
    pub mapped_bytes: u64,
    /// The part of it that is metadata.
    pub metadata_bytes: u64,
    /// Regions that hold pages and large blocks.
    pub segments: u64,
    /// Bytes of the segments that were used since they were last given back: the most that the
    /// system keeps in memory for them.
    pub touched_bytes: u64,
    /// Runs of memory cut into blocks of one size class.
    pub pages: u64,
    /// Bytes of those, free blocks included.
    pub page_bytes: u64,
    /// Live blocks that lie in a segment by themselves.
    pub large_blocks: u64,
    /// Their usable bytes.
    pub large_bytes: u64,
    /// The bytes that the program asked of them.
    pub large_requested_bytes: u64,
    /// Live blocks that are mappings of their own.
    pub huge_blocks: u64,
    /// Their usable bytes.
    pub huge_bytes: u64,
    /// The bytes that the program asked of them.
    pub huge_requested_bytes: u64,
    /// Thread heaps, in use or waiting for a thread.
    pub heaps: u64,
    /// Bytes given back to the system since the process began.
    pub purged_bytes: u64,
}

/// What the pages of one size class hold. Blocks that are neither live nor cached are free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClassFigures {
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
    /// Pages of which at most a quarter of the blocks is live or cached, of which more than that and
    /// at most a half is, and so on.
    pub pages_by_fill: [u64; 4],
}

impl HeapFigures {
    const COUNT: usize = 14;

    /// All figures, in the order in which they are written.
    const fn in_order(&mut self) -> [&mut u64; Self::COUNT] {
        [
            &mut self.mapped_bytes,
            &mut self.metadata_bytes,
            &mut self.segments,
            &mut self.touched_bytes,
            &mut self.pages,
            &mut self.page_bytes,
            &mut self.large_blocks,
            &mut self.large_bytes,
            &mut self.large_requested_bytes,
            &mut self.huge_blocks,
            &mut self.huge_bytes,
            &mut self.huge_requested_bytes,
            &mut self.heaps,
            &mut self.purged_bytes,
        ]
    }

    fn to_array(mut self) -> [u64; Self::COUNT] {
        self.in_order().map(|figure| *figure)
    }

    fn from_array(figures: [u64; Self::COUNT]) -> Self {
        let mut all = Self::default();
        for (place, figure) in all.in_order().into_iter().zip(figures) {
            *place = figure;
        }
        all
    }
}

impl ClassFigures {
    const COUNT: usize = 9;
    const COUNT_WITHOUT_FILL: usize = 5;

    const fn to_array(self) -> [u64; Self::COUNT] {
        let Self { block_bytes, pages, capacity, live, cached, pages_by_fill: [a, b, c, d] } = self;
        [block_bytes, pages, capacity, live, cached, a, b, c, d]
    }

    const fn from_array(figures: [u64; Self::COUNT]) -> Self {
        let [block_bytes, pages, capacity, live, cached, fill @ ..] = figures;
        Self { block_bytes, pages, capacity, live, cached, pages_by_fill: fill }
    }

    /// Blocks that are free in their pages; 0 where the figures contradict each other.
    #[must_use]
    pub const fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.live).saturating_sub(self.cached)
    }
}

impl SnapshotReason {
    const fn code(self) -> u8 {
        match self {
            Self::Start => 1,
            Self::Peak => 2,
            Self::End => 3,
            Self::Requested => 4,
            Self::Other(code) => code,
        }
    }

    const fn of_code(code: u8) -> Self {
        match code {
            1 => Self::Start,
            2 => Self::Peak,
            3 => Self::End,
            4 => Self::Requested,
            other => Self::Other(other),
        }
    }
}

impl Encoder {
    /// Writes what the heap holds at the last stamp written. The `classes` are gone through twice, and
    /// not kept: whoever writes may have little stack.
    #[must_use]
    pub fn heap_snapshot(
        &mut self,
        out: &mut [u8],
        reason: SnapshotReason,
        figures: &HeapFigures,
        classes: impl Iterator<Item = ClassFigures> + Clone,
    ) -> Option<usize> {
        extended(out, kind::HEAP_SNAPSHOT, |out| {
            out.byte(reason.code());
            for figure in figures.to_array() {
                out.varint(figure);
            }
            out.varint(classes.clone().count() as u64);
            for figure in classes.flat_map(ClassFigures::to_array) {
                out.varint(figure);
            }
        })
    }
}

impl HeapSnapshot {
    /// Decodes the record's body, in which the pages of a class are told by how full they are, or not.
    pub(crate) fn decode(
        stamp: Stamp,
        body: &mut Input<'_>,
        with_fill: bool,
    ) -> Result<Self, Fault> {
        let reason = SnapshotReason::of_code(body.byte("a reason")?);
        let mut figures = [0; HeapFigures::COUNT];
        for figure in &mut figures {
            *figure = body.varint("a figure of the heap")?;
        }
        // Nothing is set aside for a number that may lie.
        let mut classes = Vec::new();
        for _ in 0..body.varint("a number of size classes")? {
            let mut figures = [0; ClassFigures::COUNT];
            let written =
                if with_fill { ClassFigures::COUNT } else { ClassFigures::COUNT_WITHOUT_FILL };
            for figure in figures.iter_mut().take(written) {
                *figure = body.varint("a figure of a size class")?;
            }
            classes.push(ClassFigures::from_array(figures));
        }
        let figures = HeapFigures::from_array(figures);
        Ok(Self { stamp, reason, figures, classes: classes.into() })
    }
}
