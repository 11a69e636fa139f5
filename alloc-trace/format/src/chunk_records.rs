//! The records of one chunk, decoded.
//!
//! A packed chunk is unpacked straight into them; of a chunk that is stored as rows they are decoded a
//! part at a time. Nearly all are plain events, which stand next to each other and take 40 bytes each: a
//! pass goes over them as over an array.

use std::collections::VecDeque;

use crate::decoder::{DecodeState, Decoded};
use crate::error::RecordError;
use crate::record::{Event, EventKind, NodeId, Record, Stamp, ThreadId};

/// How many records are decoded from rows at a time.
const BATCH: usize = 1_024;

/// A heap event as nearly all are: no reallocation, not failed, with nothing that few have. Its thread
/// is its [`Run`](crate::Run)'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunEvent {
    /// When, as [`Event::stamp`].
    pub stamp: Stamp,
    /// The block's address.
    pub address: u64,
    /// The requested size in bytes.
    pub size: u64,
    /// As [`Event::stack_pointer`].
    pub stack_pointer: u64,
    /// The backtrace.
    pub node: NodeId,
    /// What was asked; never a reallocation.
    pub kind: EventKind,
    /// The requested alignment, as a power of two.
    pub align_log2: u8,
}

impl RunEvent {
    /// An event before anything is known of it.
    pub(crate) const NONE: Self = Self {
        stamp: 0,
        address: 0,
        size: 0,
        stack_pointer: 0,
        node: NodeId::ROOT,
        kind: EventKind::Alloc,
        align_log2: 0,
    };

    /// The event of a thread.
    #[must_use]
    #[inline]
    pub const fn event(&self, thread: ThreadId) -> Event {
        let &Self { stamp, address, size, stack_pointer, node, kind, align_log2 } = self;
        let event = Event::new(kind, thread, stamp, address, size);
        Event { align_log2, node, stack_pointer, ..event }
    }

    /// An event as one of a run, if it can be one.
    #[inline]
    const fn of(event: &Event) -> Option<Self> {
        let &Event { stamp, address, size, stack_pointer, node, kind, align_log2, .. } = event;
        let is_plain = !matches!(kind, EventKind::Realloc)
            && !event.failed
            && event.kept_frames.is_none()
            && event.begin_stamp == stamp;
        if is_plain {
            Some(Self { stamp, address, size, stack_pointer, node, kind, align_log2 })
        } else {
            None
        }
    }
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// An event that stands in a run.
    Plain(&'a RunEvent),
    /// An event that does not.
    Event(&'a Event),
    /// No event.
    Other(&'a Record),
}

/// The records of a chunk that are still to come.
#[derive(Debug)]
pub(crate) struct ChunkRecords {
    /// Rows, how far they are decoded, and the state there.
    rows: Vec<u8>,
    offset: usize,
    state: DecodeState,
    /// Room for plain events, how many are there, how many of those are behind, and whose the next ones are.
    ///
    /// The room stays from one chunk to the next as it was left: so events are made where they stay.
    events: Vec<RunEvent>,
    filled: usize,
    passed: usize,
    thread: ThreadId,
    /// The other records, each with the number of plain events before it.
    others: VecDeque<(usize, Record)>,
    /// Whether the definitions of call-tree nodes are left out, and stack pointers mean nothing.
    in_brief: bool,
}

impl Default for ChunkRecords {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            offset: 0,
            state: DecodeState::START,
            events: Vec::new(),
            filled: 0,
            passed: 0,
            thread: ThreadId(0),
            others: VecDeque::new(),
            in_brief: false,
        }
    }
}

impl ChunkRecords {
    /// Forgets everything, but for the memory. What comes then is whole or in brief.
    pub(crate) fn clear(&mut self, in_brief: bool) {
        self.in_brief = in_brief;
        self.rows.clear();
        self.offset = 0;
        self.state = DecodeState::START;
        self.forget_passed();
        self.thread = ThreadId(0);
    }

    fn forget_passed(&mut self) {
        self.filled = 0;
        self.passed = 0;
        self.others.clear();
    }

    /// What rows are to be put in after [`Self::clear`].
    pub(crate) const fn rows_mut(&mut self) -> &mut Vec<u8> {
        &mut self.rows
    }

    /// Room for so many plain events behind all others: what is put there counts once
    /// [`Self::keep_behind`] says so.
    #[inline]
    pub(crate) fn behind<const N: usize>(&mut self) -> &mut [RunEvent; N] {
        if self.events.len() < self.filled + N {
            self.make_room(N);
        }
        let room = self.events.get_mut(self.filled..).and_then(<[_]>::first_chunk_mut);
        room.expect("room was made")
    }

    #[cold]
    fn make_room(&mut self, events: usize) {
        self.events.resize(self.filled + events, RunEvent::NONE);
    }

    /// So many of the plain events that were put behind all others are such.
    #[inline]
    pub(crate) fn keep_behind(&mut self, events: usize) {
        self.filled = (self.filled + events).min(self.events.len());
    }

    #[inline]
    fn push_event(&mut self, event: RunEvent) {
        match self.events.get_mut(self.filled) {
            Some(place) => *place = event,
            None => self.events.push(event),
        }
        self.filled += 1;
    }

    /// Adds any record behind all others.
    pub(crate) fn push_record(&mut self, record: Record) {
        if let Record::Event(event) = &record
            && let Some(event) = RunEvent::of(event)
        {
            self.push_event(event);
        } else {
            self.others.push_back((self.filled, record));
        }
    }

    /// There is room for so many plain events.
    pub(crate) fn reserve(&mut self, events: usize) {
        self.events.reserve(events.saturating_sub(self.events.len()));
    }

    /// How many records are there, behind or still to come.
    fn len(&self) -> usize {
        self.filled + self.others.len()
    }

    /// Decodes on in the rows where all before has passed; `false` at their end.
    ///
    /// # Errors
    ///
    /// Says where the record begins that could not be decoded. Those before it are there.
    pub(crate) fn decode(&mut self) -> Result<bool, RecordError> {
        self.forget_passed();
        let mut event = Event::NONE;
        while self.len() < BATCH {
            match self.state.next(&self.rows, &mut self.offset, &mut event) {
                Ok(Decoded::Event) => match RunEvent::of(&event) {
                    Some(event) => self.push_event(event),
                    None => self.others.push_back((self.filled, Record::Event(event))),
                },
                Ok(Decoded::Other(Record::Node(_))) if self.in_brief => {}
                Ok(Decoded::Other(record)) => self.push_record(record),
                Ok(Decoded::End) => break,
                Err(error) => {
                    self.offset = self.rows.len();
                    return Err(error);
                }
            }
        }
        Ok(!self.is_empty())
    }

    /// Whether the definitions of call-tree nodes and stack pointers are not wanted.
    pub(crate) const fn is_in_brief(&self) -> bool {
        self.in_brief
    }

    /// How long the rows are.
    pub(crate) const fn row_bytes(&self) -> usize {
        self.rows.len()
    }

    /// Whether all that was decoded has passed.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.passed == self.filled && self.others.is_empty()
    }

    /// The thread of the plain events that come next.
    #[inline]
    pub(crate) const fn thread(&self) -> ThreadId {
        self.thread
    }

    /// What comes next.
    #[inline]
    pub(crate) fn next(&self) -> Option<Next<'_>> {
        match self.others.front() {
            Some((before, record)) if *before == self.passed => Some(match record {
                Record::Event(event) => Next::Event(event),
                record => Next::Other(record),
            }),
            _ => self.events.get(self.passed..self.filled)?.first().map(Next::Plain),
        }
    }

    /// Goes on by one plain event.
    #[inline]
    pub(crate) const fn pass_event(&mut self) {
        self.passed += 1;
    }

    /// Takes out the next record, which is no plain event.
    pub(crate) fn take_other(&mut self) -> Option<Record> {
        let (_, record) = self.others.pop_front()?;
        if let Record::Context(context) = &record {
            self.thread = context.thread;
        }
        Some(record)
    }

    /// The next event, whatever comes before it; `None` at the end, or where the rest cannot be read.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        loop {
            match self.next() {
                Some(Next::Plain(event)) => {
                    let event = event.event(self.thread);
                    self.pass_event();
                    return Some(event);
                }
                Some(Next::Event(&event)) => {
                    self.take_other();
                    return Some(event);
                }
                Some(Next::Other(_)) => drop(self.take_other()),
                None => {
                    // What could be decoded before damage is there.
                    let _ = self.decode();
                    if self.is_empty() {
                        return None;
                    }
                }
            }
        }
    }

    /// Goes on by the plain events that come next, are before `stamp` and such that `keep` says so, at
    /// most so many, and gives them.
    #[inline]
    pub(crate) fn pass_run(
        &mut self,
        most: usize,
        stamp: Stamp,
        mut keep: impl FnMut(ThreadId, &RunEvent) -> bool,
    ) -> &[RunEvent] {
        let thread = self.thread();
        let end = self.others.front().map_or(self.filled, |(before, _)| *before);
        let end = end.min(self.passed.saturating_add(most));
        let run = self.events.get(self.passed..end).unwrap_or_default();
        // Nearly always all are. Stamps never decrease between two other records.
        let length = match run.last() {
            Some(last) if last.stamp >= stamp => run.partition_point(|event| event.stamp < stamp),
            _ => run.len(),
        };
        let run = &run[..length];
        let length = run.iter().position(|event| !keep(thread, event)).unwrap_or(length);
        self.passed += length;
        &run[..length]
    }
}
