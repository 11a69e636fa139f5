//! Sorted rows of items, of which the first ones are merged: a digest has one of each section, and the
//! blocks of a checkpoint are one together.

use alloc_trace_format::{BlockHeader, HeldBlock, Item, ItemState, NodeDefinition, NodeId, Stamp};

use super::MAX_BLOCKS;
use crate::recorder::log::Log;
use crate::recorder::sys::Errno;

/// What is carried, in the order in which a digest and a checkpoint have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Section {
    Effects,
    Nodes,
    Records,
}

/// Where a digest's payload lies, and how long its sections are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digested {
    pub(super) offset: u64,
    pub(super) lengths: [u32; 3],
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) offset: u64,
    pub(super) bytes: u32,
    pub(super) section: Section,
}

pub(super) struct Checkpoint {
    pub(super) blocks: [Block; MAX_BLOCKS],
    pub(super) length: usize,
}

/// One sorted row of items, as far as it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Where the next bytes are read, and how many there are.
    pub(super) offset: u64,
    left: u32,
    /// Of the checkpoint: the block that comes next.
    next_block: u32,
    /// What is read and not decoded yet: a part of the run's own buffer.
    begin: u32,
    end: u32,
    state: ItemState,
    pub(super) head: Head,
}

/// A place, a time, and whether a block is held.
type Key = (u64, Stamp, bool);

/// The first item of a run. Zeroed memory is none.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum Head {
    None,
    Held(HeldBlock),
    Released(u64, Stamp),
    Node(NodeDefinition),
}

impl Digested {
    /// What a digest's block header says of the payload at an offset.
    pub(super) const fn of(header: &BlockHeader, offset: u64) -> Self {
        let records = (header.stored_bytes as u32)
            .saturating_sub(header.raw_bytes)
            .saturating_sub(header.events);
        Self { offset, lengths: [header.raw_bytes, header.events, records] }
    }
}

impl Checkpoint {
    pub(super) fn blocks(&self) -> &[Block] {
        self.blocks.get(..self.length).unwrap_or_default()
    }
}

impl Head {
    /// An item's address; of no item one that none has.
    pub(super) const fn place(&self) -> Option<u64> {
        match self {
            Self::Held(held) => Some(held.address),
            Self::Released(address, _) => Some(*address),
            Self::Node(_) | Self::None => None,
        }
    }

    /// Where it stands in the order of its section; at one place and stamp a block that is held is
    /// the last, since it was obtained after the one before was released.
    fn key(&self) -> Key {
        match *self {
            Self::Held(held) => (held.address, held.stamp, true),
            Self::Released(address, stamp) => (address, stamp, false),
            Self::Node(NodeDefinition { id: NodeId(id), .. }) => (u64::from(!id), 0, false),
            Self::None => (u64::MAX, Stamp::MAX, true),
        }
    }
}

impl Run {
    pub(super) const fn of_digest(digest: &Digested, section: Section) -> Self {
        let [effects, nodes, records] = digest.lengths;
        let (before, left) = match section {
            Section::Effects => (0, effects),
            Section::Nodes => (effects, nodes),
            Section::Records => (effects + nodes, records),
        };
        Self { offset: digest.offset + before as u64, left, ..Self::of_checkpoint() }
    }

    pub(super) const fn of_checkpoint() -> Self {
        Self {
            offset: 0,
            left: 0,
            next_block: 0,
            begin: 0,
            end: 0,
            state: ItemState::START,
            head: Head::None,
        }
    }

    /// Goes on to the next item. Blocks of a checkpoint follow where the run has none left: those of
    /// digests have none of the section, since they begin with something.
    pub(super) fn advance(
        &mut self,
        log: &Log,
        checkpoint: &[Block],
        section: Section,
        buffer: &mut [u8],
    ) -> Result<(), Errno> {
        loop {
            let ready = buffer.get(self.begin as usize..self.end as usize).unwrap_or_default();
            if let Some((item, length)) = self.state.read(ready) {
                self.begin += length as u32;
                self.head = match item {
                    Item::Held(held) => Head::Held(held),
                    Item::Released { address, stamp } => Head::Released(address, stamp),
                    Item::Node(node) => Head::Node(node),
                    Item::Record(_) => return Err(libc::EIO),
                };
                return Ok(());
            }
            let kept = ready.len();
            if self.left == 0 {
                if kept > 0 {
                    // Somebody else wrote there.
                    return Err(libc::EIO);
                }
                let rest = checkpoint.get(self.next_block as usize..).unwrap_or_default();
                let next = rest.iter().position(|block| block.section == section);
                let block = next.and_then(|next| Some((next, rest.get(next)?)));
                let Some((next, block)) = block.filter(|_| self.offset == 0 || self.next_block > 0)
                else {
                    self.head = Head::None;
                    return Ok(());
                };
                self.next_block += next as u32 + 1;
                (self.offset, self.left) = (block.offset, block.bytes);
                self.state = ItemState::START;
            }
            buffer.copy_within(self.begin as usize..self.end as usize, 0);
            let room = buffer.len() - kept;
            let length = room.min(self.left as usize);
            let Some(place) = buffer.get_mut(kept..kept + length).filter(|place| !place.is_empty())
            else {
                return Err(libc::EIO);
            };
            log.read_at(self.offset, place)?;
            self.offset += length as u64;
            self.left -= length as u32;
            (self.begin, self.end) = (0, (kept + length) as u32);
        }
    }
}

/// A run by its first item. What it is compared by stands here: runs themselves lie far apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranked {
    key: Key,
    pub(super) run: u16,
}

impl Ranked {
    pub(super) fn of(run: &Run, index: u16) -> Self {
        Self { key: run.head.key(), run: index }
    }
}

/// Restores the order of a heap of runs whose first is the least, from `at` downwards.
pub(super) fn sift_down(heap: &mut [Ranked], mut at: usize) {
    let Some(&moved) = heap.get(at) else { return };
    loop {
        let (left, right) = (at * 2 + 1, at * 2 + 2);
        let Some(first) = heap.get(left) else { break };
        let (below, least) = match heap.get(right) {
            Some(second) if second.key < first.key => (right, *second),
            _ => (left, *first),
        };
        if moved.key <= least.key {
            break;
        }
        if let Some(place) = heap.get_mut(at) {
            *place = least;
        }
        at = below;
    }
    if let Some(place) = heap.get_mut(at) {
        *place = moved;
    }
}
