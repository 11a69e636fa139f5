//! What nearly all heap events are, and all that is kept of one on its way between rows and columns.

use crate::compact::Site;
use crate::record::{Event, EventKind, NodeId, Stamp, ThreadId, tag};

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
