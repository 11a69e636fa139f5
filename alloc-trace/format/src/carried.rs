//! What a ring's last checkpoint carries on, brought to the horizon.
//!
//! A checkpoint says what was known of each address by the chunks that were written over. Chunks that
//! are still there can reach back behind the horizon: of these only what they change of that counts.
//! What was seen last of an address wins.

use std::collections::HashMap;
use std::collections::HashSet;

use crate::chunk_records::ChunkRecords;
use crate::error::ReadError;
use crate::items::{HeldBlock, Item, ItemState};
use crate::payload::PayloadReader;
use crate::record::{Context, Event, EventKind, Record, Stamp};
use crate::recording::{Chunk, Skipped};
use crate::{Anchor, ThreadId};

/// What is known of the time before the horizon.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    /// Records that define something, and when they stood.
    pub(crate) definitions: Vec<(Record, Stamp)>,
    /// The requests of the blocks that were live at the horizon, by stamp.
    pub(crate) events: Vec<Event>,
}

/// What an address was seen to be last.
type Seen = HashMap<u64, (Stamp, Option<HeldBlock>)>;

/// The payload of a checkpoint's block, and where in the file it lies.
#[derive(Debug)]
pub(crate) struct CheckpointBlock {
    pub(crate) offset: u64,
    pub(crate) payload: Vec<u8>,
}

impl Carried {
    pub(crate) fn gather(
        blocks: &[CheckpointBlock],
        chunks: &[Chunk],
        horizon: Stamp,
        start: Anchor,
        reader: &mut PayloadReader,
        skipped: &mut Vec<Skipped>,
    ) -> Result<Self, ReadError> {
        let mut carried = Self::default();
        let mut seen = Seen::default();
        for block in blocks {
            if let Err(offset) = carried.take(&block.payload, &mut seen) {
                skipped.push(Skipped {
                    offset: block.offset + offset as u64,
                    bytes: (block.payload.len() - offset) as u64,
                    expected: "an item of a checkpoint".into(),
                    truncated: false,
                });
            }
        }
        // What came last of a thread stands first. Nodes, which have no time, stay where they are.
        carried.definitions.sort_by_key(|(_, stamp)| *stamp);
        let mut records = ChunkRecords::default();
        for chunk in chunks.iter().filter(|chunk| chunk.first_stamp <= horizon) {
            // Damage is told by whoever reads the chunk for its events.
            reader.load(chunk, &mut records)?;
            while let Some(event) = records.next_event() {
                if event.stamp <= horizon {
                    apply(&mut seen, &event);
                }
            }
        }
        let held = seen.into_values().filter_map(|(_, held)| held);
        carried.events.extend(held.map(|held| held.event()));
        carried.events.sort_unstable_by_key(|event| (event.stamp, event.address));
        let threads: HashSet<ThreadId> = carried.events.iter().map(|event| event.thread).collect();
        let contexts = threads.into_iter().map(|thread| {
            let stamp = start.ticks;
            (Record::Context(Context { thread, stamp, anchor: start }), stamp)
        });
        carried.definitions.extend(contexts);
        Ok(carried)
    }

    /// Takes the items of a checkpoint's block; `Err` says where the first one stands that is none.
    fn take(&mut self, payload: &[u8], seen: &mut Seen) -> Result<(), usize> {
        let mut state = ItemState::START;
        let mut at = 0;
        while at < payload.len() {
            let (item, length) = state.read(&payload[at..]).ok_or(at)?;
            match item {
                Item::Held(held) => note(seen, held.address, held.stamp, Some(held)),
                Item::Released { address, stamp } => note(seen, address, stamp, None),
                Item::Node(node) if node.id.is_root() => return Err(at),
                Item::Node(node) => self.definitions.push((Record::Node(node), 0)),
                Item::Record(record) => self.definitions.push(record.decode().ok_or(at)?),
            }
            at += length;
        }
        Ok(())
    }
}

fn apply(seen: &mut Seen, event: &Event) {
    if event.failed {
        return;
    }
    match event.kind {
        EventKind::Free => note(seen, event.address, event.stamp, None),
        EventKind::Realloc => {
            note(seen, event.old_address, event.begin_stamp, None);
            note(seen, event.address, event.stamp, Some(HeldBlock::of(event)));
        }
        EventKind::Alloc | EventKind::AllocZeroed => {
            note(seen, event.address, event.stamp, Some(HeldBlock::of(event)));
        }
    }
}

fn note(seen: &mut Seen, address: u64, stamp: Stamp, held: Option<HeldBlock>) {
    let last = seen.entry(address).or_insert((stamp, held));
    if stamp >= last.0 {
        *last = (stamp, held);
    }
}
