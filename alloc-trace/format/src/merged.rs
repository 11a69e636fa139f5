//! The records of all streams in one order.
//!
//! Streams are merged by stamp. A reallocation is two things at once, the old block's release and
//! the new block's arrival, and it has two stamps: when it began and when it had ended. Somewhere
//! between them lies the moment at which both hold. The merge keeps a reallocation back until its
//! end, but lets it go before any event that occupies the address it left; so every event can be
//! read as if it had happened at once, and no address is ever live twice.
//!
//! Why such a moment exists: the new block was obtained before the old one was released, so whoever
//! freed the new block's address before did it earlier than whoever took the old block's address
//! after.
//!
//! A stream's chunks follow each other, unless one begins before the last one ended: a thread can
//! take over another's slot and write what began before, or at the same moment, and so can a thread that a
//! signal handler interrupted. Such a chunk is merged as if it were of another stream. Where stamps are equal, as
//! they are where the clock is coarse, a stream's own order holds, and among streams a free comes
//! before a reallocation's end, and that before an allocation.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::ahead::Ahead;
use crate::chunk_records::{ChunkRecords, Next, RunEvent};
use crate::error::ReadError;
use crate::payload::PayloadReader;
use crate::record::{Event, EventKind, Record, Stamp, ThreadId};
use crate::recording::{Chunk, Payload, Recording, Skipped};

/// Where a record stands in the merged order: by stamp, and at one stamp by rank.
///
/// The rank is as wide as the stamp: a key with padding is copied in pieces that overlap, and waiting
/// for those took 12 ns an event.
type Key = (Stamp, u64);

/// The ranks: releases come before what can take the released address.
mod rank {
    pub(super) const FREE: u64 = 0;
    pub(super) const OTHER: u64 = 1;
    pub(super) const REALLOC: u64 = 2;
    pub(super) const ALLOC: u64 = 3;
}

/// An iterator over a recording's records in the order in which they happened.
///
/// Records that carry no stamp come where their stream has them. The definition of a call-tree node
/// can come after another stream's event that names it: look nodes up when the pass is over, or
/// collect them in a pass of their own.
#[derive(Debug)]
pub struct Merged<'a> {
    source: Source<'a>,
    cursors: Vec<Cursor>,
    heap: BinaryHeap<Reverse<(Key, usize)>>,
    /// The cursor whose record was given last: it has not been moved on yet.
    current: Option<usize>,
    /// Reallocations that have begun and not ended, and the cursors that they came from.
    pending: Vec<(Event, usize)>,
    /// The event that was given last.
    event: Event,
    /// How many of the events that a ring carries on were given.
    carried: usize,
    /// The first stamp that is behind the horizon; 0 where there is none.
    from: Stamp,
}

/// Where chunks come from.
#[derive(Debug)]
struct Source<'a> {
    recording: &'a Recording,
    reader: PayloadReader,
    ahead: Option<Ahead>,
    skipped: Vec<Skipped>,
}

impl Source<'_> {
    /// Puts a chunk's records into `records`.
    fn load(
        &mut self,
        index: usize,
        chunk: &Chunk,
        records: &mut ChunkRecords,
    ) -> Result<(), ReadError> {
        let logged = matches!(chunk.payload, Payload::Logged { .. });
        let ahead = self.ahead.as_mut().filter(|_| logged);
        let arrived = ahead.and_then(|ahead| ahead.take(index, std::mem::take(records)));
        let damage = match arrived {
            Some(arrived) => {
                *records = arrived.records;
                arrived.damage?
            }
            None => self.reader.load(chunk, records)?,
        };
        // A cut is known since the recording was opened.
        self.skipped.extend(damage.filter(|damage| !damage.truncated));
        Ok(())
    }
}

/// The place in a run of chunks that follow each other.
#[derive(Debug)]
struct Cursor {
    /// The chunks that are still to come, as a range of the recording's.
    chunks: std::ops::Range<usize>,
    records: ChunkRecords,
    /// Where the chunk's payload lies in the file.
    payload_offset: u64,
    last_stamp: Stamp,
}

/// What [`Merged::advance`] came to.
#[derive(Debug)]
pub enum Step {
    /// A heap event: [`Merged::event`] has it.
    Event,
    /// Any other record.
    Other(Record),
    /// The end.
    End,
}

/// Heap events of one thread that follow each other in the merged order, by [`Merged::next_run`].
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Whose they are.
    pub thread: ThreadId,
    /// At least one.
    pub events: &'a [RunEvent],
}

impl<'a> Merged<'a> {
    pub(crate) fn new(recording: &'a Recording) -> Self {
        Self::through(recording, || recording.reader())
    }

    /// All records but the definitions of call-tree nodes, with stack pointers that mean nothing.
    pub(crate) fn in_brief(recording: &'a Recording) -> Self {
        Self::through(recording, || recording.reader().in_brief())
    }

    /// The records that the readers give which `reader` makes.
    fn through(recording: &'a Recording, reader: impl Fn() -> PayloadReader) -> Self {
        let mut cursors = Vec::new();
        let mut heap = BinaryHeap::new();
        let mut begin = 0;
        for run in recording.chunks().chunk_by(follows) {
            // Its first chunk is read when its time has come.
            let first_stamp = run.first().map_or(0, |chunk| chunk.first_stamp);
            heap.push(Reverse(((first_stamp, rank::FREE), cursors.len())));
            cursors.push(Cursor::new(begin..begin + run.len(), first_stamp));
            begin += run.len();
        }
        Self {
            source: Source {
                recording,
                reader: reader(),
                ahead: Ahead::begin(recording, reader),
                skipped: Vec::new(),
            },
            cursors,
            heap,
            current: None,
            pending: Vec::new(),
            event: Event::NONE,
            carried: 0,
            from: recording.horizon().map_or(0, |horizon| horizon.saturating_add(1)),
        }
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file. Damage is no error: see
    /// [`Merged::skipped`].
    pub fn next_record(&mut self) -> Result<Option<Record>, ReadError> {
        Ok(match self.advance()? {
            Step::Event => Some(Record::Event(*self.event())),
            Step::Other(record) => Some(record),
            Step::End => None,
        })
    }

    /// Goes on to the next record, as [`Merged::next_record`], and leaves an event in place: for
    /// passes over many.
    ///
    /// # Errors
    ///
    /// As [`Merged::next_record`].
    #[inline]
    pub fn advance(&mut self) -> Result<Step, ReadError> {
        let first = |run: Run<'_>| Some(run.events.first()?.event(run.thread));
        match self.next_run(1).and_then(first) {
            Some(event) => Ok(self.give(event)),
            None => self.advance_further(),
        }
    }

    /// The records that come next, as far as they are plain events of one thread: at most so many.
    /// `None` where [`Merged::advance`] has to go on first.
    ///
    /// Nearly all records of a recording can be had this way, which takes a fraction of the time.
    #[inline]
    pub fn next_run(&mut self, most: usize) -> Option<Run<'_>> {
        self.next_run_while(most, |_, _| true)
    }

    /// As [`Merged::next_run`], up to the first event of which `keep`, given with its thread, says that it is
    /// not wanted in a run. Where that is the next one, [`Merged::advance`] goes on to it.
    #[inline]
    pub fn next_run_while(
        &mut self,
        most: usize,
        keep: impl FnMut(ThreadId, &RunEvent) -> bool,
    ) -> Option<Run<'_>> {
        // The stream of the last record goes on until another one has something earlier.
        let others = self.others_begin();
        let cursor = self.cursors.get_mut(self.current?)?;
        if !self.pending.is_empty() {
            return None;
        }
        if self.from > 0
            && let Some(Next::Plain(event)) = cursor.records.next()
            && event.stamp < self.from
        {
            return None;
        }
        let thread = cursor.records.thread();
        let events = cursor.records.pass_run(most, others, keep);
        cursor.last_stamp = events.last()?.stamp;
        Some(Run { thread, events })
    }

    /// The first stamp that the streams have which are not the last record's.
    #[inline]
    fn others_begin(&self) -> Stamp {
        self.heap.peek().map_or(Stamp::MAX, |Reverse(((stamp, _), _))| *stamp)
    }

    /// Takes the reallocation that comes next, where it ends before anything else can come: then it need
    /// not be kept back.
    #[inline]
    fn next_reallocation(&mut self) -> Option<Event> {
        let others = self.others_begin();
        let cursor = self.cursors.get_mut(self.current?)?;
        let Some(Next::Event(&event)) = cursor.records.next() else { return None };
        let is_next = self.pending.is_empty() && event.stamp < others && event.stamp >= self.from;
        if !is_next {
            return None;
        }
        cursor.records.take_other();
        cursor.last_stamp = event.stamp;
        Some(event)
    }

    fn advance_further(&mut self) -> Result<Step, ReadError> {
        if self.from > 0
            && let Some(event) = self.source.recording.carried().events.get(self.carried)
        {
            self.carried += 1;
            return Ok(self.give(*event));
        }
        if let Some(event) = self.next_reallocation() {
            return Ok(self.give(event));
        }
        loop {
            let Some((key, index)) = self.earliest()? else {
                let last = self.release_ended((Stamp::MAX, u64::MAX), usize::MAX);
                return Ok(last.map_or(Step::End, |event| self.give(event)));
            };
            if !self.pending.is_empty()
                && let Some(event) = self.release_ended(key, index)
            {
                return Ok(self.give_before(key, index, event));
            }
            let Some(cursor) = self.cursors.get_mut(index) else { continue };
            let records = &mut cursor.records;
            let (event, is_plain) = match records.next() {
                Some(Next::Plain(event)) => (event.event(records.thread()), true),
                Some(Next::Event(event)) => (*event, false),
                Some(Next::Other(_)) => match records.take_other() {
                    Some(record) => return Ok(Step::Other(record)),
                    None => continue,
                },
                None => continue,
            };
            let counts = event.stamp >= self.from;
            if counts
                && occupies(&event)
                && event.kind != EventKind::Realloc
                && !self.pending.is_empty()
                && let Some(earlier) = self.release_vacating(event.address, event.stamp)
            {
                return Ok(self.give_before(key, index, earlier));
            }
            let Some(cursor) = self.cursors.get_mut(index) else { continue };
            if is_plain {
                cursor.records.pass_event();
            } else {
                cursor.records.take_other();
            }
            if !counts {
                continue;
            }
            if event.kind == EventKind::Realloc {
                self.pending.push((event, index));
                continue;
            }
            return Ok(self.give(event));
        }
    }

    /// The event that the last step came to.
    #[must_use]
    #[inline]
    pub const fn event(&self) -> &Event {
        &self.event
    }

    #[inline]
    const fn give(&mut self, event: Event) -> Step {
        self.event = event;
        Step::Event
    }

    /// Gives an event before the next record of a cursor, which has this place.
    fn give_before(&mut self, key: Key, index: usize, event: Event) -> Step {
        self.current = None;
        self.heap.push(Reverse((key, index)));
        self.give(event)
    }

    /// What could not be read so far, beyond what [`Recording::skipped`] lists.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.source.skipped
    }

    /// The cursor whose next record is the earliest, and that record's place.
    #[inline]
    fn earliest(&mut self) -> Result<Option<(Key, usize)>, ReadError> {
        loop {
            let next = match self.current {
                Some(index) => self.key(index)?.map(|key| (key, index)),
                None => None,
            };
            let (key, index) = match (next, self.heap.peek_mut()) {
                (Some(next), None) => return Ok(Some(next)),
                (None, None) => {
                    self.current = None;
                    return Ok(None);
                }
                (None, Some(top)) => PeekMut::pop(top).0,
                (Some(next), Some(mut top)) => {
                    if next <= top.0 {
                        return Ok(Some(next));
                    }
                    // One way down the heap, where a push and a pop would be two.
                    std::mem::replace(&mut *top, Reverse(next)).0
                }
            };
            self.current = Some(index);
            if self.cursors.get(index).is_some_and(Cursor::has_next) {
                return Ok(Some((key, index)));
            }
        }
    }

    /// Tells the place of a cursor's next record; `None` at the end of its stream.
    #[inline]
    fn key(&mut self, index: usize) -> Result<Option<Key>, ReadError> {
        let Some(cursor) = self.cursors.get_mut(index) else { return Ok(None) };
        cursor.fill(&mut self.source)?;
        let rank_of = |kind| match kind {
            EventKind::Free => rank::FREE,
            EventKind::Realloc => rank::REALLOC,
            EventKind::Alloc | EventKind::AllocZeroed => rank::ALLOC,
        };
        let (stamp, last_stamp, rank) = match cursor.records.next() {
            None => return Ok(None),
            Some(Next::Plain(event)) => (event.stamp, event.stamp, rank_of(event.kind)),
            Some(Next::Event(event)) => (event.begin_stamp, event.stamp, rank_of(event.kind)),
            Some(Next::Other(record)) => {
                let stamp = record.stamp().unwrap_or(cursor.last_stamp);
                (stamp, stamp, rank::OTHER)
            }
        };
        cursor.last_stamp = last_stamp;
        Ok(Some((stamp, rank)))
    }

    /// Takes out a pending reallocation that ended before `key`, where `index` goes on next: the
    /// earliest such first.
    #[inline]
    fn release_ended(&mut self, key: Key, index: usize) -> Option<Event> {
        if self.pending.is_empty() {
            return None;
        }
        let ended = |(_, (event, from)): &(usize, &(Event, usize))| {
            (event.stamp, rank::REALLOC) < key || *from == index
        };
        let ended = self.pending.iter().enumerate().filter(ended);
        let (index, _) = ended.min_by_key(|(_, (event, _))| event.stamp)?;
        let (event, from) = self.pending.swap_remove(index);
        if event.failed {
            return Some(event);
        }
        // Another one may be about to leave the address that this one moved to.
        match self.release_vacating(event.address, event.stamp) {
            Some(earlier) => {
                self.pending.push((event, from));
                Some(earlier)
            }
            None => Some(event),
        }
    }

    /// Takes out the pending reallocation that leaves `address`, which something occupies at
    /// `stamp`; those that it waits for itself come first.
    #[cold]
    fn release_vacating(&mut self, mut address: u64, stamp: Stamp) -> Option<Event> {
        let mut found: Option<(Event, usize)> = None;
        // Each step takes one out, so that even a circle in a corrupt recording ends.
        for _ in 0..self.pending.len() {
            let vacates = |(event, _): &(Event, usize)| {
                event.old_address == address && !event.failed && address != 0
            };
            let Some(index) = self.pending.iter().position(vacates) else { break };
            let (mut event, from) = self.pending.swap_remove(index);
            event.stamp = event.stamp.min(stamp);
            address = event.address;
            if let Some(waiting) = found.replace((event, from)) {
                self.pending.push(waiting);
            }
        }
        found.map(|(event, _)| event)
    }
}

impl Cursor {
    fn new(chunks: std::ops::Range<usize>, first_stamp: Stamp) -> Self {
        Self {
            chunks,
            records: ChunkRecords::default(),
            payload_offset: 0,
            last_stamp: first_stamp,
        }
    }

    fn has_next(&self) -> bool {
        !self.records.is_empty()
    }

    /// Decodes further records unless some are there already, going on to the next chunk at the end of
    /// one.
    #[inline]
    fn fill(&mut self, source: &mut Source<'_>) -> Result<(), ReadError> {
        while !self.has_next() {
            match self.records.decode() {
                Ok(true) => {}
                Ok(false) => {
                    if !self.next_chunk(source)? {
                        return Ok(());
                    }
                }
                Err(error) => source.skipped.push(Skipped {
                    offset: self.payload_offset + error.offset,
                    bytes: self.records.row_bytes() as u64 - error.offset,
                    expected: error.expected.into(),
                    truncated: error.truncated,
                }),
            }
        }
        Ok(())
    }

    /// Loads the stream's next chunk; `false` where there is none.
    #[cold]
    fn next_chunk(&mut self, source: &mut Source<'_>) -> Result<bool, ReadError> {
        let recording = source.recording;
        let next = self.chunks.next();
        let next = next.and_then(|index| Some((index, recording.chunks().get(index)?)));
        let Some((index, chunk)) = next else {
            // Freed now: a recording can have many streams that ended long ago.
            self.records = ChunkRecords::default();
            return Ok(false);
        };
        source.load(index, chunk, &mut self.records)?;
        self.payload_offset = chunk.offset;
        Ok(true)
    }
}

/// Whether `next` is of the same stream as `chunk` and begins no earlier than that ends.
fn follows(chunk: &Chunk, next: &Chunk) -> bool {
    chunk.stream == next.stream && chunk.last_stamp().is_some_and(|last| last <= next.first_stamp)
}

/// Whether the event makes its address live.
#[inline]
fn occupies(event: &Event) -> bool {
    event.kind != EventKind::Free && !event.failed
}
