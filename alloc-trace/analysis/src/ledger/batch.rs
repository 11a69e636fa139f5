//! Events that are read before they are counted, so that the processor fetches what they need together.

use alloc_trace_format::RunEvent;

use super::posting::{Posting, Whose};
use crate::live::Home;
use crate::owners::Owner;
use crate::sites::Traced;

/// How many events are read before they are counted.
///
/// Nearly every release finds its block in memory that is in no cache. Asked for one after the other
/// each is waited for; asked for together the processor fetches several at a time.
pub(super) const BATCH: usize = 64;

/// Where an event of a run leads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lead {
    pub(super) traced: Traced,
    pub(super) owner: Owner,
    pub(super) home: Home,
    /// Of a free: where its block stood there when the batch began.
    pub(super) entry: u8,
}

impl Lead {
    #[inline(always)]
    pub(super) fn posting(&self, event: &RunEvent, whose: Whose) -> Posting {
        let posting = Posting::new(event.into(), self.traced, whose);
        Posting { owner: self.owner, ..posting }
    }
}

/// Heap events that are read together before they are counted.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Those that belong to runs, and where each leads.
    pub(super) events: Vec<RunEvent>,
    pub(super) leads: Vec<Lead>,
    pub(super) parts: Vec<Part>,
}

/// A part of a batch.
#[derive(Debug)]
pub(super) enum Part {
    /// Events of one thread that are nothing but allocations and frees: up to this one of the batch's.
    Run(usize, Whose),
    /// Any event.
    Single(Posting),
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.events.clear();
        self.leads.clear();
        self.parts.clear();
    }

    /// How many events there may be room for.
    pub(super) fn room(&self) -> usize {
        BATCH.saturating_sub(self.events.len() + self.parts.len())
    }
}
