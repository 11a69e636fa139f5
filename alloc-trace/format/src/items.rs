//! What a ring carries on from chunks that are written over: blocks that are live, releases of blocks
//! whose request may still be in the file, nodes, and records.
//!
//! It is written and read inside heap requests: nothing here allocates or panics. Items are read one
//! by one from bytes that need not be all there are.

use crate::decoder::{DecodeState, Decoder, Row};
use crate::output::Output;
use crate::record::{Event, EventKind, NodeDefinition, NodeId, Record, Stamp, ThreadId, kind};
use crate::varint;

/// No item but a record is longer.
pub const MAX_ITEM_BYTES: usize = 2 + 6 * varint::MAX_BYTES;

/// A block that is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBlock {
    /// Its address.
    pub address: u64,
    /// When it was obtained.
    pub stamp: Stamp,
    /// The requested size in bytes.
    pub size: u64,
    /// The requested alignment, as a power of two.
    pub align_log2: u8,
    /// The backtrace of its request.
    pub node: NodeId,
    /// The thread that asked.
    pub thread: ThreadId,
}

impl HeldBlock {
    /// The block that an event obtained.
    #[must_use]
    pub const fn of(event: &Event) -> Self {
        let Event { address, stamp, size, align_log2, node, thread, .. } = *event;
        Self { address, stamp, size, align_log2, node, thread }
    }

    /// The request that obtained it, as far as it is known: that it was a reallocation, or asked for
    /// zeroed memory, is not.
    pub(crate) const fn event(&self) -> Event {
        let Self { address, stamp, size, align_log2, node, thread } = *self;
        Event {
            kind: EventKind::Alloc,
            thread,
            stamp,
            begin_stamp: stamp,
            address,
            size,
            align_log2,
            node,
            ..Event::NONE
        }
    }
}

/// One thing that is carried on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A block that was live.
    Held(HeldBlock),
    /// The last thing known of an address is that a block there was released.
    Released {
        /// The address.
        address: u64,
        /// When.
        stamp: Stamp,
    },
    /// A node of the call tree.
    Node(NodeDefinition),
    /// An extended record, as it stood in a chunk.
    Record(CarriedRecord<'a>),
}

/// An extended record, and what it is decoded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CarriedRecord<'a> {
    /// The thread of its context.
    pub thread: ThreadId,
    /// The stamp that its own counts on from.
    pub stamp: Stamp,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// What a carried record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A thread, its start.
    Thread(ThreadId),
    /// A thread's later name.
    ThreadName(ThreadId),
    /// The process, its modules, or records that were lost.
    Process,
    /// Something that is not carried on.
    Moment,
}

impl CarriedRecord<'_> {
    /// What it is of.
    #[must_use]
    pub fn subject(&self) -> Subject {
        // The tag, the kind, and the length in two bytes: so the recorder writes them.
        let body = self.bytes.get(4..).unwrap_or_default();
        let number = |at: usize| varint::read(body.get(at..).unwrap_or_default());
        let thread = |number: Option<(u64, usize)>, subject: fn(ThreadId) -> Subject| {
            let id = number.and_then(|(id, _)| u32::try_from(id).ok());
            id.map_or(Subject::Moment, |id| subject(ThreadId(id)))
        };
        match self.bytes.get(1).copied() {
            Some(kind::THREAD_NAME) => thread(number(0), Subject::ThreadName),
            Some(kind::THREAD_START) => match number(0) {
                Some((_, length)) => thread(number(length), Subject::Thread),
                None => Subject::Moment,
            },
            Some(kind::PROCESS | kind::MODULE | kind::MODULE_UNLOAD | kind::LOST) => {
                Subject::Process
            }
            _ => Subject::Moment,
        }
    }

    /// Decodes it: the record, and the time at which it stood.
    pub(crate) fn decode(&self) -> Option<(Record, Stamp)> {
        let state = DecodeState::of(self.thread, self.stamp);
        let mut decoder = Decoder::resume(self.bytes, 0, state);
        let record = decoder.next_record().ok()??;
        Some((record, decoder.position().1.stamp()))
    }
}

mod code {
    pub(super) const HELD: u8 = 1;
    pub(super) const RELEASED: u8 = 2;
    pub(super) const NODE: u8 = 3;
    pub(super) const RECORD: u8 = 4;
    pub(super) const MASK: u8 = 0x07;
    pub(super) const ALIGN_SHIFT: u32 = 3;
    /// The alignment has a byte of its own.
    pub(super) const ALIGN_FOLLOWS: u8 = 31;
}

/// What the differences of the next item are taken against; at the beginning of a block all is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ItemState {
    address: u64,
    stamp: Stamp,
    node: u64,
    frame: u64,
}

impl ItemState {
    /// The state at the beginning of a block.
    pub const START: Self = Self { address: 0, stamp: 0, node: 0, frame: 0 };

    /// Writes an item at the front of `out`; answers its length, `None` where there is no room.
    #[must_use]
    pub fn write(&mut self, out: &mut [u8], item: &Item<'_>) -> Option<usize> {
        let before = *self;
        let mut out = Output::new(out);
        match *item {
            Item::Held(held) => {
                let align = held.align_log2.min(code::ALIGN_FOLLOWS);
                out.byte(code::HELD | align << code::ALIGN_SHIFT);
                if align == code::ALIGN_FOLLOWS {
                    out.byte(held.align_log2);
                }
                self.place(&mut out, held.address, held.stamp);
                out.varint(held.size);
                out.varint(varint::difference(self.node, u64::from(held.node.0)));
                out.varint(u64::from(held.thread.0));
                self.node = u64::from(held.node.0);
            }
            Item::Released { address, stamp } => {
                out.byte(code::RELEASED);
                self.place(&mut out, address, stamp);
            }
            Item::Node(node) => {
                let id = u64::from(node.id.0);
                out.byte(code::NODE);
                out.varint(varint::difference(self.node, id));
                out.varint(varint::difference(u64::from(node.parent.0), id));
                out.varint(varint::difference(self.frame, node.address));
                (self.node, self.frame) = (id, node.address);
            }
            Item::Record(record) => {
                out.byte(code::RECORD);
                out.varint(u64::from(record.thread.0));
                out.varint(record.stamp);
                out.varint(record.bytes.len() as u64);
                out.bytes(record.bytes);
            }
        }
        let length = out.finish();
        if length.is_none() {
            *self = before;
        }
        length
    }

    fn place(&mut self, out: &mut Output<'_>, address: u64, stamp: Stamp) {
        out.varint(varint::difference(self.address, address));
        out.varint(varint::difference(self.stamp, stamp));
        (self.address, self.stamp) = (address, stamp);
    }

    /// Reads the item at the front of `bytes`, and how long it is; `None` where the bytes end before,
    /// or are no item.
    #[must_use]
    pub fn read<'a>(&mut self, bytes: &'a [u8]) -> Option<(Item<'a>, usize)> {
        let mut state = *self;
        let mut input = In { bytes, at: 0 };
        let item = state.item(&mut input)?;
        *self = state;
        Some((item, input.at))
    }

    fn item<'a>(&mut self, input: &mut In<'a>) -> Option<Item<'a>> {
        let first = input.byte()?;
        Some(match first & code::MASK {
            code::HELD => {
                let mut align_log2 = first >> code::ALIGN_SHIFT;
                if align_log2 == code::ALIGN_FOLLOWS {
                    align_log2 = input.byte()?;
                }
                self.placed(input)?;
                let size = input.varint()?;
                let node = varint::apply_difference(self.node, input.varint()?);
                self.node = node;
                Item::Held(HeldBlock {
                    address: self.address,
                    stamp: self.stamp,
                    size,
                    align_log2: align_log2.min(63),
                    node: NodeId(u32::try_from(node).ok()?),
                    thread: ThreadId(u32::try_from(input.varint()?).ok()?),
                })
            }
            code::RELEASED => {
                self.placed(input)?;
                Item::Released { address: self.address, stamp: self.stamp }
            }
            code::NODE => {
                let id = varint::apply_difference(self.node, input.varint()?);
                let parent = id.wrapping_sub(varint::apply_difference(0, input.varint()?));
                let address = varint::apply_difference(self.frame, input.varint()?);
                (self.node, self.frame) = (id, address);
                Item::Node(NodeDefinition {
                    id: NodeId(u32::try_from(id).ok()?),
                    parent: NodeId(u32::try_from(parent).ok()?),
                    address,
                })
            }
            code::RECORD => {
                let thread = ThreadId(u32::try_from(input.varint()?).ok()?);
                let stamp = input.varint()?;
                let length = usize::try_from(input.varint()?).ok()?;
                let end = input.at.checked_add(length)?;
                let bytes = input.bytes.get(input.at..end)?;
                input.at = end;
                Item::Record(CarriedRecord { thread, stamp, bytes })
            }
            _ => return None,
        })
    }

    fn placed(&mut self, input: &mut In<'_>) -> Option<()> {
        self.address = varint::apply_difference(self.address, input.varint()?);
        self.stamp = varint::apply_difference(self.stamp, input.varint()?);
        Some(())
    }
}

struct In<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl In<'_> {
    #[inline]
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let (value, length) = varint::read(self.bytes.get(self.at..)?)?;
        self.at += length;
        Some(value)
    }
}

/// The rows of a chunk, read without allocating.
#[derive(Debug)]
pub struct Rows<'a> {
    payload: &'a [u8],
    offset: usize,
    state: DecodeState,
    event: Event,
}

/// What [`Rows::next_row`] came to.
#[derive(Debug)]
pub enum ChunkRow<'a> {
    /// A heap event: [`Rows::event`] has it.
    Event,
    /// A node of the call tree.
    Node(NodeDefinition),
    /// Another thread's records follow, from this time on.
    Context(ThreadId, Stamp),
    /// Any other record.
    Record(CarriedRecord<'a>),
}

impl<'a> Rows<'a> {
    /// The rows of a chunk's payload, unpacked.
    #[must_use]
    pub const fn new(payload: &'a [u8]) -> Self {
        Self { payload, offset: 0, state: DecodeState::START, event: Event::NONE }
    }

    /// The next row; `None` at the end, or where the rest cannot be read.
    pub fn next_row(&mut self) -> Option<ChunkRow<'a>> {
        let (begin, thread, stamp) = (self.offset, self.state.thread(), self.state.stamp());
        let found = self.state.next_row(self.payload, &mut self.offset, &mut self.event);
        Some(match found.ok()? {
            Row::Event => ChunkRow::Event,
            Row::Node(node) => ChunkRow::Node(node),
            Row::Context => ChunkRow::Context(self.state.thread(), self.state.stamp()),
            Row::Other => ChunkRow::Record(CarriedRecord {
                thread,
                stamp,
                bytes: self.payload.get(begin..self.offset)?,
            }),
            Row::End => return None,
        })
    }

    /// The event that the last row was.
    #[must_use]
    pub const fn event(&self) -> &Event {
        &self.event
    }

    /// The last stamp read.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.state.stamp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<Item<'static>> {
        let held = |address, stamp, align_log2, node| {
            let (size, thread) = (address >> 3, ThreadId(7));
            Item::Held(HeldBlock { address, stamp, size, align_log2, node: NodeId(node), thread })
        };
        vec![
            held(0x1000, 5, 3, 9),
            held(0x7fff_ffff_f000, 1, 31, u32::MAX),
            Item::Released { address: 16, stamp: u64::MAX },
            held(8, 1 << 60, 63, 0),
            Item::Node(NodeDefinition { id: NodeId(90), parent: NodeId(4), address: 0x5555 }),
            Item::Node(NodeDefinition { id: NodeId(9), parent: NodeId(0), address: 3 }),
            Item::Record(CarriedRecord { thread: ThreadId(3), stamp: 77, bytes: b"\x08abc" }),
        ]
    }

    #[test]
    fn items_come_back_and_no_cut_one_is_read() {
        let mut bytes = vec![0; 4096];
        let (mut state, mut length) = (ItemState::START, 0);
        for item in items() {
            length += state.write(&mut bytes[length..], &item).expect("room");
        }
        bytes.truncate(length);
        let (mut state, mut at) = (ItemState::START, 0);
        for item in items() {
            let before = state;
            let (found, length) = state.read(&bytes[at..]).expect("an item");
            assert_eq!(found, item);
            for cut in 0..length {
                let mut cut_state = before;
                assert_eq!(cut_state.read(&bytes[at..at + cut]), None, "cut at {cut}");
                assert_eq!(cut_state, before);
            }
            at += length;
        }
        assert_eq!(at, bytes.len());
    }

    #[test]
    fn an_item_without_room_changes_nothing() {
        for item in items() {
            let mut state = ItemState::START;
            let length = state.write(&mut [0; 64], &item).expect("room");
            assert!(length <= MAX_ITEM_BYTES);
            for room in 0..length {
                let mut state = ItemState::START;
                assert_eq!(state.write(&mut vec![0; room], &item), None);
                assert_eq!(state, ItemState::START);
            }
        }
    }
}
