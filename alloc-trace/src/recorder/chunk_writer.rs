//! One slot's place in the window: records are encoded into the mapped chunk, and a full chunk is
//! moved to the log.
//!
//! The chunk's state word is stored with release ordering after the bytes that it counts. So
//! whatever ends the process, the kernel has every record that was counted. A chunk is given to the
//! log before its state word begins the next one: a process that dies in between leaves it in both
//! places, and the reader takes it once.

use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use alloc_trace_format::{
    BlockHeader, BlockKind, CHUNK_HEADER_BYTES, CHUNK_MAGIC, ChunkHeader, ChunkState, Context,
    Encoder, EndReason, Event, MAX_EVENT_BYTES, MAX_TEXT_BYTES, SnapshotReason, Stamp, ThreadId,
};

use super::extents::SMALLEST_CHUNK_BYTES;
use super::log::Log;
use super::sys::{self, Errno, PreserveErrno};
use super::{RECORDER, clock, heap_snapshots};

/// Kept free at the end of each chunk, so that the closing record always has room.
const RESERVED_BYTES: usize = 64;

/// How far samples of the resident memory are apart at least: one costs some microseconds.
const SAMPLE_NS: u64 = 10_000_000;

/// What the longest record has besides its texts: a span's, with name, target and the fields that are set at
/// once.
const WITHOUT_TEXTS_BYTES: usize = 64;
const SPAN_TEXT_BYTES: usize = 2 * MAX_TEXT_BYTES + 256;

/// What a chunk begins with.
const BEGIN_BYTES: usize = CHUNK_HEADER_BYTES + 64;

const _: () = assert!(
    BEGIN_BYTES + WITHOUT_TEXTS_BYTES + SPAN_TEXT_BYTES + RESERVED_BYTES < SMALLEST_CHUNK_BYTES
);
const _: () = assert!(BEGIN_BYTES + MAX_EVENT_BYTES + RESERVED_BYTES < SMALLEST_CHUNK_BYTES);

/// Writes one stream's records. Zeroed memory is a writer that has no chunk.
#[derive(Debug)]
pub(super) struct ChunkWriter {
    chunk: *mut u8,
    /// How many bytes of records the chunk has room for.
    capacity: usize,
    /// How many are written.
    position: usize,
    stream: u32,
    sequence: u32,
    /// Heap events, and those of them that are in earlier chunks.
    events: u64,
    events_before: u64,
    /// The time from which the chunk's stamps count on.
    first_stamp: Stamp,
    /// Of a ring: the generation that the chunk's nodes are of.
    generation: u32,
    thread: ThreadId,
    encoder: Encoder,
}

impl ChunkWriter {
    /// Takes a chunk of a new recording's window.
    ///
    /// # Safety
    ///
    /// - `chunk` points to `chunk_bytes` of a shared mapping that stays until [`Self::detach`].
    /// - Nobody else writes there.
    pub(super) unsafe fn attach(&mut self, chunk: *mut u8, chunk_bytes: usize, stream: u32) {
        *self =
            Self { chunk, capacity: chunk_bytes - CHUNK_HEADER_BYTES, stream, ..Self::DETACHED };
        // SAFETY: the header lies within the chunk; the chunk is aligned to an OS page's fraction.
        let stream_place = unsafe { chunk.add(ChunkHeader::STREAM_OFFSET) };
        // SAFETY: as above; the word is aligned and only this writer stores to it.
        unsafe { AtomicU32::from_ptr(stream_place.cast()) }.store(stream, Ordering::Relaxed);
        // SAFETY: as above. Release: whoever sees the magic number sees the stream.
        unsafe { AtomicU32::from_ptr(chunk.cast()) }.store(CHUNK_MAGIC, Ordering::Release);
    }

    /// Has no chunk from here on.
    pub(super) const fn detach(&mut self) {
        *self = Self::DETACHED;
    }

    const DETACHED: Self = Self {
        chunk: ptr::null_mut(),
        capacity: 0,
        position: 0,
        stream: 0,
        sequence: 0,
        events: 0,
        events_before: 0,
        first_stamp: 0,
        generation: 0,
        thread: ThreadId(0),
        encoder: Encoder::new(),
    };

    /// Whether it has a chunk.
    pub(super) const fn is_attached(&self) -> bool {
        !self.chunk.is_null()
    }

    /// The thread whose records are written.
    pub(super) const fn thread(&self) -> ThreadId {
        self.thread
    }

    /// Heap events written since a chunk was taken.
    pub(super) const fn events(&self) -> u64 {
        self.events
    }

    /// The last stamp written: the next one must not lie before it.
    #[inline]
    pub(super) const fn last_stamp(&self) -> u64 {
        self.encoder.last_stamp()
    }

    /// Goes on with the records of `thread`, none of which begins before `earliest`.
    ///
    /// The slot's previous owner may have written later ones, or one at the same moment: then a chunk of its
    /// own begins here, before that moment, which the reader merges by its own beginning.
    pub(super) fn switch_to(
        &mut self,
        thread: ThreadId,
        earliest: Stamp,
        log: &Log,
    ) -> Result<(), Errno> {
        let last = self.last_stamp();
        let overtakes = earliest < last || earliest == last && thread != self.thread;
        self.thread = thread;
        if overtakes || self.position + 512 > self.capacity {
            let _errno = PreserveErrno::new();
            self.drain(log)?;
        }
        let begins = if overtakes {
            earliest.min(last.saturating_sub(1))
        } else if self.position == 0 && log.is_ring() {
            // As late as can be: a ring knows by it how far back an unfinished chunk reaches.
            clock::now().min(earliest).max(self.last_stamp())
        } else {
            self.last_stamp()
        };
        self.begin(begins);
        Ok(())
    }

    /// Goes on with a record of the same thread that does not begin before `earliest`: in a chunk of its
    /// own where later ones are written already.
    #[inline(always)]
    pub(super) fn overtake(&mut self, earliest: Stamp, log: &Log) -> Result<(), Errno> {
        if earliest < self.last_stamp() {
            self.switch_to(self.thread, earliest, log)
        } else {
            Ok(())
        }
    }

    /// The generation of a ring that it writes for.
    #[inline]
    pub(super) const fn generation(&self) -> u32 {
        self.generation
    }

    /// Goes on in another generation of a ring, in a chunk that begins with the next context. Nothing
    /// was written yet, or the chunk was drained.
    pub(super) const fn begin_generation(&mut self, generation: u32) {
        self.generation = generation;
    }

    /// Writes one record with `encode`, going on to the next chunk where this one is full. `encode`
    /// may be called twice.
    ///
    /// # Errors
    ///
    /// Where the full chunk cannot be written to the log. `E2BIG` where the record is larger than a
    /// whole chunk.
    #[inline]
    pub(super) fn write(
        &mut self,
        log: &Log,
        mut encode: impl FnMut(&mut Encoder, &mut [u8]) -> Option<usize>,
    ) -> Result<(), Errno> {
        if self.append(RESERVED_BYTES, &mut encode) {
            return Ok(());
        }
        self.next_chunk(log)?;
        if self.append(RESERVED_BYTES, &mut encode) { Ok(()) } else { Err(libc::E2BIG) }
    }

    /// Writes a heap event, as [`Self::write`] does any record, and counts it.
    ///
    /// # Errors
    ///
    /// As there.
    #[inline(always)]
    pub(super) fn write_event(&mut self, log: &Log, event: &Event) -> Result<(), Errno> {
        if self.append_event(event) { Ok(()) } else { self.write_event_in_next_chunk(log, *event) }
    }

    #[cold]
    #[inline(never)]
    fn write_event_in_next_chunk(&mut self, log: &Log, event: Event) -> Result<(), Errno> {
        self.next_chunk(log)?;
        if self.append_event(&event) { Ok(()) } else { Err(libc::E2BIG) }
    }

    /// Encodes a heap event behind the records that are written, if there is room for the longest, and
    /// publishes it.
    #[inline(always)]
    fn append_event(&mut self, event: &Event) -> bool {
        if self.position + MAX_EVENT_BYTES + RESERVED_BYTES > self.capacity {
            return false;
        }
        // SAFETY: the chunk has that much room, as was looked at.
        let written =
            unsafe { self.encode(MAX_EVENT_BYTES, |encoder, out| encoder.event(out, event)) };
        let Some(written) = written else { return false };
        self.position += written;
        self.events += 1;
        self.publish();
        true
    }

    /// Writes the closing record, for which there is always room.
    pub(super) fn write_end(&mut self, reason: EndReason, events: u64) {
        let stamp = clock::now().max(self.last_stamp());
        self.append(0, &mut |encoder, out| encoder.end(out, stamp, reason, events));
    }

    /// Moves what is written to the log, begins the next chunk of the stream, and looks at the memory.
    #[cold]
    fn next_chunk(&mut self, log: &Log) -> Result<(), Errno> {
        let _errno = PreserveErrno::new();
        self.go_on(log)?;
        self.sample(log, SAMPLE_NS)
    }

    /// Moves what is written to the log and begins the next chunk of the stream.
    ///
    /// # Errors
    ///
    /// Where the chunk cannot be written to the log.
    pub(super) fn go_on(&mut self, log: &Log) -> Result<(), Errno> {
        self.drain(log)?;
        self.begin(self.last_stamp());
        Ok(())
    }

    /// Writes one record if this chunk has room for it; whether it has.
    #[cfg(feature = "heap-snapshots")]
    pub(super) fn write_here(
        &mut self,
        mut encode: impl FnMut(&mut Encoder, &mut [u8]) -> Option<usize>,
    ) -> bool {
        self.append(RESERVED_BYTES, &mut encode)
    }

    /// Writes how much memory is resident, unless that was done less than so long ago; and what the
    /// heap holds, where that is a new peak or somebody asked for it.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub(super) fn sample(&mut self, log: &Log, interval_ns: u64) -> Result<(), Errno> {
        if RECORDER.heap_snapshots.is_owed() {
            self.write_snapshot_or_owe(log, self.last_stamp())?;
        }
        let Some(bytes) = log.resident_bytes(interval_ns) else { return Ok(()) };
        // The event that led here has its stamp already.
        let stamp = self.last_stamp();
        self.append(RESERVED_BYTES, &mut |encoder, out| encoder.resident(out, stamp, bytes));
        if RECORDER.heap_snapshots.is_peak(bytes) {
            // Where it cannot be taken there is a hook around it, and the next one is not far.
            heap_snapshots::take_in_room(self, log, SnapshotReason::Peak)?;
        }
        Ok(())
    }

    /// Writes what the heap holds, as somebody asked; where all workrooms are taken it is owed.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub(super) fn write_snapshot_or_owe(&mut self, log: &Log, stamp: Stamp) -> Result<(), Errno> {
        self.write_resident(log, stamp)?;
        if !heap_snapshots::take_in_room(self, log, SnapshotReason::Requested)? {
            RECORDER.heap_snapshots.owe();
        }
        Ok(())
    }

    /// Writes how much memory is resident, with a stamp that is not before the last one: for records
    /// behind it that have no stamp of their own and share this one.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub(super) fn write_resident(&mut self, log: &Log, stamp: Stamp) -> Result<(), Errno> {
        let Some(bytes) = sys::resident_bytes() else { return Ok(()) };
        let stamp = stamp.max(self.last_stamp());
        self.write(log, |encoder, out| encoder.resident(out, stamp, bytes))
    }

    /// Moves what is written to the log; the chunk is empty then.
    pub(super) fn drain(&mut self, log: &Log) -> Result<(), Errno> {
        if self.chunk.is_null() || self.position == 0 {
            return Ok(());
        }
        // SAFETY: the records begin behind the header, within the chunk.
        let records = unsafe { self.chunk.add(CHUNK_HEADER_BYTES) };
        // SAFETY: the first `position` bytes of them are written, and only by this writer.
        let payload = unsafe { std::slice::from_raw_parts(records, self.position) };
        let header = BlockHeader {
            stream: self.stream,
            sequence: self.sequence,
            events: (self.events - self.events_before) as u32,
            first_stamp: self.first_stamp,
            last_stamp: self.encoder.last_stamp(),
            ..BlockHeader::empty(BlockKind::Chunk)
        };
        log.append_chunk(header, self.generation, payload)?;
        self.sequence = self.sequence.wrapping_add(1);
        self.position = 0;
        self.events_before = self.events;
        self.publish();
        Ok(())
    }

    /// Begins a chunk, or another thread's part of one, with a context.
    ///
    /// The record that found a chunk full has its stamp already, so stamps count on from the last
    /// one; a stream's first chunk has none and begins now, or at an `earliest` that is known.
    fn begin(&mut self, earliest: Stamp) {
        let anchor = clock::anchor();
        let stamp = if earliest == 0 { anchor.ticks } else { earliest };
        if self.position == 0 {
            self.first_stamp = stamp;
        }
        let context = Context { thread: self.thread, stamp, anchor };
        self.append(RESERVED_BYTES, &mut |encoder, out| encoder.context(out, &context));
    }

    /// Encodes a record behind those written, if there is room, and publishes it.
    #[inline]
    fn append(
        &mut self,
        reserved: usize,
        encode: &mut impl FnMut(&mut Encoder, &mut [u8]) -> Option<usize>,
    ) -> bool {
        let Some(room) = self.capacity.checked_sub(self.position + reserved) else { return false };
        // SAFETY: the chunk has more room, by what is reserved.
        let Some(written) = (unsafe { self.encode(room, encode) }) else { return false };
        self.position += written;
        self.publish();
        true
    }

    /// Encodes a record into the first `room` bytes behind those that are written.
    ///
    /// # Safety
    ///
    /// The chunk has them.
    #[inline(always)]
    unsafe fn encode(
        &mut self,
        room: usize,
        encode: impl FnOnce(&mut Encoder, &mut [u8]) -> Option<usize>,
    ) -> Option<usize> {
        // SAFETY: the chunk is `capacity` bytes behind its header, of which `position` are written.
        let place = unsafe { self.chunk.add(CHUNK_HEADER_BYTES + self.position) };
        // SAFETY: `room` bytes from there on are the chunk's, and nobody else touches them.
        let out = unsafe { std::slice::from_raw_parts_mut(place, room) };
        encode(&mut self.encoder, out)
    }

    /// Tells the file how much of the chunk is written.
    #[inline]
    fn publish(&self) {
        let state = ChunkState { sequence: self.sequence, committed_bytes: self.position as u32 };
        // SAFETY: the state word lies within the chunk's header, aligned to eight bytes.
        let place = unsafe { self.chunk.add(ChunkHeader::STATE_OFFSET) };
        // SAFETY: as above; only this writer stores to it.
        let place = unsafe { AtomicU64::from_ptr(place.cast()) };
        // Release: whoever reads this length, in the file or through the mapping, finds the bytes.
        place.store(state.to_bits(), Ordering::Release);
    }
}
