//! Columns into rows, or into what rows would be decoded to. Every byte is doubted, and no input makes
//! it allocate more than a few times the length that the chunk's header states, or than a chunk can have.

use std::error::Error;
use std::fmt;
use std::slice::Iter;

use super::model::{BLOCKS, Block, Blocks, Model};
use super::pack::{HEAD_BYTES, LENGTHS_BYTES, on_heap};
use super::{
    ADDRESS_0, ADDRESS_1, ADDRESS_HIGH, AGE_0, AGE_1, ALIGN, COLUMNS, CONTROL, DEPTH, NODE_0,
    NODE_1, NODE_HIGH, OTHER, REALLOC, SIZE, SIZE_HIGH, STACK, UNUSUAL, control, unusual,
};
use crate::chunk_records::{ChunkRecords, RunEvent};
use crate::compact::Site;
use crate::decoder::{DecodeState, Decoded, PLAIN_KINDS, PlainEvent, Row};
use crate::encoder::{Encoder, MAX_EVENT_BYTES};
use crate::header::array;
use crate::record::{Event, EventKind, NodeDefinition, NodeId, Record, Stamp, tag};
use crate::recording::MAX_CHUNK_BYTES;
use crate::varint;

/// The tag of the plain event that each control byte begins, 0 where it does not: a look into a table takes
/// fewer instructions than asking for each bit.
const PLAIN_TAGS: [u8; 256] = {
    let mut tags = [0; 256];
    let mut control = 0;
    while control < tags.len() {
        let kind = control as u8 & control::KIND_MASK;
        let tag = if kind == control::ALLOC_AT_DEPTH { tag::ALLOC } else { kind };
        let is_unusual = control as u8 >> control::SITE_SHIFT == control::SITE_UNUSUAL;
        if 1 << tag & PLAIN_KINDS != 0 && !is_unusual {
            tags[control] = tag;
        }
        control += 1;
    }
    tags
};

/// All columns together are at most so many times as long as the rows.
const LONGEST_COLUMNS: u64 = 4;

/// What should have stood in the columns.
pub(crate) type Expected = &'static str;

/// Why a packed chunk could not be unpacked, or not to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnpackError {
    /// What should have stood in its columns.
    pub expected: &'static str,
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "corrupt columns: expected {}", self.expected)
    }
}

impl Error for UnpackError {}

/// Brings the records back that a [`Packer`](crate::Packer) packed. What it works in is kept from one
/// chunk to the next.
#[derive(Default)]
pub struct Unpacker {
    model: Option<Box<Model>>,
    blocks: Option<Box<[Block; BLOCKS]>>,
    inflater: Inflater,
}

/// Decompresses columns. Its memory is kept from one chunk to the next.
#[derive(Default)]
pub(super) struct Inflater {
    /// The columns, one behind the other.
    bytes: Vec<u8>,
    decompressor: Option<zstd_safe::DCtx<'static>>,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

impl Unpacker {
    /// Appends the payload of a packed chunk to `rows`, which its header says to be `raw_bytes` long.
    ///
    /// # Errors
    ///
    /// Where the columns contradict themselves; the records before are in `rows`.
    pub fn unpack(
        &mut self,
        packed: &[u8],
        raw_bytes: u32,
        rows: &mut Vec<u8>,
    ) -> Result<(), UnpackError> {
        self.rows(packed, raw_bytes, rows).map_err(|expected| UnpackError { expected })
    }

    fn rows(&mut self, packed: &[u8], raw_bytes: u32, rows: &mut Vec<u8>) -> Result<(), Expected> {
        let mut rows = Rows::behind(rows, raw_bytes);
        let result = self.rebuild(packed, raw_bytes, &mut rows);
        rows.finish();
        result
    }

    /// Adds the records of a packed chunk to `records`: what [`Unpacker::unpack`] makes rows of.
    ///
    /// # Errors
    ///
    /// Where the columns contradict themselves; the records before are in `records`.
    pub(crate) fn unpack_records(
        &mut self,
        packed: &[u8],
        raw_bytes: u32,
        records: &mut ChunkRecords,
    ) -> Result<(), UnpackError> {
        self.rebuild(packed, raw_bytes, records).map_err(|expected| UnpackError { expected })
    }

    fn rebuild(
        &mut self,
        packed: &[u8],
        raw_bytes: u32,
        sink: &mut impl Sink,
    ) -> Result<(), Expected> {
        let (rounding, lengths) = self.inflater.inflate(packed, raw_bytes, |_| true)?;
        let model = self.model.get_or_insert_with(Model::boxed);
        model.reset(rounding);
        let blocks = self.blocks.get_or_insert_with(|| on_heap(Block::NONE));
        let mut columns = Columns::new(self.inflater.bytes(), &lengths);
        sink.expect(lengths[CONTROL], raw_bytes);
        let state = DecodeState::START;
        Rebuild { model, blocks: Blocks::new(blocks), state, sink }.records(&mut columns)
    }
}

impl Inflater {
    /// The columns that were decompressed last, one behind the other.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Decompresses those columns that are `needed`; answers the rounding and the length that is stated
    /// of every column.
    pub(super) fn inflate(
        &mut self,
        packed: &[u8],
        raw_bytes: u32,
        needed: impl Fn(usize) -> bool,
    ) -> Result<(u8, [usize; COLUMNS]), Expected> {
        let cut = "the lengths of a chunk's columns";
        let [columns, rounding, ..] = array::<HEAD_BYTES>(packed, 0).ok_or(cut)?;
        if usize::from(columns) != COLUMNS {
            return Err("a known number of columns");
        }
        let mut lengths = [0; COLUMNS];
        let mut total = 0u64;
        let mut stored_total = 0u64;
        let mut stored = [0; COLUMNS];
        for index in 0..COLUMNS {
            let place = HEAD_BYTES + index * LENGTHS_BYTES;
            let both = u64::from_le_bytes(array(packed, place).ok_or(cut)?);
            let (raw, kept) = (both as u32, (both >> 32) as u32);
            lengths[index] = raw as usize;
            stored[index] = kept as usize;
            total += u64::from(raw);
            stored_total += u64::from(kept);
        }
        let head_bytes = HEAD_BYTES + COLUMNS * LENGTHS_BYTES;
        if total > LONGEST_COLUMNS * u64::from(raw_bytes) + COLUMNS as u64
            || stored_total != (packed.len() - head_bytes) as u64
        {
            return Err("columns of the stated lengths");
        }
        let total = (0..COLUMNS).filter(|&index| needed(index)).map(|index| lengths[index]).sum();
        // What is left of the chunk before is written over.
        self.bytes.resize(total, 0);
        let mut rest = self.bytes.as_mut_slice();
        let mut at = head_bytes;
        for (index, &kept) in stored.iter().enumerate() {
            if !needed(index) {
                at += kept;
                continue;
            }
            let raw = lengths[index];
            let (column, behind) = rest.split_at_mut_checked(raw).ok_or(cut)?;
            let source = packed.get(at..at + kept).ok_or(cut)?;
            if kept == raw {
                column.copy_from_slice(source);
            } else {
                let context = self.decompressor.get_or_insert_with(zstd_safe::DCtx::create);
                let written = context.decompress(column, source);
                if written != Ok(raw) {
                    return Err("a column that can be decompressed");
                }
            }
            rest = behind;
            at += kept;
        }
        Ok((rounding, lengths))
    }
}

/// The columns as they are read.
pub(super) struct Columns<'a> {
    /// What is left of each.
    rest: [Iter<'a, u8>; COLUMNS],
}

impl<'a> Columns<'a> {
    fn new(bytes: &'a [u8], lengths: &[usize; COLUMNS]) -> Self {
        let mut behind = bytes;
        let rest = lengths.map(|length| {
            let (column, after) = behind.split_at_checked(length).unwrap_or_default();
            behind = after;
            column.iter()
        });
        Self { rest }
    }

    /// Columns that have been read to some place, each from there to its end.
    pub(super) fn at(bytes: &'a [u8], places: &[(usize, usize); COLUMNS]) -> Self {
        Self { rest: places.map(|(begin, end)| bytes.get(begin..end).unwrap_or_default().iter()) }
    }

    /// What is left of a column.
    pub(super) fn rest(&self, column: usize) -> &'a [u8] {
        self.rest[column].as_slice()
    }

    /// How much is left of each column.
    pub(super) fn lengths(&self) -> [usize; COLUMNS] {
        self.rest.each_ref().map(|rest| rest.len())
    }

    /// Goes on by so many bytes in a column.
    pub(super) fn pass(&mut self, column: usize, bytes: usize) {
        self.rest[column] = self.rest(column).get(bytes..).unwrap_or_default().iter();
    }

    /// Goes on to `rest` of a column.
    #[inline(always)]
    pub(super) fn go_on(&mut self, column: usize, rest: &'a [u8]) {
        self.rest[column] = rest.iter();
    }

    #[inline(always)]
    pub(super) fn next_byte(&mut self, column: usize) -> Option<u8> {
        self.rest[column].next().copied()
    }

    #[inline(always)]
    pub(super) fn byte(&mut self, column: usize) -> Result<u64, Expected> {
        self.next_byte(column).map(u64::from).ok_or("a longer column of bytes")
    }

    #[inline]
    pub(super) fn varint(&mut self, column: usize) -> Result<u64, Expected> {
        match self.rest[column].as_slice() {
            [byte, ..] if *byte < 0x80 => {
                self.rest[column].next();
                Ok(u64::from(*byte))
            }
            [low, high, ..] if *high < 0x80 => {
                self.pass(column, 2);
                Ok(u64::from(low & 0x7f) | u64::from(*high) << 7)
            }
            _ => self.long_varint(column),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self, column: usize) -> Result<u64, Expected> {
        let read = varint::read(self.rest(column));
        let (value, length) = read.ok_or("a longer column of numbers")?;
        self.pass(column, length);
        Ok(value)
    }

    /// Two bytes of a number, and the rest of it.
    #[inline(always)]
    fn split(&mut self, low: usize, middle: usize, high: usize) -> Result<u64, Expected> {
        let rest = self.byte(high)?;
        let rest = if rest < 0xff { rest } else { self.varint(high)?.wrapping_add(rest) };
        Ok(self.byte(low)? | self.byte(middle)? << 8 | rest << 16)
    }

    #[inline(always)]
    fn size(&mut self) -> Result<u64, Expected> {
        let low = self.byte(SIZE)?;
        if low < 0xff { Ok(low) } else { Ok(self.varint(SIZE_HIGH)?.wrapping_add(low)) }
    }
}

/// What becomes of the records.
trait Sink {
    /// About so many are to come, of a chunk whose header states a length of `raw_bytes`.
    fn expect(&mut self, records: usize, raw_bytes: u32);

    /// A plain event, at a stamp.
    fn plain_event(&mut self, event: &PlainEvent, stamp: Stamp) -> Result<(), Expected>;

    fn event(&mut self, event: &Event) -> Result<(), Expected>;

    fn node(&mut self, node: &NodeDefinition) -> Result<(), Expected>;

    /// Takes the record that `column` begins with, which is neither an event nor a node, brings `state`
    /// behind it, and answers its length.
    fn other(&mut self, column: &[u8], state: &mut DecodeState) -> Result<usize, Expected>;
}

/// A row has three bytes at least. So a chunk has no more records than these, whatever it says.
const MOST_RECORDS: usize = MAX_CHUNK_BYTES as usize / 3;

impl ChunkRecords {
    /// Adds a record, unless no chunk has as many.
    fn add(&mut self, record: Record) -> Result<(), Expected> {
        if self.len() > MOST_RECORDS {
            return Err("a chunk of a sensible length");
        }
        self.push_record(record);
        Ok(())
    }
}

impl Sink for ChunkRecords {
    fn expect(&mut self, records: usize, raw_bytes: u32) {
        self.reserve(records.min(raw_bytes as usize / 3));
    }

    #[inline(always)]
    fn plain_event(&mut self, event: &PlainEvent, stamp: Stamp) -> Result<(), Expected> {
        let &PlainEvent { align_log2, size, address, node, stack_pointer, .. } = event;
        let kind = event.kind();
        if self.len() > MOST_RECORDS {
            return Err("a chunk of a sensible length");
        }
        self.push(RunEvent { stamp, address, size, stack_pointer, node, kind, align_log2 });
        Ok(())
    }

    fn event(&mut self, event: &Event) -> Result<(), Expected> {
        self.add(Record::Event(*event))
    }

    fn node(&mut self, node: &NodeDefinition) -> Result<(), Expected> {
        self.add(Record::Node(*node))
    }

    fn other(&mut self, column: &[u8], state: &mut DecodeState) -> Result<usize, Expected> {
        let (mut length, mut event) = (0, Event::NONE);
        match state.next(column, &mut length, &mut event).map_err(|error| error.expected)? {
            Decoded::Event | Decoded::End | Decoded::Other(Record::Node(_)) => {
                Err("an extended record")
            }
            Decoded::Other(record) => self.add(record).map(|()| length),
        }
    }
}

/// Rows behind what a vector held. It is longer than what is written, so that a record needs no more than
/// one look at how much room there is.
struct Rows<'a> {
    bytes: &'a mut Vec<u8>,
    begin: usize,
    written: usize,
    encoder: Encoder,
}

impl<'a> Rows<'a> {
    /// None yet, and room for as many as a chunk's header states.
    fn behind(bytes: &'a mut Vec<u8>, raw_bytes: u32) -> Self {
        let begin = bytes.len();
        let room = raw_bytes.min(MAX_CHUNK_BYTES) as usize + MAX_EVENT_BYTES;
        bytes.resize(begin + room, 0);
        Self { bytes, begin, written: begin, encoder: Encoder::new() }
    }

    /// Appends a record.
    #[inline(always)]
    fn append(
        &mut self,
        encode: impl FnOnce(&mut Encoder, &mut [u8; MAX_EVENT_BYTES]) -> Option<usize>,
    ) -> Result<(), Expected> {
        if self.bytes.len() - self.written < MAX_EVENT_BYTES {
            self.make_room(MAX_EVENT_BYTES)?;
        }
        let room = self.bytes.get_mut(self.written..).and_then(<[u8]>::first_chunk_mut);
        let length = room.and_then(|out| encode(&mut self.encoder, out));
        let length = length.ok_or("a record that can be encoded")?;
        self.written += length;
        Ok(())
    }

    /// Appends a record that is encoded already.
    fn extend(&mut self, record: &[u8]) -> Result<(), Expected> {
        if self.bytes.len() - self.written < record.len() {
            self.make_room(record.len())?;
        }
        if let Some(room) = self.bytes.get_mut(self.written..self.written + record.len()) {
            room.copy_from_slice(record);
            self.written += record.len();
        }
        Ok(())
    }

    /// There are more than the header states.
    #[cold]
    fn make_room(&mut self, needed: usize) -> Result<(), Expected> {
        if self.written - self.begin + needed > MAX_CHUNK_BYTES as usize {
            return Err("a chunk of a sensible length");
        }
        let more = (self.written - self.begin).min(1 << 20);
        self.bytes.resize(self.written + needed + more, 0);
        Ok(())
    }

    /// Ends the vector behind the last record.
    fn finish(&mut self) {
        self.bytes.truncate(self.written);
    }
}

impl Sink for Rows<'_> {
    fn expect(&mut self, _: usize, _: u32) {}

    #[inline(always)]
    fn plain_event(&mut self, event: &PlainEvent, _: Stamp) -> Result<(), Expected> {
        self.append(|encoder, out| encoder.plain_event(out, event))
    }

    fn event(&mut self, event: &Event) -> Result<(), Expected> {
        self.append(|encoder, out| encoder.event(out, event))
    }

    fn node(&mut self, node: &NodeDefinition) -> Result<(), Expected> {
        self.append(|encoder, out| encoder.node(out, node))
    }

    fn other(&mut self, column: &[u8], state: &mut DecodeState) -> Result<usize, Expected> {
        let (mut length, mut event) = (0, Event::NONE);
        let found = state.next_row(column, &mut length, &mut event);
        match found.map_err(|error| error.expected)? {
            Row::Context => self.encoder = Encoder::at(state.stamp()),
            Row::Other => self.encoder.advance_to(state.stamp()),
            Row::Event | Row::Node(_) | Row::End => return Err("an extended record"),
        }
        self.extend(column.get(..length).unwrap_or_default())?;
        Ok(length)
    }
}

/// The records as they come back.
struct Rebuild<'a, S> {
    model: &'a mut Model,
    blocks: Blocks<'a>,
    /// Of it the stamp, the thread and the node defined last are kept.
    state: DecodeState,
    sink: &'a mut S,
}

impl<S: Sink> Rebuild<'_, S> {
    fn records(&mut self, columns: &mut Columns<'_>) -> Result<(), Expected> {
        while let Some(control) = columns.next_byte(CONTROL) {
            let tag = PLAIN_TAGS[usize::from(control)];
            if tag != 0 && self.state.is_placed() {
                self.plain_event(tag, control, columns)?;
            } else {
                match control & control::KIND_MASK {
                    0 => self.other(columns)?,
                    tag::NODE => self.node(control, columns)?,
                    kind => self.any_event(kind, control, columns)?,
                }
            }
        }
        Ok(())
    }

    /// Nearly every event.
    #[inline(always)]
    fn plain_event(
        &mut self,
        tag: u8,
        control: u8,
        columns: &mut Columns<'_>,
    ) -> Result<(), Expected> {
        let ticks = columns.ticks(control)?;
        let stamp = self.state.stamp().checked_add(ticks).ok_or("a stamp below 2^64")?;
        self.state.advance_to(stamp);
        let origin = control >> control::SITE_SHIFT;
        let mut habit = self.model.last(tag);
        if origin == control::SITE_FOLLOWS {
            habit = self.model.follower(tag);
        } else if origin != control::SITE_LAST {
            habit.site = self.site(columns)?;
        }
        let (address, size) = if tag == tag::FREE {
            self.gone(control, columns)?
        } else {
            let same = control & control::SAME_SIZE != 0;
            let size = if same { habit.size } else { columns.size()? };
            (self.obtained(control, size, columns)?, size)
        };
        self.came_from(tag, origin, &habit.site, size);
        let Site { node, align_log2, stack_pointer } = habit.site;
        let event = PlainEvent {
            tag,
            align_log2: align_log2 as u8,
            ticks,
            size,
            address,
            node,
            stack_pointer,
        };
        self.sink.plain_event(&event, stamp)
    }

    #[inline(always)]
    fn came_from(&mut self, tag: u8, origin: u8, site: &Site, size: u64) {
        if origin == control::SITE_LAST {
            self.model.came_from_last(tag, size);
        } else {
            self.model.came_from(tag, *site, size);
        }
    }

    /// The block that an allocation was given.
    #[inline(always)]
    fn obtained(
        &mut self,
        control: u8,
        size: u64,
        columns: &mut Columns<'_>,
    ) -> Result<u64, Expected> {
        let list = self.model.list(self.model.class(size));
        let expected = "a freed block of this chunk";
        let address = if control & control::KIND_MASK == control::ALLOC_AT_DEPTH {
            let depth = columns.byte(DEPTH)? as u8;
            let address = list.at(depth).ok_or(expected)?;
            list.obtain_at(depth, address);
            address
        } else if control & control::KNOWN_BLOCK != 0 {
            let address = list.at(0).ok_or(expected)?;
            list.obtain_last(address);
            address
        } else {
            let address = address(columns, list.last_obtained())?;
            list.obtain(address);
            address
        };
        self.blocks.obtain(address, size);
        Ok(address)
    }

    /// An event of any kind.
    #[inline(never)]
    fn any_event(
        &mut self,
        kind: u8,
        control: u8,
        columns: &mut Columns<'_>,
    ) -> Result<(), Expected> {
        let at_depth = kind == control::ALLOC_AT_DEPTH;
        let kind = if at_depth { tag::ALLOC } else { kind };
        let event_kind = match kind {
            tag::ALLOC => EventKind::Alloc,
            tag::ALLOC_ZEROED => EventKind::AllocZeroed,
            tag::REALLOC => EventKind::Realloc,
            tag::FREE => EventKind::Free,
            _ => return Err("a known kind of record"),
        };
        if !self.state.is_placed() {
            return Err("a context, which begins every chunk");
        }
        let ticks = columns.ticks(control)?;
        let stamp = self.state.stamp().checked_add(ticks).ok_or("a stamp below 2^64")?;
        self.state.advance_to(stamp);

        let mut habit = self.model.last(kind);
        let mut failed = false;
        let mut kept_frames = None;
        match control >> control::SITE_SHIFT {
            control::SITE_LAST => {}
            control::SITE_FOLLOWS => habit = self.model.follower(kind),
            origin => {
                habit.site = self.site(columns)?;
                if origin == control::SITE_UNUSUAL {
                    let flags = columns.byte(UNUSUAL)? as u8;
                    if flags & !unusual::ALL != 0 {
                        return Err("known flags");
                    }
                    failed = flags & unusual::FAILED != 0;
                    if flags & unusual::KEPT_FRAMES != 0 {
                        let kept = u32::try_from(columns.varint(UNUSUAL)?);
                        kept_frames = Some(kept.map_err(|_| "a number of frames below 2^32")?);
                    }
                }
            }
        }
        let Site { node, align_log2, stack_pointer } = habit.site;
        let align_log2 = align_log2 as u8;
        let mut event = Event {
            kind: event_kind,
            failed,
            thread: self.state.thread(),
            stamp,
            begin_stamp: stamp,
            node,
            align_log2,
            stack_pointer,
            kept_frames,
            ..Event::NONE
        };
        match event_kind {
            EventKind::Alloc | EventKind::AllocZeroed => {
                let same = control & control::SAME_SIZE != 0;
                event.size = if same { habit.size } else { columns.size()? };
                if !failed {
                    event.address = self.obtained(control, event.size, columns)?;
                }
            }
            EventKind::Free => {
                let (address, size) = self.gone(control, columns)?;
                (event.address, event.size) = (if failed { 0 } else { address }, size);
            }
            EventKind::Realloc => {
                (event.old_address, event.old_size) = self.gone(control, columns)?;
                event.size = columns.varint(REALLOC)?;
                event.begin_stamp = stamp.saturating_sub(columns.varint(REALLOC)?);
                if !failed {
                    let way = columns.varint(REALLOC)?;
                    event.address = varint::apply_difference(event.old_address, way);
                    let class = self.model.class(event.size);
                    self.model.list(class).obtain(event.address);
                    self.blocks.obtain(event.address, event.size);
                }
            }
        }
        self.came_from(kind, control >> control::SITE_SHIFT, &habit.site, event.size);
        self.sink.event(&event)
    }

    #[inline]
    fn site(&self, columns: &mut Columns<'_>) -> Result<Site, Expected> {
        let way = columns.split(NODE_0, NODE_1, NODE_HIGH)?;
        let node = varint::apply_difference(u64::from(self.model.previous().node.0), way);
        let node = u32::try_from(node).map_err(|_| "a node's number below 2^32")?;
        let way = columns.varint(STACK)?;
        let stack_pointer = varint::apply_difference(self.model.previous().stack_pointer, way);
        let align_log2 = columns.byte(ALIGN)? as u32;
        if align_log2 > 63 {
            return Err("an alignment below 64 bits");
        }
        Ok(Site { node: NodeId(node), align_log2, stack_pointer })
    }

    /// The block that was freed.
    #[inline(always)]
    fn gone(&mut self, control: u8, columns: &mut Columns<'_>) -> Result<(u64, u64), Expected> {
        let (address, size, class);
        if control & control::KNOWN_BLOCK != 0 {
            let age = (columns.byte(AGE_0)? | columns.byte(AGE_1)? << 8) + 1;
            let block = self.blocks.aged(age as u32).ok_or("a block of this chunk")?;
            (address, size) = (block.address, block.size);
            class = self.model.class(size);
        } else {
            size = columns.size()?;
            class = self.model.class(size);
            address = self::address(columns, self.model.list(class).last_freed())?;
        }
        self.model.list(class).free(address);
        Ok((address, size))
    }

    fn node(&mut self, control: u8, columns: &mut Columns<'_>) -> Result<(), Expected> {
        let node = columns.node(control, self.state.defined(), self.state.frame_address())?;
        self.state.define(&node);
        self.sink.node(&node)
    }

    fn other(&mut self, columns: &mut Columns<'_>) -> Result<(), Expected> {
        let length = self.sink.other(columns.rest(OTHER), &mut self.state)?;
        columns.pass(OTHER, length);
        Ok(())
    }
}

#[inline]
fn address(columns: &mut Columns<'_>, from: u64) -> Result<u64, Expected> {
    let way = columns.split(ADDRESS_0, ADDRESS_1, ADDRESS_HIGH)?;
    Ok(varint::apply_difference(from, way))
}
