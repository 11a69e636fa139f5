//! A heap event on its way to an account, and what it belongs to.

use alloc_trace_format::{Event, EventKind, RunEvent, Stamp};

use crate::call_tree::Place;
use crate::owners::Owner;
use crate::replay::{HeapEvent, Prepared};
use crate::sites::{SiteIndex, Traced};
use crate::spans::{Entered, Spans};

/// What an account needs of a heap event: little, for every event is copied on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Posted {
    pub(crate) stamp: Stamp,
    pub(crate) address: u64,
    pub(crate) size: u64,
    /// Of a reallocation.
    pub(crate) old_address: u64,
    pub(super) old_size: u64,
    pub(crate) kind: EventKind,
    pub(crate) failed: bool,
    pub(crate) align_log2: u8,
}

impl From<&Event> for Posted {
    #[inline]
    fn from(event: &Event) -> Self {
        let &Event {
            kind, failed, stamp, address, size, align_log2, old_address, old_size, ..
        } = event;
        Self { stamp, address, size, old_address, old_size, kind, failed, align_log2 }
    }
}

impl From<&RunEvent> for Posted {
    #[inline]
    fn from(event: &RunEvent) -> Self {
        let &RunEvent { stamp, address, size, kind, align_log2, .. } = event;
        Self { stamp, address, size, old_address: 0, old_size: 0, kind, failed: false, align_log2 }
    }
}

/// Who an event counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its owner.
    Picked,
    /// Nobody: the filter does not pick it.
    PassedOver,
    /// The recorder.
    Internal,
}

/// Whose the events of a run are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose {
    pub(super) thread: u32,
    span_kind: u32,
    span_path: u32,
    pub(super) standing: Standing,
}

impl Whose {
    #[inline]
    pub(super) fn new(thread: usize, span: Option<&Entered>, standing: Standing) -> Self {
        let (span_kind, span_path) =
            span.map_or((0, 0), |entered| (entered.kind + 1, entered.path + 1));
        Self { thread: thread as u32, span_kind, span_path, standing }
    }
}

/// A heap event and what it belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Posting {
    pub(crate) event: Posted,
    pub(crate) place: Place,
    pub(crate) site: SiteIndex,
    /// Who it belongs to, where it counts.
    pub(super) owner: Owner,
    /// The index of its thread.
    pub(crate) thread: u32,
    /// The kind of the innermost span plus one; 0 outside of spans.
    pub(crate) span_kind: u32,
    /// The number of that span's path plus one; 0 outside of spans.
    pub(crate) span_path: u32,
    pub(super) standing: Standing,
}

impl Posting {
    #[inline]
    pub(super) fn new(event: Posted, traced: Traced, whose: Whose) -> Self {
        let Whose { thread, span_kind, span_path, standing } = whose;
        let Traced { place, site } = traced;
        Self { event, place, site, owner: 0, thread, span_kind, span_path, standing }
    }

    pub(super) fn of(heap_event: HeapEvent<'_>, prepared: &Prepared<'_>, spans: &Spans) -> Self {
        let HeapEvent { event, thread, internal, filter } = heap_event;
        let standing = match (internal, filter.picked) {
            (true, _) => Standing::Internal,
            (false, true) => Standing::Picked,
            (false, false) => Standing::PassedOver,
        };
        let whose = Whose::new(thread, spans.current(thread), standing);
        Self::new(event.into(), prepared.traced(event.node), whose)
    }
}
