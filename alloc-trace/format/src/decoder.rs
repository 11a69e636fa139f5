//! Bytes into records. Every byte is doubted: what cannot be decoded is a [`RecordError`].

use crate::clock::Anchor;
use crate::compact::{self, Compact, Last, Site, WORD_BYTES};
use crate::error::RecordError;
use crate::heap_snapshot::HeapSnapshot;
use crate::input::{Fault, Input};
use crate::record::{
    Context, Event, EventKind, Module, ModuleUnload, NodeDefinition, NodeId, Process, Record, Span,
    SpanId, Stamp, ThreadId, ThreadStart, end_reason, kind, span, tag,
};
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

/// An event that is no reallocation, did not fail, and has nothing unusual.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainEvent {
    /// The kind, as in its record.
    pub(crate) tag: u8,
    pub(crate) align_log2: u8,
    /// Since the previous record.
    pub(crate) ticks: u64,
    pub(crate) size: u64,
    pub(crate) address: u64,
    pub(crate) node: NodeId,
    pub(crate) stack_pointer: u64,
}

impl PlainEvent {
    /// Its kind.
    #[inline(always)]
    pub(crate) const fn kind(&self) -> EventKind {
        Self::kind_of(self.tag)
    }

    /// The kind of plain events that have a tag.
    #[inline(always)]
    pub(crate) const fn kind_of(tag: u8) -> EventKind {
        // A table: what comes next is anybody's guess, and the compiler makes branches of a `match`.
        const KINDS: [EventKind; 8] = {
            let mut kinds = [EventKind::Free; 8];
            kinds[tag::ALLOC as usize] = EventKind::Alloc;
            kinds[tag::ALLOC_ZEROED as usize] = EventKind::AllocZeroed;
            kinds
        };
        KINDS[(tag & tag::KIND_MASK) as usize]
    }

    /// Where it came from.
    #[inline(always)]
    pub(crate) const fn site(&self) -> Site {
        let Self { node, align_log2, stack_pointer, .. } = *self;
        Site { node, align_log2: align_log2 as u32, stack_pointer }
    }

    /// The event, at a stamp.
    #[inline(always)]
    pub(crate) const fn event(&self, thread: ThreadId, stamp: Stamp) -> Event {
        Event {
            kind: self.kind(),
            failed: false,
            thread,
            stamp,
            begin_stamp: stamp,
            address: self.address,
            size: self.size,
            align_log2: self.align_log2,
            old_address: 0,
            old_size: 0,
            node: self.node,
            stack_pointer: self.stack_pointer,
            kept_frames: None,
        }
    }
}

/// The kinds that a [`PlainEvent`] can have, each a bit.
pub(crate) const PLAIN_KINDS: u8 = 1 << tag::ALLOC | 1 << tag::ALLOC_ZEROED | 1 << tag::FREE;

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

    /// Passes over an extended record.
    fn pass_extended(&mut self, input: &mut Input<'_>) -> Result<Row, Fault> {
        let kind = input.varint("a record's kind")?;
        let length = input.varint("a record's length")?;
        let length = usize::try_from(length).map_err(|_| Fault::truncated("a record's body"))?;
        let mut body = Input::at(input.take(length, "a record's body")?, 0);
        let kind = u8::try_from(kind).unwrap_or(0);
        if kind == kind::CONTEXT {
            let thread = ThreadId(body.u32("a thread")?);
            *self = Self { thread, stamp: body.fixed("a stamp")?, placed: true, ..Self::START };
            return Ok(Row::Context);
        }
        if !self.placed {
            return Err(Fault::corrupt("a context, which begins every chunk"));
        }
        if kind::is_stamped(kind) {
            self.advance(&mut body)?;
        }
        Ok(Row::Other)
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

    fn extended(&mut self, input: &mut Input<'_>) -> Result<Record, Fault> {
        let kind = input.varint("a record's kind")?;
        let length = input.varint("a record's length")?;
        let length = usize::try_from(length).map_err(|_| Fault::truncated("a record's body"))?;
        let mut body = Input::at(input.take(length, "a record's body")?, 0);
        if !self.placed && kind != u64::from(kind::CONTEXT) {
            return Err(Fault::corrupt("a context, which begins every chunk"));
        }
        let record = self.body(kind, &mut body);
        // The body is whole: a field that ends too early in it is a contradiction, not a cut.
        record.map_err(Fault::within)
    }

    fn body(&mut self, kind: u64, body: &mut Input<'_>) -> Result<Record, Fault> {
        let Ok(kind) = u8::try_from(kind) else {
            return Ok(Record::Unknown { kind });
        };
        Ok(match kind {
            kind::CONTEXT => {
                let thread = ThreadId(body.u32("a thread")?);
                let stamp = body.fixed("a stamp")?;
                let anchor =
                    Anchor { ticks: body.fixed("a stamp")?, monotonic_ns: body.fixed("a time")? };
                *self = Self { thread, stamp, placed: true, ..Self::START };
                Record::Context(Context { thread, stamp, anchor })
            }
            kind::PROCESS => Record::Process(Box::new(Process {
                pid: body.u32("a process id")?,
                parent_pid: body.u32("a process id")?,
                executable: body.text("a path")?,
                arguments: body.text("arguments")?.split_terminator('\0').map(Box::from).collect(),
            })),
            kind::THREAD_START => {
                let stamp = self.advance(body)?;
                Record::ThreadStart(ThreadStart {
                    stamp,
                    thread: ThreadId(body.u32("a thread")?),
                    os_thread: body.u32("a thread")?,
                    internal: body.byte("a flag")? != 0,
                    name: body.text("a name")?,
                })
            }
            kind::THREAD_NAME => Record::ThreadName {
                thread: ThreadId(body.u32("a thread")?),
                name: body.text("a name")?,
            },
            kind::THREAD_EXIT => {
                Record::ThreadExit { stamp: self.advance(body)?, thread: self.thread }
            }
            kind::MODULE => Record::Module(Box::new(Module {
                stamp: self.advance(body)?,
                bias: body.varint("a load bias")?,
                start: body.varint("an address")?,
                end: body.varint("an address")?,
                build_id: body.bytes("a build id")?.into(),
                path: body.text("a path")?,
            })),
            kind::MODULE_UNLOAD => Record::ModuleUnload(ModuleUnload {
                stamp: self.stamp,
                start: body.varint("an address")?,
                end: body.varint("an address")?,
                first_node: NodeId(body.u32("a call-tree node")?),
            }),
            kind::SPAN => {
                let stamp = self.advance(body)?;
                let id = SpanId(body.varint("a span")?);
                let parent = body.varint("a span")?;
                let level = body.byte("a level")?;
                let (name, target) = (body.text("a name")?, body.text("a target")?);
                let fields = body.text("fields")?;
                if level == span::FIELDS {
                    Record::SpanFields { stamp, thread: self.thread, span: id, fields }
                } else {
                    Record::Span(Box::new(Span {
                        id,
                        stamp,
                        parent: (parent != 0).then_some(SpanId(parent)),
                        again: level & span::AGAIN != 0,
                        level: level & !span::AGAIN,
                        name,
                        target,
                        fields,
                    }))
                }
            }
            kind::SPAN_ENTER => Record::SpanEnter {
                stamp: self.advance(body)?,
                thread: self.thread,
                span: SpanId(body.varint("a span")?),
            },
            kind::SPAN_EXIT => Record::SpanExit {
                stamp: self.advance(body)?,
                thread: self.thread,
                span: SpanId(body.varint("a span")?),
            },
            kind::SPAN_CLOSE => Record::SpanClose {
                stamp: self.advance(body)?,
                span: SpanId(body.varint("a span")?),
            },
            kind::MARKER => Record::Marker {
                stamp: self.advance(body)?,
                thread: self.thread,
                text: body.text("a marker")?,
            },
            kind::RESIDENT => Record::Resident {
                stamp: self.advance(body)?,
                bytes: body.varint("a number of bytes")?,
            },
            kind::HEAP_SNAPSHOT | kind::HEAP_SNAPSHOT_WITHOUT_FILL => {
                let with_fill = kind == kind::HEAP_SNAPSHOT;
                let snapshot = HeapSnapshot::decode(self.stamp, body, with_fill)?;
                Record::HeapSnapshot(Box::new(snapshot))
            }
            kind::LOST => {
                Record::Lost { thread: self.thread, records: body.varint("a number of records")? }
            }
            kind::END => Record::End {
                stamp: self.advance(body)?,
                reason: end_reason(body.byte("a reason")?),
                events: body.varint("a number of events")?,
            },
            other => Record::Unknown { kind: u64::from(other) },
        })
    }

    /// Reads the difference from the previous stamp.
    #[inline]
    fn advance(&mut self, input: &mut Input<'_>) -> Result<Stamp, Fault> {
        self.stamp = self
            .stamp
            .checked_add(input.varint("a stamp")?)
            .ok_or(Fault::corrupt("a stamp below 2^64"))?;
        Ok(self.stamp)
    }
}
