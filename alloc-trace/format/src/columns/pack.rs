//! Rows into columns, without allocating and without a panic.

use super::compact_run::{LONGEST, Run};
use super::model::{BLOCKS, Block, Blocks, Model};
use super::{
    ADDRESS_0, ADDRESS_HIGH, AGE_0, ALIGN, COLUMNS, CONTROL, DEFINED, DEPTH, FRAME, NODE_0,
    NODE_HIGH, OTHER, PARENT, REALLOC, SIZE, SIZE_HIGH, STACK, TICKS, TICKS_HIGH, UNUSUAL, control,
    unusual,
};
use crate::compact::Site;
use crate::decoder::{DecodeState, Row};
use crate::record::{Event, EventKind, NodeDefinition, tag};
use crate::varint;

/// No column is longer: a chunk that would need more is stored as it is.
const COLUMN_BYTES: usize = 128 << 10;
/// How far one column begins behind another: not a power of two, so that the columns' ends, which
/// are written in turn, do not compete for the same lines of the cache.
const STRIDE_BYTES: usize = COLUMN_BYTES + 11 * 64;

const _: () = assert!(COLUMN_BYTES.is_power_of_two());

/// What is kept from one packed chunk to the next. Zeroed memory is a valid one.
#[derive(Debug)]
pub struct Packer {
    model: Model,
    /// Where in the model's blocks an address may be.
    places: [u16; BLOCKS],
    /// How often each rounding of sizes foretold an address, in 1,024 allocations, when it was last
    /// tried, and at least 1; 0 before. The better one is taken, and the other is tried again now and then.
    hits: [u16; ROUNDINGS.len()],
    /// What is done with each column.
    plans: [Plan; COLUMNS],
    run: Run,
}

/// What packing a chunk works in; what it held before does not matter.
///
/// It is large, about three mebibytes, of which a chunk touches a few hundred kibibytes.
#[derive(Debug)]
pub struct PackerSpace {
    blocks: [Block; BLOCKS],
    columns: [u8; COLUMNS * STRIDE_BYTES],
}

/// What packing works in, as it is lent to a packer.
#[derive(Debug)]
pub struct Lent<'a> {
    blocks: &'a mut [Block; BLOCKS],
    columns: &'a mut [u8; COLUMNS * STRIDE_BYTES],
}

impl PackerSpace {
    /// Lends the space to a packer.
    pub const fn lend(&mut self) -> Lent<'_> {
        Lent { blocks: &mut self.blocks, columns: &mut self.columns }
    }
}

/// Space on the heap, for writers that may use it.
#[derive(Debug)]
pub struct HeapSpace {
    blocks: Box<[Block; BLOCKS]>,
    columns: Box<[u8; COLUMNS * STRIDE_BYTES]>,
}

impl Default for HeapSpace {
    fn default() -> Self {
        Self { blocks: on_heap(Block::NONE), columns: on_heap(0) }
    }
}

impl HeapSpace {
    /// Lends the space to a packer.
    pub const fn lend(&mut self) -> Lent<'_> {
        Lent { blocks: &mut self.blocks, columns: &mut self.columns }
    }
}

/// An array that was never on the stack.
pub(super) fn on_heap<T: Clone, const N: usize>(element: T) -> Box<[T; N]> {
    let made = vec![element; N].into_boxed_slice().try_into();
    made.unwrap_or_else(|_| unreachable!("as many elements as the array has"))
}

/// How hard a compressor is to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effort {
    /// To look for what is repeated.
    Matches,
    /// To write frequent bytes with fewer bits, and no more.
    Bytes,
}

/// Columns of this length are treated as was found best a few chunks ago; shorter ones are not worth it.
const LONG_BYTES: usize = 4 << 10;
/// For how many chunks that holds.
const PLANNED_CHUNKS: u8 = 8;

/// What is done with one column. Zeroed memory is a plan for no chunk.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// For how many chunks it still holds.
    chunks: u8,
    kept: Kept,
}

/// How a column is kept.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Kept {
    /// As it is.
    AsItIs = 0,
    Bytes,
    Matches,
}

impl Plan {
    const NONE: Self = Self { chunks: 0, kept: Kept::AsItIs };

    /// Compresses a column into `room`; answers how long that is, and `None` where it is no shorter.
    fn carry_out(
        &mut self,
        column: &[u8],
        room: &mut [u8],
        compress: &mut impl FnMut(Effort, &[u8], &mut [u8]) -> Option<usize>,
    ) -> Option<usize> {
        if column.len() < LONG_BYTES {
            return compress(Effort::Matches, column, room);
        }
        if self.chunks > 0 {
            self.chunks -= 1;
            return match self.kept {
                Kept::AsItIs => None,
                Kept::Bytes => compress(Effort::Bytes, column, room),
                Kept::Matches => compress(Effort::Matches, column, room),
            };
        }
        let length = column.len();
        let matches = compress(Effort::Matches, column, room).unwrap_or(length);
        let behind = room.get_mut(matches..).unwrap_or_default();
        let bytes = compress(Effort::Bytes, column, behind).unwrap_or(length);
        // Looking for matches takes several times as long: it must save a thirtieth at least.
        self.kept = if matches.min(bytes) + length / 32 >= length {
            Kept::AsItIs
        } else if bytes <= matches + matches / 32 {
            Kept::Bytes
        } else {
            Kept::Matches
        };
        self.chunks = PLANNED_CHUNKS - 1;
        Some(matches)
    }
}

/// What allocators add to a size before they cut it into classes: glibc's needs eight bytes more.
const ROUNDINGS: [u8; 2] = [15, 7];

/// The columns as they are written.
pub(super) struct Columns<'a> {
    bytes: &'a mut [u8; COLUMNS * STRIDE_BYTES],
    pub(super) lengths: [usize; COLUMNS],
}

impl Columns<'_> {
    #[inline(always)]
    pub(super) fn byte(&mut self, column: usize, byte: u8) {
        self.byte_if(true, column, byte);
    }

    /// Room for so many bytes behind the ends of the first two columns, and for twice as many behind that of
    /// the third one. Where the columns are full it is room that does not count.
    #[inline(always)]
    pub(super) fn ends(&mut self) -> Option<Ends<'_>> {
        const { assert!(2 * LONGEST < STRIDE_BYTES - COLUMN_BYTES) };
        let [first, second, third, ..] = self.lengths.map(|length| length.min(COLUMN_BYTES));
        let (one, behind) = self.bytes.split_at_mut_checked(STRIDE_BYTES)?;
        let (two, three) = behind.split_at_mut_checked(STRIDE_BYTES)?;
        Some((
            one.get_mut(first..)?.first_chunk_mut()?,
            two.get_mut(second..)?.first_chunk_mut()?,
            three.get_mut(third..)?.first_chunk_mut()?,
        ))
    }

    /// A byte of a column.
    #[inline(always)]
    pub(super) const fn at(&self, column: usize, index: usize) -> u8 {
        self.bytes[column * STRIDE_BYTES + index % COLUMN_BYTES]
    }

    /// Puts another byte in its place.
    #[inline(always)]
    pub(super) const fn set(&mut self, column: usize, index: usize, byte: u8) {
        self.bytes[column * STRIDE_BYTES + index % COLUMN_BYTES] = byte;
    }

    /// Appends a byte, or leaves it, without a branch.
    #[inline(always)]
    pub(super) fn byte_if(&mut self, wanted: bool, column: usize, byte: u8) {
        let length = &mut self.lengths[column];
        // Beyond its end a column overwrites itself, and its length tells.
        self.bytes[column * STRIDE_BYTES + *length % COLUMN_BYTES] = byte;
        *length += usize::from(wanted);
    }

    /// Seldom needed: most numbers have a byte.
    #[cold]
    #[inline(never)]
    pub(super) fn varint(&mut self, column: usize, mut value: u64) {
        while value >= 0x80 {
            self.byte(column, value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(column, value as u8);
    }

    /// Appends the low byte of a number to a column and the next one to that behind it, or leaves them,
    /// without a branch. They are as long as the first of them says.
    #[inline(always)]
    pub(super) fn two_bytes_if(&mut self, wanted: bool, column: usize, number: u64) {
        let length = &mut self.lengths[column];
        let place = column * STRIDE_BYTES + *length % COLUMN_BYTES;
        self.bytes[place] = number as u8;
        self.bytes[place + STRIDE_BYTES] = (number >> 8) as u8;
        *length += usize::from(wanted);
    }

    /// The rest of a number, or nothing: a byte, and where that is 255 what is to be added.
    #[inline(always)]
    pub(super) fn rest_if(&mut self, wanted: bool, column: usize, rest: u64) {
        self.byte_if(wanted, column, rest.min(0xff) as u8);
        if rest >= 0xff && wanted {
            self.varint(column, rest - 0xff);
        }
    }

    fn extend(&mut self, column: usize, bytes: &[u8]) {
        for &byte in bytes {
            self.byte(column, byte);
        }
    }

    /// What was written; `None` where there was no room for all of it.
    fn written(&self, column: usize) -> Option<&[u8]> {
        let length = self.lengths[column];
        let begin = column * STRIDE_BYTES;
        self.bytes.get(begin..begin + length).filter(|_| length <= COLUMN_BYTES)
    }
}

/// Room behind the ends of the first columns: those of control bytes and ticks, and of the rest of ticks.
type Ends<'a> = (&'a mut [u8; LONGEST], &'a mut [u8; LONGEST], &'a mut [u8; 2 * LONGEST]);

/// A chunk as it is packed.
pub(super) struct Packing<'a> {
    pub(super) model: &'a mut Model,
    /// Where in the blocks an address may be.
    places: &'a mut [u16; BLOCKS],
    blocks: Blocks<'a>,
    pub(super) columns: Columns<'a>,
    pub(super) run: &'a mut Run,
    /// Allocations, and those whose address was foretold.
    asked: u32,
    expected: u32,
}

impl Packer {
    /// A packer that has packed nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            model: Model::new(),
            places: [0; BLOCKS],
            hits: [0; ROUNDINGS.len()],
            plans: [Plan::NONE; COLUMNS],
            run: Run::EMPTY,
        }
    }

    /// Packs the records of a chunk's payload into `out`; answers how many bytes that took.
    ///
    /// Columns go through `compress`, which answers how long its output is, and `None` where it would be no
    /// shorter than the column.
    ///
    /// `None` where the payload cannot be packed, or `out` is too short.
    pub fn pack(
        &mut self,
        space: Lent<'_>,
        payload: &[u8],
        out: &mut [u8],
        mut compress: impl FnMut(Effort, &[u8], &mut [u8]) -> Option<usize>,
    ) -> Option<usize> {
        let choice = match self.hits {
            [0, _] => 0,
            [_, 0] => 1,
            [first, second] => usize::from(second > first),
        };
        let rounding = ROUNDINGS[choice];
        self.model.reset(rounding);
        let mut packing = Packing {
            model: &mut self.model,
            places: &mut self.places,
            blocks: Blocks::new(space.blocks),
            columns: Columns { bytes: space.columns, lengths: [0; COLUMNS] },
            run: &mut self.run,
            asked: 0,
            expected: 0,
        };
        packing.records(payload)?;
        let Packing { mut columns, asked, expected, .. } = packing;
        for first in [NODE_0, AGE_0, ADDRESS_0] {
            columns.lengths[first + 1] = columns.lengths[first];
        }
        if asked >= 64 {
            self.hits[choice] = (u64::from(expected) * 1024 / u64::from(asked)).max(1) as u16;
        }
        let other = &mut self.hits[1 - choice];
        if *other > 0 {
            *other = other.saturating_add(4).min(1024);
        }

        let mut at = HEAD_BYTES + COLUMNS * LENGTHS_BYTES;
        let head = out.get_mut(..at)?;
        head[..HEAD_BYTES].copy_from_slice(&[COLUMNS as u8, rounding, 0, 0]);
        for index in 0..COLUMNS {
            let column = columns.written(index)?;
            let room = out.get_mut(at..)?;
            let compressed = self.plans[index].carry_out(column, room, &mut compress);
            let stored = match compressed.filter(|&length| length < column.len()) {
                Some(length) => length,
                None => {
                    room.get_mut(..column.len())?.copy_from_slice(column);
                    column.len()
                }
            };
            let place = HEAD_BYTES + index * LENGTHS_BYTES;
            let lengths = u64::from(column.len() as u32) | (stored as u64) << 32;
            *out.get_mut(place..)?.first_chunk_mut()? = lengths.to_le_bytes();
            at += stored;
        }
        Some(at)
    }
}

impl Default for Packer {
    fn default() -> Self {
        Self::new()
    }
}

impl Packing<'_> {
    fn records(&mut self, payload: &[u8]) -> Option<()> {
        let mut state = DecodeState::START;
        let mut offset = 0;
        loop {
            self.plain_events(payload, &mut offset, &mut state)?;
            if let Row::End = self.next_row(payload, &mut offset, &mut state)? {
                return Some(());
            }
        }
    }

    /// Packs any record.
    #[inline(never)]
    fn next_row(
        &mut self,
        payload: &[u8],
        offset: &mut usize,
        state: &mut DecodeState,
    ) -> Option<Row> {
        let before = *offset;
        let (stamp, defined, frame) = (state.stamp(), state.defined(), state.frame_address());
        let mut event = Event::NONE;
        let row = state.next_row(payload, offset, &mut event).ok()?;
        match &row {
            Row::Event => self.any_event(&event, stamp),
            Row::Node(node) => self.node(node, defined.0, frame),
            Row::Context | Row::Other => {
                self.columns.byte(CONTROL, 0);
                self.columns.extend(OTHER, payload.get(before..*offset)?);
            }
            Row::End => {}
        }
        Some(row)
    }

    /// An event of any kind.
    #[inline(never)]
    fn any_event(&mut self, event: &Event, stamp: u64) {
        let kind = match event.kind {
            EventKind::Alloc => tag::ALLOC,
            EventKind::AllocZeroed => tag::ALLOC_ZEROED,
            EventKind::Realloc => tag::REALLOC,
            EventKind::Free => tag::FREE,
        };
        let site = Site {
            node: event.node,
            align_log2: u32::from(event.align_log2),
            stack_pointer: event.stack_pointer,
        };
        let mut control = kind | self.ticks(event.stamp.wrapping_sub(stamp));
        let (mut origin, mut size) = self.origin(kind, &site);
        if event.failed || event.kept_frames.is_some() {
            origin = control::SITE_UNUSUAL;
            size = self.model.last(kind).size;
        }
        control |= origin << control::SITE_SHIFT;
        if origin >= control::SITE_STATED {
            self.site(&site);
        }
        if origin == control::SITE_UNUSUAL {
            let failed = if event.failed { unusual::FAILED } else { 0 };
            let kept = if event.kept_frames.is_some() { unusual::KEPT_FRAMES } else { 0 };
            self.columns.byte(UNUSUAL, failed | kept);
            if let Some(kept) = event.kept_frames {
                self.columns.varint(UNUSUAL, u64::from(kept));
            }
        }
        match event.kind {
            EventKind::Alloc | EventKind::AllocZeroed => {
                let same = event.size == size;
                control |= if same { control::SAME_SIZE } else { 0 };
                self.size_if(!same, event.size);
                if !event.failed {
                    control = self.obtained(control, kind, event.address, event.size);
                }
            }
            EventKind::Free => control |= self.gone(event.address, event.size),
            EventKind::Realloc => {
                control |= self.gone(event.old_address, event.old_size);
                self.columns.varint(REALLOC, event.size);
                let duration = event.stamp.wrapping_sub(event.begin_stamp);
                self.columns.varint(REALLOC, duration);
                if !event.failed {
                    let way = varint::difference(event.old_address, event.address);
                    self.columns.varint(REALLOC, way);
                    let class = self.model.class(event.size);
                    self.model.list(class).obtain(event.address);
                    self.remember(event.address, event.size);
                }
            }
        }
        self.columns.byte(CONTROL, control);
        self.came_from(kind, origin, site, event.size);
    }

    /// States the ticks; answers what the control byte says of them.
    #[inline(always)]
    pub(super) fn ticks(&mut self, ticks: u64) -> u8 {
        self.columns.byte(TICKS, ticks as u8);
        let high = ticks >> 8;
        self.columns.byte_if(high > 0, TICKS_HIGH, high.min(0xff) as u8);
        if high >= 0xff {
            self.columns.varint(TICKS_HIGH, high - 0xff);
        }
        if high > 0 { control::LONG_TICKS } else { 0 }
    }

    /// Where a call site comes from, and the size that goes with it.
    #[inline(always)]
    pub(super) fn origin(&self, kind: u8, site: &Site) -> (u8, u64) {
        let last = self.model.last(kind);
        if last.site.is(site) {
            return (control::SITE_LAST, last.size);
        }
        let follower = self.model.follower(kind);
        if follower.site.is(site) {
            return (control::SITE_FOLLOWS, follower.size);
        }
        (control::SITE_STATED, last.size)
    }

    #[inline(always)]
    pub(super) fn came_from(&mut self, kind: u8, origin: u8, site: Site, size: u64) {
        if origin == control::SITE_LAST {
            self.model.came_from_last(kind, size);
        } else {
            self.model.came_from(kind, site, size);
        }
    }

    /// States a call site.
    #[inline]
    pub(super) fn site(&mut self, site: &Site) {
        let previous = u64::from(self.model.previous().node.0);
        let way = varint::difference(previous, u64::from(site.node.0));
        self.columns.two_bytes_if(true, NODE_0, way);
        self.columns.rest_if(true, NODE_HIGH, way >> 16);
        let way = varint::difference(self.model.previous().stack_pointer, site.stack_pointer);
        self.columns.varint(STACK, way);
        self.columns.byte(ALIGN, site.align_log2 as u8);
    }

    /// States a size.
    #[inline(always)]
    pub(super) fn size_if(&mut self, wanted: bool, size: u64) {
        self.columns.byte_if(wanted, SIZE, size.min(0xff) as u8);
        if size >= 0xff && wanted {
            self.columns.varint(SIZE_HIGH, size - 0xff);
        }
    }

    #[inline(always)]
    fn address_if(&mut self, wanted: bool, from: u64, to: u64) {
        let way = varint::difference(from, to);
        self.columns.two_bytes_if(wanted, ADDRESS_0, way);
        self.columns.rest_if(wanted, ADDRESS_HIGH, way >> 16);
    }

    /// A block was freed; answers what the control byte says of it.
    #[inline(always)]
    pub(super) fn gone(&mut self, address: u64, size: u64) -> u8 {
        let place = self.places[place_of(address)];
        let (block, age) = self.blocks.at(place);
        let obtained = age < self.blocks.obtained;
        let known = (block.address == address) & (block.size == size) & obtained;
        let list = self.model.list(self.model.class(size));
        let last = list.last_freed();
        list.free(address);
        // Whether it is known is anybody's guess: no branch asks.
        self.columns.two_bytes_if(known, AGE_0, u64::from(age));
        self.size_if(!known, size);
        self.address_if(!known, last, address);
        if known { control::KNOWN_BLOCK } else { 0 }
    }

    /// A block was obtained; answers the control byte that says so.
    #[inline(always)]
    pub(super) fn obtained(&mut self, control: u8, kind: u8, address: u64, size: u64) -> u8 {
        self.remember(address, size);
        self.asked += 1;
        let class = self.model.class(size);
        let list = self.model.list(class);
        if list.at(0) == Some(address) {
            list.obtain_last(address);
            self.expected += 1;
            return control | control::KNOWN_BLOCK;
        }
        if let Some(depth) = list.depth_of(address).filter(|_| kind == tag::ALLOC) {
            list.obtain_at(depth, address);
            self.columns.byte(DEPTH, depth);
            return control + (control::ALLOC_AT_DEPTH - tag::ALLOC);
        }
        let last = list.last_obtained();
        list.obtain(address);
        self.address_if(true, last, address);
        control
    }

    #[inline(always)]
    fn remember(&mut self, address: u64, size: u64) {
        self.places[place_of(address)] = (self.blocks.obtained as usize % BLOCKS) as u16;
        self.blocks.obtain(address, size);
    }

    fn node(&mut self, node: &NodeDefinition, defined: u32, frame: u64) {
        let mut control = tag::NODE;
        if node.id.0 == defined.wrapping_add(1) {
            control |= control::NEXT_NODE;
        } else {
            let way = varint::difference(u64::from(defined), u64::from(node.id.0));
            self.columns.varint(DEFINED, way);
        }
        if node.parent.0 == defined {
            control |= control::BELOW_LAST;
        } else {
            let way = varint::difference(u64::from(node.parent.0), u64::from(node.id.0));
            self.columns.varint(PARENT, way);
        }
        self.columns.varint(FRAME, varint::difference(frame, node.address));
        self.columns.byte(CONTROL, control);
    }
}

/// Before the columns: their number, the rounding, and two bytes of zero.
pub(super) const HEAD_BYTES: usize = 4;
/// For each column its length and its length in the file.
pub(super) const LENGTHS_BYTES: usize = 8;

/// Where the place of an address is kept.
#[inline]
const fn place_of(address: u64) -> usize {
    ((address >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50) as usize % BLOCKS
}
