//! Rows into columns, without allocating and without a panic.

use super::model::{BLOCKS, Block, Blocks, Model, Site};
use super::{
    ADDRESS_0, ADDRESS_1, ADDRESS_HIGH, AGE_0, AGE_1, ALIGN, COLUMNS, CONTROL, DEFINED, DEPTH,
    FRAME, NODE_0, NODE_1, NODE_HIGH, OTHER, PARENT, REALLOC, SIZE, SIZE_HIGH, STACK, TICKS,
    TICKS_HIGH, UNUSUAL, control, unusual,
};
use crate::decoder::{DecodeState, PlainEvent, Row};
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
struct Columns<'a> {
    bytes: &'a mut [u8; COLUMNS * STRIDE_BYTES],
    lengths: [usize; COLUMNS],
}

impl Columns<'_> {
    #[inline(always)]
    fn byte(&mut self, column: usize, byte: u8) {
        self.byte_if(true, column, byte);
    }

    /// Appends a byte, or leaves it, without a branch.
    #[inline(always)]
    fn byte_if(&mut self, wanted: bool, column: usize, byte: u8) {
        let length = &mut self.lengths[column];
        // Beyond its end a column overwrites itself, and its length tells.
        self.bytes[column * STRIDE_BYTES + *length % COLUMN_BYTES] = byte;
        *length += usize::from(wanted);
    }

    #[inline]
    fn varint(&mut self, column: usize, mut value: u64) {
        while value >= 0x80 {
            self.byte(column, value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(column, value as u8);
    }

    /// The rest of a number: a byte, and where that is 255 what is to be added.
    #[inline(always)]
    fn high(&mut self, column: usize, rest: u64) {
        self.byte(column, rest.min(0xff) as u8);
        if rest >= 0xff {
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

/// A chunk as it is packed.
struct Packing<'a> {
    model: &'a mut Model,
    /// Where in the blocks an address may be.
    places: &'a mut [u16; BLOCKS],
    blocks: Blocks<'a>,
    columns: Columns<'a>,
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
            asked: 0,
            expected: 0,
        };
        packing.records(payload)?;
        let Packing { columns, asked, expected, .. } = packing;
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
            self.plain_events(payload, &mut offset, &mut state);
            if let Row::End = self.next_row(payload, &mut offset, &mut state)? {
                return Some(());
            }
        }
    }

    /// Packs plain events as long as there are some.
    #[inline(never)]
    fn plain_events(&mut self, payload: &[u8], offset: &mut usize, state: &mut DecodeState) {
        // Copies, which can stay in registers.
        let (mut at, mut current) = (*offset, *state);
        while let Some(event) = current.next_plain(payload, &mut at) {
            self.plain_event(&event);
        }
        (*offset, *state) = (at, current);
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

    /// Nearly every event.
    #[inline(always)]
    fn plain_event(&mut self, event: &PlainEvent) {
        let kind = event.tag;
        let site = Site {
            node: event.node,
            align_log2: u32::from(event.align_log2),
            stack_pointer: event.stack_pointer,
        };
        let mut control = kind | self.ticks(event.ticks);
        let (origin, size) = self.origin(kind, &site);
        control |= origin << control::SITE_SHIFT;
        if origin == control::SITE_STATED {
            self.site(&site);
        }
        if kind == tag::FREE {
            control |= self.gone(event.address, event.size);
        } else {
            let same = event.size == size;
            control |= if same { control::SAME_SIZE } else { 0 };
            self.size_if(!same, event.size);
            control = self.obtained(control, kind, event.address, event.size);
        }
        self.columns.byte(CONTROL, control);
        self.came_from(kind, origin, site, event.size);
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
    fn ticks(&mut self, ticks: u64) -> u8 {
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
    fn origin(&self, kind: u8, site: &Site) -> (u8, u64) {
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
    fn came_from(&mut self, kind: u8, origin: u8, site: Site, size: u64) {
        if origin == control::SITE_LAST {
            self.model.came_from_last(kind, size);
        } else {
            self.model.came_from(kind, site, size);
        }
    }

    /// States a call site.
    #[inline]
    fn site(&mut self, site: &Site) {
        let previous = u64::from(self.model.previous_node.0);
        let way = varint::difference(previous, u64::from(site.node.0));
        self.columns.byte(NODE_0, way as u8);
        self.columns.byte(NODE_1, (way >> 8) as u8);
        self.columns.high(NODE_HIGH, way >> 16);
        let way = varint::difference(self.model.previous_stack, site.stack_pointer);
        self.columns.varint(STACK, way);
        self.columns.byte(ALIGN, site.align_log2 as u8);
    }

    /// States a size.
    #[inline(always)]
    fn size_if(&mut self, wanted: bool, size: u64) {
        self.columns.byte_if(wanted, SIZE, size.min(0xff) as u8);
        if wanted && size >= 0xff {
            self.columns.varint(SIZE_HIGH, size - 0xff);
        }
    }

    #[inline(always)]
    fn address(&mut self, from: u64, to: u64) {
        let way = varint::difference(from, to);
        self.columns.byte(ADDRESS_0, way as u8);
        self.columns.byte(ADDRESS_1, (way >> 8) as u8);
        self.columns.high(ADDRESS_HIGH, way >> 16);
    }

    /// A block was freed; answers what the control byte says of it.
    #[inline(always)]
    fn gone(&mut self, address: u64, size: u64) -> u8 {
        let place = self.places[place_of(address)];
        let age = self.blocks.obtained.wrapping_sub(u32::from(place)) % BLOCKS as u32;
        let age = if age == 0 { BLOCKS as u32 } else { age };
        let block = self.blocks.aged(age);
        let known = block.is_some_and(|block| block.address == address && block.size == size);
        let list = self.model.list(self.model.class(size));
        let last = list.last_freed();
        list.free(address);
        if known {
            self.columns.byte(AGE_0, (age - 1) as u8);
            self.columns.byte(AGE_1, ((age - 1) >> 8) as u8);
            control::KNOWN_BLOCK
        } else {
            self.size_if(true, size);
            self.address(last, address);
            0
        }
    }

    /// A block was obtained; answers the control byte that says so.
    #[inline(always)]
    fn obtained(&mut self, control: u8, kind: u8, address: u64, size: u64) -> u8 {
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
        self.address(last, address);
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
