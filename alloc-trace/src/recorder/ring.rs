//! Where the blocks of a ring go: around and around in a fixed part of the file.
//!
//! A place in the ring counts on from the first round; where it lies in the file follows. The ring is
//! cut into [`RING_SEGMENTS`] segments, and a block lies in one of them. Before the head comes to a
//! segment that was written a round ago, what is live in that is carried on ([`super::fold`]).
//!
//! Each segment is a *generation* of call-tree nodes: an event names nodes only that were defined in its
//! own, so that a segment can be written over without anyone asking who names its nodes. A thread
//! learns of a new generation by the epoch word, of which it is a part, at its next event: then its
//! chunk goes to the log, and it defines what it names anew.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use alloc_trace_format::{Commit, RING_SEGMENTS, Stamp};

use super::fold::MAX_DIGESTS;
use super::sys::{self, Errno};
use super::{RECORDER, clock, epoch};

/// A ring has no smaller segments: one takes the longest chunk, its digest, and a checkpoint.
const LEAST_SEGMENT_BYTES: u64 = 768 << 10;

/// How far the head may be from the tail, in segments. The last one is left to checkpoints.
const FOR_CHUNKS: u64 = RING_SEGMENTS - 1;
/// From this distance on the tail is to be moved.
const DUE: u64 = RING_SEGMENTS - 2;

const SEGMENTS: usize = RING_SEGMENTS as usize;

/// The ring of the present recording.
#[derive(Debug)]
pub(super) struct Ring {
    /// Where it begins in the file; 0 where there is none.
    begin: AtomicU64,
    segment_bytes: AtomicU64,
    /// The place of the next block.
    head: AtomicU64,
    /// The number of the first segment that counts.
    tail: AtomicU64,
    /// The number of the newest segment that threads were told of.
    generation: AtomicU64,
    /// When each segment's generation began.
    begun: [AtomicU64; SEGMENTS],
    /// Threads that are writing to a segment.
    writers: [AtomicU32; SEGMENTS],
    /// Chunks in a segment.
    chunks: [AtomicU32; SEGMENTS],
    /// Whether somebody moves the tail.
    folding: AtomicBool,
    /// The last commit; 0 for none yet.
    commits: AtomicU32,
    horizon: AtomicU64,
}

/// Who wants a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    Chunk,
    Checkpoint,
}

/// A place that was reserved: to be left once it is written.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) ring: &'a Ring,
    pub(super) place: u64,
    segment: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(writers) = self.ring.writers.get((self.segment % RING_SEGMENTS) as usize) {
            // Release: whoever sees nobody writing sees what was written.
            writers.fetch_sub(1, Ordering::Release);
        }
    }
}

impl Ring {
    pub(super) const fn new() -> Self {
        Self {
            begin: AtomicU64::new(0),
            segment_bytes: AtomicU64::new(0),
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            begun: [const { AtomicU64::new(0) }; SEGMENTS],
            writers: [const { AtomicU32::new(0) }; SEGMENTS],
            chunks: [const { AtomicU32::new(0) }; SEGMENTS],
            folding: AtomicBool::new(false),
            commits: AtomicU32::new(0),
            horizon: AtomicU64::new(0),
        }
    }

    /// There is none.
    pub(super) fn close(&self) {
        self.begin.store(0, Ordering::Relaxed);
    }

    /// Begins a ring in the file from `begin` to `end` at most; answers its length. `EDOM` where that
    /// is too short.
    pub(super) fn open(&self, begin: u64, end: u64) -> Result<u64, Errno> {
        let segment_bytes = (end.saturating_sub(begin) / RING_SEGMENTS) & !63;
        if segment_bytes < LEAST_SEGMENT_BYTES {
            return Err(libc::EDOM);
        }
        for word in [&self.head, &self.tail, &self.generation, &self.horizon] {
            word.store(0, Ordering::Relaxed);
        }
        for word in &self.begun {
            word.store(0, Ordering::Relaxed);
        }
        for word in self.writers.iter().chain(&self.chunks) {
            word.store(0, Ordering::Relaxed);
        }
        self.folding.store(false, Ordering::Relaxed);
        self.commits.store(0, Ordering::Relaxed);
        self.segment_bytes.store(segment_bytes, Ordering::Relaxed);
        self.begin.store(begin, Ordering::Release);
        Ok(segment_bytes * RING_SEGMENTS)
    }

    /// Whether the log is a ring.
    pub(super) fn is_open(&self) -> bool {
        self.begin.load(Ordering::Relaxed) != 0
    }

    /// Where in the file a place lies.
    pub(super) fn offset(&self, place: u64) -> u64 {
        let bytes = self.segment_bytes() * RING_SEGMENTS;
        self.begin.load(Ordering::Relaxed) + place.checked_rem(bytes).unwrap_or(0)
    }

    pub(super) fn segment_bytes(&self) -> u64 {
        self.segment_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    pub(super) fn tail(&self) -> u64 {
        self.tail.load(Ordering::Acquire)
    }

    /// Whether somebody still writes to a segment.
    pub(super) fn is_written(&self, segment: u64) -> bool {
        let writers = self.writers.get((segment % RING_SEGMENTS) as usize);
        // Acquire pairs with the release where a place is left.
        writers.is_some_and(|writers| writers.load(Ordering::Acquire) != 0)
    }

    /// When a segment's generation began.
    pub(super) fn begun(&self, segment: u64) -> Stamp {
        let begun = self.begun.get((segment % RING_SEGMENTS) as usize);
        begun.map_or(0, |begun| begun.load(Ordering::Relaxed))
    }

    /// Whether the tail is to be moved.
    pub(super) fn is_due(&self) -> bool {
        let head = self.head().checked_div(self.segment_bytes()).unwrap_or(0);
        head >= self.tail() + DUE
    }

    /// Reserves a place for so many bytes; `Ok(None)` where the tail is to be moved first, `EFBIG`
    /// where they never fit.
    pub(super) fn reserve(&self, bytes: u64, what: For) -> Result<Option<Place<'_>>, Errno> {
        let segment_bytes = self.segment_bytes();
        if bytes > segment_bytes || segment_bytes == 0 {
            return Err(libc::EFBIG);
        }
        let mut head = self.head();
        loop {
            let mut segment = head / segment_bytes;
            let index = |segment: u64| (segment % RING_SEGMENTS) as usize;
            let is_full = what == For::Chunk
                && self
                    .chunks
                    .get(index(segment))
                    .is_some_and(|chunks| chunks.load(Ordering::Relaxed) as usize >= MAX_DIGESTS);
            let mut place = head;
            if head % segment_bytes + bytes > segment_bytes || is_full {
                segment += 1;
                place = segment * segment_bytes;
            }
            let reach = if what == For::Chunk { FOR_CHUNKS } else { RING_SEGMENTS };
            if segment >= self.tail() + reach {
                return Ok(None);
            }
            let Some(writers) = self.writers.get(index(segment)) else { return Err(libc::EFBIG) };
            writers.fetch_add(1, Ordering::Acquire);
            let reserved = Place { ring: self, place, segment };
            let next = place + bytes;
            match self.head.compare_exchange(head, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    if what == For::Chunk
                        && let Some(chunks) = self.chunks.get(index(segment))
                    {
                        chunks.fetch_add(1, Ordering::Relaxed);
                    }
                    self.begin_generation(segment);
                    return Ok(Some(reserved));
                }
                Err(other) => head = other,
            }
        }
    }

    /// Tells all threads of a new generation, unless they were.
    fn begin_generation(&self, segment: u64) {
        if self.generation.load(Ordering::Relaxed) >= segment {
            return;
        }
        // Asked for before: another thread may begin the next generation before this goes on.
        let now = clock::now();
        if self.generation.fetch_max(segment, Ordering::AcqRel) >= segment {
            return;
        }
        if let Some(begun) = self.begun.get((segment % RING_SEGMENTS) as usize) {
            begun.store(now, Ordering::Relaxed);
        }
        let word = RECORDER.epoch();
        let mut present = word.load(Ordering::Acquire);
        // Not where the recording was stopped meanwhile.
        while epoch::is_recording(present) && epoch::generation(present) < segment as u32 {
            let next = epoch::with_generation(present, segment as u32);
            // Release: whoever sees the generation sees when it began.
            match word.compare_exchange(present, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(other) => present = other,
            }
        }
    }

    /// Takes the right to move the tail, if nobody has it.
    pub(super) fn begin_fold(&self) -> bool {
        !self.folding.swap(true, Ordering::Acquire)
    }

    pub(super) fn end_fold(&self) {
        self.folding.store(false, Ordering::Release);
    }

    /// The number of the last commit, and its horizon.
    pub(super) fn last_commit(&self) -> (u32, Stamp) {
        (self.commits.load(Ordering::Relaxed), self.horizon.load(Ordering::Relaxed))
    }

    /// The commit was written: its tail's segment and those behind count, and what was before can be
    /// written over.
    pub(super) fn committed(&self, commit: &Commit) {
        self.commits.store(commit.number, Ordering::Relaxed);
        self.horizon.store(commit.horizon, Ordering::Relaxed);
        let tail = commit.tail.checked_div(self.segment_bytes()).unwrap_or(0);
        for gone in self.tail()..tail {
            if let Some(chunks) = self.chunks.get((gone % RING_SEGMENTS) as usize) {
                chunks.store(0, Ordering::Relaxed);
            }
        }
        // Release: whoever sees the tail may write over what it passed.
        self.tail.store(tail, Ordering::Release);
    }
}

/// The part of a file that a ring may have: behind the window, and in front of what more threads will
/// need of it.
pub(super) fn bounds(window_end: u64, limit_bytes: u64) -> (u64, u64) {
    let os_page = sys::os_page_bytes().max(4096) as u64;
    let begin = (window_end + 64).next_multiple_of(os_page.max(64 << 10));
    let more_threads = (limit_bytes / 16).clamp(1 << 20, 44 << 20);
    (begin, limit_bytes.saturating_sub(more_threads))
}
