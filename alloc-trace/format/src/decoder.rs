//! Bytes into records. Every byte is doubted: what cannot be decoded is a [`RecordError`].

mod extended;

use crate::compact::{self, Compact, Last, Site, WORD_BYTES};
use crate::error::RecordError;
use crate::input::{Fault, Input};
use crate::plain_event::{PLAIN_KINDS, PlainEvent};
use crate::record::{Event, EventKind, NodeDefinition, NodeId, Record, Stamp, ThreadId, tag};
use crate::varint;

/// What the differences of the next record are taken against: the mirror of the encoder's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeState {
    thread: ThreadId,
    stamp: Stamp,
    last: Last,
    defined: NodeId,
    frame_address: u64,
    /// Whether a context was seen: nothing else can be a chunk's first record.
    placed: bool,
}

/// Decodes the records of one chunk's payload, in order.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    payload: &'a [u8],
    offset: usize,
    state: DecodeState,
}

impl<'a> Decoder<'a> {
    /// A decoder at the beginning of a chunk's payload.
    #[must_use]
    pub fn new(payload: &'a [u8]) -> Self {
        Self::resume(payload, 0, DecodeState::START)
    }

    /// A decoder that goes on at `offset` of a chunk's payload, where an earlier one stopped.
    #[must_use]
    pub const fn resume(payload: &'a [u8], offset: usize, state: DecodeState) -> Self {
        Self { payload, offset, state }
    }

    /// Where the next record begins, and the state it is decoded from.
    #[must_use]
    pub const fn position(&self) -> (usize, DecodeState) {
        (self.offset, self.state)
    }

    /// Decodes the next record; `None` at the end of the payload.
    ///
    /// # Errors
    ///
    /// Says where the record begins that could not be decoded. The decoder stays there: nothing
    /// behind a broken record can be trusted, and every later call gives the same answer.
    #[inline]
    pub fn next_record(&mut self) -> Result<Option<Record>, RecordError> {
        let mut event = Event::NONE;
        Ok(match self.state.next(self.payload, &mut self.offset, &mut event)? {
            Decoded::Event => Some(Record::Event(event)),
            Decoded::Other(record) => Some(record),
            Decoded::End => None,
        })
    }

    /// Decodes on to the next record that is no heap event, and counts the events before it; the
    /// record is `None` at the end of the payload.
    ///
    /// # Errors
    ///
    /// As [`Decoder::next_record`]; the events before the broken record are counted too.
    pub(crate) fn next_other(&mut self, events: &mut u64) -> Result<Option<Record>, RecordError> {
        let mut event = Event::NONE;
        loop {
            match self.state.next(self.payload, &mut self.offset, &mut event)? {
                Decoded::Event => *events += 1,
                Decoded::Other(record) => return Ok(Some(record)),
                Decoded::End => return Ok(None),
            }
        }
    }
}

/// What [`DecodeState::next`] found.
///
/// Nearly all records are events, and a record is large to move: an event is left in place.
#[derive(Debug)]
pub(crate) enum Decoded {
    /// An event, which is where the caller wanted it.
    Event,
    /// Any other record.
    Other(Record),
    /// The end of the payload.
    End,
}

/// What [`DecodeState::next_row`] found.
#[derive(Debug)]
pub(crate) enum Row {
    /// An event, which is where the caller wanted it.
    Event,
    /// A node of the call tree.
    Node(NodeDefinition),
    /// A context.
    Context,
    /// Any other record: only what the next one is decoded from was read of it.
    Other,
    /// The end of the payload.
    End,
}

/// Whether a heap event begins with this byte.
#[inline]
const fn is_event(first: u8) -> bool {
    let kinds = PLAIN_KINDS | 1 << tag::REALLOC | 1 << tag::COMPACT | 1 << tag::COMPACT_AT_SITE;
    1 << (first & tag::KIND_MASK) & kinds != 0
}

/// The kind of the heap event that begins with this byte, if one does that is not compact.
#[inline]
const fn event_kind(first: u8) -> Option<EventKind> {
    match first & tag::KIND_MASK {
        tag::ALLOC => Some(EventKind::Alloc),
        tag::ALLOC_ZEROED => Some(EventKind::AllocZeroed),
        tag::REALLOC => Some(EventKind::Realloc),
        tag::FREE => Some(EventKind::Free),
        _ => None,
    }
}

impl Default for DecodeState {
    fn default() -> Self {
        Self::START
    }
}

impl DecodeState {
    /// The state before a chunk's first record.
    pub(crate) const START: Self = Self {
        thread: ThreadId(0),
        stamp: 0,
        last: Last::NONE,
        defined: NodeId::ROOT,
        frame_address: 0,
        placed: false,
    };

    /// The state in front of a record of a thread, the stamps of which count on from `stamp`.
    pub(crate) const fn of(thread: ThreadId, stamp: Stamp) -> Self {
        Self { thread, stamp, placed: true, ..Self::START }
    }

    /// Whether a context came, which begins every chunk.
    pub(crate) const fn is_placed(&self) -> bool {
        self.placed
    }

    /// The thread whose records come.
    pub(crate) const fn thread(&self) -> ThreadId {
        self.thread
    }

    /// The last stamp decoded.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Time has gone on to `stamp`.
    pub(crate) const fn advance_to(&mut self, stamp: Stamp) {
        self.stamp = stamp;
    }

    /// What is known of the events so far.
    pub(crate) const fn last_mut(&mut self) -> &mut Last {
        &mut self.last
    }

    /// A node was defined.
    pub(crate) const fn define(&mut self, node: &NodeDefinition) {
        (self.defined, self.frame_address) = (node.id, node.address);
    }

    /// The last defined node.
    pub(crate) const fn defined(&self) -> NodeId {
        self.defined
    }

    /// The last defined node's return address.
    pub(crate) const fn frame_address(&self) -> u64 {
        self.frame_address
    }

    /// Decodes the record at `offset` of a chunk's payload, an event into `event`. Where it cannot
    /// be decoded, state and offset stay as they are, and `event` means nothing.
    #[inline]
    pub(crate) fn next(
        &mut self,
        payload: &[u8],
        offset: &mut usize,
        event: &mut Event,
    ) -> Result<Decoded, RecordError> {
        if let Some(plain) = self.next_compact(payload, offset) {
            *event = plain.event(self.thread, self.stamp);
            return Ok(Decoded::Event);
        }
        let Some(&first) = payload.get(*offset) else { return Ok(Decoded::End) };
        let mut input = Input::at(payload, *offset);
        if self.placed && is_event(first) {
            return match self.event_of(first, &mut input, event) {
                Ok(()) => {
                    *offset = input.offset();
                    Ok(Decoded::Event)
                }
                Err(fault) => Err(fault.at(*offset)),
            };
        }
        match self.rare(&mut input) {
            Ok(record) => {
                *offset = input.offset();
                Ok(Decoded::Other(record))
            }
            Err(fault) => Err(fault.at(*offset)),
        }
    }

    /// Decodes the event at `offset` if it is a compact one, as nearly all are, and not one of the last few
    /// bytes; otherwise all stays as it is, and [`Self::next`] or [`Self::next_row`] knows why.
    #[inline(always)]
    pub(crate) fn next_compact(
        &mut self,
        payload: &[u8],
        offset: &mut usize,
    ) -> Option<PlainEvent> {
        let bytes = payload.get(*offset..)?.first_chunk::<{ 2 * WORD_BYTES }>()?;
        let [word, second] = [0, WORD_BYTES].map(|at| {
            let mut word = [0; WORD_BYTES];
            word.copy_from_slice(&bytes[at..at + WORD_BYTES]);
            u64::from_le_bytes(word)
        });
        let kind = word as u8 & tag::KIND_MASK;
        if kind < tag::COMPACT || !self.placed {
            return None;
        }
        let same_site = kind == tag::COMPACT;
        let event = self.compact(word, same_site, second)?;
        *offset += if same_site { WORD_BYTES } else { 2 * WORD_BYTES };
        Some(event)
    }

    /// As [`Self::next`], without allocating: of records other than events and nodes only their length
    /// and what they leave for the next one are found out.
    #[inline]
    pub(crate) fn next_row(
        &mut self,
        payload: &[u8],
        offset: &mut usize,
        event: &mut Event,
    ) -> Result<Row, RecordError> {
        let Some(&first) = payload.get(*offset) else { return Ok(Row::End) };
        let mut input = Input::at(payload, *offset);
        let found = if !self.placed && first != tag::EXTENDED {
            Err(Fault::corrupt("a context, which begins every chunk"))
        } else if is_event(first) {
            self.event_of(first, &mut input, event).map(|()| Row::Event)
        } else if first == tag::NODE {
            input.pass_byte();
            self.node(&mut input).map(Row::Node)
        } else {
            self.rare_row(first, &mut input)
        };
        match found {
            Ok(row) => {
                *offset = input.offset();
                Ok(row)
            }
            Err(fault) => Err(fault.at(*offset)),
        }
    }

    #[cold]
    fn rare_row(&mut self, first: u8, input: &mut Input<'_>) -> Result<Row, Fault> {
        let mut state = *self;
        input.pass_byte();
        let row = match first {
            tag::EXTENDED => state.pass_extended(input)?,
            _ => return Err(Fault::corrupt("a record's tag")),
        };
        *self = state;
        Ok(row)
    }

    /// Decodes a record that is no event.
    #[cold]
    fn rare(&mut self, input: &mut Input<'_>) -> Result<Record, Fault> {
        let mut state = *self;
        let record = state.other(input)?;
        *self = state;
        Ok(record)
    }

    fn other(&mut self, input: &mut Input<'_>) -> Result<Record, Fault> {
        let first = input.byte("a record")?;
        if !self.placed && first != tag::EXTENDED {
            return Err(Fault::corrupt("a context, which begins every chunk"));
        }
        match first {
            tag::NODE => self.node(input).map(Record::Node),
            tag::EXTENDED => self.extended(input),
            _ => Err(Fault::corrupt("a record's tag")),
        }
    }

    /// Decodes the event that begins with `first`. The state changes only where all of it is there.
    #[inline]
    fn event_of(
        &mut self,
        first: u8,
        input: &mut Input<'_>,
        event: &mut Event,
    ) -> Result<(), Fault> {
        if let Some(kind) = event_kind(first) {
            input.pass_byte();
            return self.event(kind, first, input, event);
        }
        let word = input.fixed("a compact event")?;
        let same_site = first & tag::KIND_MASK == tag::COMPACT;
        let second = if same_site { 0 } else { input.fixed("a compact event's site")? };
        let plain = self.compact(word, same_site, second);
        let plain = plain.ok_or(Fault::corrupt("a compact event of a known kind"))?;
        *event = plain.event(self.thread, self.stamp);
        Ok(())
    }

    /// Decodes a compact event. The state changes only where it is one.
    #[inline(always)]
    fn compact(&mut self, word: u64, same_site: bool, second: u64) -> Option<PlainEvent> {
        let Compact { tag, ticks, size, way } = Compact::of(word);
        let stamp = self.stamp.checked_add(ticks)?;
        if 1 << tag & PLAIN_KINDS == 0 {
            return None;
        }
        let address = self.last.address_of(tag).wrapping_add(way);
        if same_site {
            self.last.came_again(tag, address);
        } else {
            self.last.came_from(tag, compact::site(self.last.site(), second), address);
        }
        self.stamp = stamp;
        let Site { node, align_log2, stack_pointer } = *self.last.site();
        let align_log2 = align_log2 as u8;
        Some(PlainEvent { tag, align_log2, ticks, size, address, node, stack_pointer })
    }

    /// Decodes an event behind its first byte. The state changes only where all of it is there.
    #[inline]
    fn event(
        &mut self,
        kind: EventKind,
        first: u8,
        input: &mut Input<'_>,
        event: &mut Event,
    ) -> Result<(), Fault> {
        let realloc = matches!(kind, EventKind::Realloc);
        let failed = first & tag::FAILED != 0;
        let mut lengths = input.lengths("the lengths of an event's fields")?;
        let mut align_log2 = first >> tag::ALIGN_SHIFT;
        if align_log2 == tag::ALIGN_FOLLOWS {
            align_log2 = input.byte("an alignment")?;
            if align_log2 > 63 {
                return Err(Fault::corrupt("an alignment below 64 bits"));
            }
        }
        let kept_follow = lengths.has_more();
        let ticks = input.field(&mut lengths, "a stamp")?;
        let stamp = self.stamp.checked_add(ticks).ok_or(Fault::corrupt("a stamp below 2^64"))?;
        let size = input.field(&mut lengths, "a size")?;
        let difference = input.field(&mut lengths, "an address")?;
        let mut address = varint::apply_difference(self.last.address(), difference);
        let difference = input.field(&mut lengths, "a call-tree node")?;
        let last = *self.last.site();
        let node = varint::apply_difference(u64::from(last.node.0), difference);
        let node = u32::try_from(node).map_err(|_| Fault::corrupt("a node's number below 2^32"))?;
        let difference = input.field(&mut lengths, "a stack pointer")?;
        let stack_pointer = varint::apply_difference(last.stack_pointer, difference);
        let kept_frames = if kept_follow { Some(input.kept_frames()?) } else { None };
        *event = Event {
            kind,
            failed,
            thread: self.thread,
            stamp,
            begin_stamp: stamp,
            address: if failed { 0 } else { address },
            size,
            align_log2,
            old_address: 0,
            old_size: 0,
            node: NodeId(node),
            stack_pointer,
            kept_frames,
        };
        if realloc {
            let mut lengths = input.lengths("the lengths of a reallocation's fields")?;
            event.old_address = address;
            event.old_size = size;
            event.size = input.field(&mut lengths, "a new size")?;
            let duration = input.field(&mut lengths, "a duration")?;
            event.begin_stamp = stamp.saturating_sub(duration);
            let difference = input.field(&mut lengths, "a new address")?;
            address = varint::apply_difference(address, difference);
            event.address = if failed { 0 } else { address };
        }
        self.stamp = stamp;
        let (node, align_log2) = (event.node, u32::from(align_log2));
        let site = Site { node, align_log2, stack_pointer };
        self.last.came_from(first & tag::KIND_MASK, site, address);
        Ok(())
    }

    /// Decodes a node behind its first byte. The state changes only where all of it is there.
    fn node(&mut self, input: &mut Input<'_>) -> Result<NodeDefinition, Fault> {
        let id = input.node(self.defined, "a node's number")?;
        // The parent is stored as the way from it to the node, which is mostly one step.
        let way = input.varint("a node's parent")?;
        let parent = u64::from(id.0).wrapping_sub(varint::apply_difference(0, way));
        let parent =
            u32::try_from(parent).map_err(|_| Fault::corrupt("a parent's number below 2^32"))?;
        let difference = input.varint("a return address")?;
        let address = varint::apply_difference(self.frame_address, difference);
        if id.is_root() {
            return Err(Fault::corrupt("a node's number beyond the roots'"));
        }
        let node = NodeDefinition { id, parent: NodeId(parent), address };
        self.define(&node);
        Ok(node)
    }
}
