//! What one chunk leaves to be carried on when the ring comes round: of each address whether a block
//! there is held or was released in the end, its nodes, and records that define something.
//!
//! A release is told although the chunk itself has the request: another thread may have freed that block
//! meanwhile, and obtained the one that this one released.
//!
//! It is made of the chunk's rows while they are in the window, and written behind the chunk. So nobody
//! has to unpack a chunk in order to write over it, which a hook could not: that needs memory.

use alloc_trace_format::{
    ChunkRow, Event, EventKind, HeldBlock, Item, ItemState, NodeDefinition, NodeId, Rows, Stamp,
    Subject, ThreadId,
};

/// The longest payload of a chunk of which a digest can be made.
pub(super) const LONGEST_CHUNK_BYTES: usize = 256 << 10;

/// A row that obtains or frees has at least six bytes; one that does both has ten.
const MAX_ENTRIES: usize = LONGEST_CHUNK_BYTES / 5;
/// A node has at least four.
const MAX_NODES: usize = LONGEST_CHUNK_BYTES / 4;
const PLACES: usize = 1 << 16;
const OUTPUT_BYTES: usize = 1 << 20;
const RECORDS_BYTES: usize = 512 << 10;

const _: () = assert!(PLACES > MAX_ENTRIES && PLACES.is_power_of_two());
const _: () = assert!(MAX_ENTRIES <= 1 << 16);

/// Makes digests. Zeroed memory is a valid one.
#[derive(Debug)]
pub(super) struct Digester {
    /// Where an address is in `entries`, one added.
    places: [u32; PLACES],
    entries: [Entry; MAX_ENTRIES],
    /// The entries by address: the last two bytes of each are the index of one.
    order: [u64; MAX_ENTRIES],
    nodes: [NodeDefinition; MAX_NODES],
    records: [u8; RECORDS_BYTES],
    output: [u8; OUTPUT_BYTES],
}

/// What a chunk says of one address.
#[derive(Debug, Clone, Copy)]
struct Entry {
    address: u64,
    stamp: Stamp,
    size: u64,
    node: NodeId,
    thread: ThreadId,
    align_log2: u8,
    /// Whether the last thing was that a block was obtained there.
    held: bool,
}

/// A digest: its bytes, and how many of them are of which kind.
#[derive(Debug)]
pub(super) struct Digest<'a> {
    pub(super) bytes: &'a [u8],
    /// Blocks held and released, by address.
    pub(super) effect_bytes: u32,
    /// Nodes, the last one first. Records follow.
    pub(super) node_bytes: u32,
}

impl Digester {
    /// Makes the digest of a chunk's rows; `None` where it does not fit.
    pub(super) fn digest(&mut self, payload: &[u8]) -> Option<Digest<'_>> {
        // Few rows need few places, which are to be cleared.
        let places = (payload.len() / 4).next_power_of_two().clamp(1 << 10, PLACES);
        let mask = places - 1;
        self.places.get_mut(..places)?.fill(0);
        let (mut entries, mut nodes, mut record_bytes) = (0, 0, 0);
        let mut record_state = ItemState::START;
        let mut rows = Rows::new(payload);
        while let Some(row) = rows.next_row() {
            match row {
                ChunkRow::Event => self.event(rows.event(), mask, &mut entries)?,
                ChunkRow::Node(node) => {
                    *self.nodes.get_mut(nodes)? = node;
                    nodes += 1;
                }
                ChunkRow::Record(record) if record.subject() != Subject::Moment => {
                    let out = self.records.get_mut(record_bytes..)?;
                    record_bytes += record_state.write(out, &Item::Record(record))?;
                }
                ChunkRow::Context(..) | ChunkRow::Record(_) => {}
            }
        }
        let Self { entries: all, order, nodes: all_nodes, records, output, .. } = self;
        let (all, order) = (all.get(..entries)?, order.get_mut(..entries)?);
        sort(all, order);
        let mut length = 0;
        let mut state = ItemState::START;
        for place in order {
            let entry = all.get(usize::from(*place as u16))?;
            length += state.write(output.get_mut(length..)?, &entry.item())?;
        }
        let effect_bytes = length;
        let taken = all_nodes.get_mut(..nodes)?;
        taken.sort_unstable_by_key(|node| u32::MAX - node.id.0);
        let mut state = ItemState::START;
        for node in taken {
            length += state.write(output.get_mut(length..)?, &Item::Node(*node))?;
        }
        let node_bytes = length - effect_bytes;
        let records = records.get(..record_bytes)?;
        output.get_mut(length..length + record_bytes)?.copy_from_slice(records);
        length += record_bytes;
        Some(Digest {
            bytes: output.get(..length)?,
            effect_bytes: effect_bytes as u32,
            node_bytes: node_bytes as u32,
        })
    }

    #[inline]
    fn event(&mut self, event: &Event, mask: usize, entries: &mut usize) -> Option<()> {
        if event.failed {
            return Some(());
        }
        match event.kind {
            EventKind::Free => self.release(event.address, event.stamp, mask, entries)?,
            EventKind::Realloc => {
                self.release(event.old_address, event.begin_stamp, mask, entries)?;
                self.hold(event, mask, entries)?;
            }
            EventKind::Alloc | EventKind::AllocZeroed => self.hold(event, mask, entries)?,
        }
        Some(())
    }

    fn release(
        &mut self,
        address: u64,
        stamp: Stamp,
        mask: usize,
        entries: &mut usize,
    ) -> Option<()> {
        let entry = self.entry(address, mask, entries)?;
        (entry.held, entry.stamp) = (false, stamp);
        Some(())
    }

    fn hold(&mut self, event: &Event, mask: usize, entries: &mut usize) -> Option<()> {
        let entry = self.entry(event.address, mask, entries)?;
        let HeldBlock { address, stamp, size, align_log2, node, thread } = HeldBlock::of(event);
        *entry = Entry { address, stamp, size, node, thread, align_log2, held: true };
        Some(())
    }

    /// The entry of an address, made if there is none.
    #[inline]
    fn entry(&mut self, address: u64, mask: usize, entries: &mut usize) -> Option<&mut Entry> {
        let mixed = (address >> 4 ^ address << 60).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut at = (mixed >> 20) as usize & mask;
        loop {
            let place = self.places.get_mut(at)?;
            match *place as usize {
                0 => {
                    let fresh = self.entries.get_mut(*entries)?;
                    *entries += 1;
                    *place = *entries as u32;
                    *fresh = Entry::of(address);
                    return Some(fresh);
                }
                number if self.entries.get(number - 1)?.address == address => {
                    return self.entries.get_mut(number - 1);
                }
                _ => at = (at + 1) & mask,
            }
        }
    }
}

/// Puts the indices of entries in the order of their addresses.
///
/// Plain numbers are sorted several times as fast as by a key that has to be looked up. An address has
/// 47 bits, unless it is tagged.
fn sort(entries: &[Entry], order: &mut [u64]) {
    let narrow = entries.iter().fold(0, |all, entry| all | entry.address) >> 48 == 0;
    for (index, (place, entry)) in (0..).zip(order.iter_mut().zip(entries)) {
        *place = if narrow { entry.address << 16 | index } else { index };
    }
    if narrow {
        order.sort_unstable();
    } else {
        let address = |index: &u64| entries.get(*index as usize).map_or(0, |entry| entry.address);
        order.sort_unstable_by_key(address);
    }
}

impl Entry {
    const fn of(address: u64) -> Self {
        Self {
            address,
            stamp: 0,
            size: 0,
            node: NodeId::ROOT,
            thread: ThreadId(0),
            align_log2: 0,
            held: false,
        }
    }

    const fn item(&self) -> Item<'static> {
        let Self { address, stamp, size, node, thread, align_log2, held } = *self;
        if held {
            Item::Held(HeldBlock { address, stamp, size, align_log2, node, thread })
        } else {
            Item::Released { address, stamp }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc_trace_format::{Anchor, Context, Encoder};

    fn event(kind: EventKind, stamp: u64, address: u64) -> Event {
        Event { node: NodeId(5), ..Event::new(kind, ThreadId(3), stamp, address, 24) }
    }

    fn items(bytes: &[u8]) -> Vec<Item<'_>> {
        let (mut state, mut at, mut found) = (ItemState::START, 0, Vec::new());
        while at < bytes.len() {
            let (item, length) = state.read(&bytes[at..]).expect("an item");
            found.push(item);
            at += length;
        }
        found
    }

    #[test]
    fn entries_are_put_in_order_of_whole_addresses_tagged_ones_too() {
        for shift in [40, 56] {
            let addresses = [5, 3 << shift, 1 << shift | 7, 2, 1 << shift];
            let entries = addresses.map(Entry::of);
            let mut order = [0; 5];
            sort(&entries, &mut order);
            assert_eq!(order.map(|place| place as u16), [3, 0, 4, 2, 1], "{shift}");
        }
    }

    #[test]
    fn what_was_seen_last_of_each_address_is_told_with_nodes_and_records() {
        let layout = std::alloc::Layout::new::<Digester>();
        // SAFETY: the layout is not empty.
        let memory = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<Digester>();
        assert!(!memory.is_null());
        // SAFETY: allocated just now with that layout; zeroed memory is a valid digester.
        let mut digester = unsafe { Box::from_raw(memory) };
        let mut payload = vec![0; 4096];
        let (mut encoder, mut length) = (Encoder::new(), 0);
        let anchor = Anchor { ticks: 100, monotonic_ns: 0 };
        let context = Context { thread: ThreadId(3), stamp: 100, anchor };
        length += encoder.context(&mut payload[length..], &context).expect("room");
        length += encoder
            .thread_start(&mut payload[length..], ThreadId(3), 9, false, 100, b"worker")
            .expect("room");
        let node = NodeDefinition { id: NodeId(5), parent: NodeId(0), address: 0x99 };
        length += encoder.node(&mut payload[length..], &node).expect("room");
        let moved =
            Event { old_address: 0x500, begin_stamp: 105, ..event(EventKind::Realloc, 106, 0x600) };
        let events = [
            event(EventKind::Alloc, 101, 0x200),
            event(EventKind::Free, 102, 0x100),
            event(EventKind::Alloc, 103, 0x300),
            event(EventKind::Free, 104, 0x200),
            moved,
            event(EventKind::Free, 107, 0x400),
            event(EventKind::Alloc, 108, 0x400),
            event(EventKind::Free, 109, 0x400),
        ];
        for event in &events {
            length += encoder.event(&mut payload[length..], event).expect("room");
        }
        let digest = digester.digest(&payload[..length]).expect("fits");
        let (effects, rest) = digest.bytes.split_at(digest.effect_bytes as usize);
        let held = |event: &Event| Item::Held(HeldBlock::of(event));
        let expected = [
            Item::Released { address: 0x100, stamp: 102 },
            Item::Released { address: 0x200, stamp: 104 },
            held(&events[2]),
            Item::Released { address: 0x400, stamp: 109 },
            Item::Released { address: 0x500, stamp: 105 },
            held(&events[4]),
        ];
        assert_eq!(items(effects), expected);
        let (nodes, records) = rest.split_at(digest.node_bytes as usize);
        assert_eq!(items(nodes), [Item::Node(node)]);
        match items(records).as_slice() {
            [Item::Record(record)] => {
                assert_eq!(record.subject(), Subject::Thread(ThreadId(3)));
                assert_eq!((record.thread, record.stamp), (ThreadId(3), 100));
            }
            other => panic!("{other:?}"),
        }
    }
}
