//! Heap events that are read together before any of them is looked at.

use alloc_trace_format::{EventKind, NodeId, ReadError};

use super::makers::MakerIndex;
use crate::call_tree::Place;
use crate::frames::Mark;
use crate::ledger::Posted;
use crate::replay::{HeapEvent, HeapRun, Replay};
use crate::sites::Traced;
use crate::span_lives::NO_SPAN;

/// How many events are read before they are looked at, so that the processor fetches what many of them lead to
/// at a time.
pub(super) const BATCH: usize = 64;

/// A heap event and what it belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) event: Posted,
    pub(super) node: NodeId,
    /// The index of its thread.
    pub(super) thread: u32,
    /// How many outermost frames are as they were, where the event says so.
    pub(super) kept_frames: Option<u32>,
    pub(super) internal: bool,
    /// Whether it begins a block, if it obtains one that is not known.
    pub(super) begins: bool,
    /// Whether records of its thread were lost before it.
    pub(super) gap: bool,
    /// The span that its thread was in.
    pub(super) span: u64,
    /// Where the backtrace leads.
    pub(super) traced: Traced,
    /// The place of its thread's event before; `None` where that is not known.
    pub(super) before: Option<Place>,
    /// How much the two have in common.
    pub(super) mark: Mark,
    /// Of a request: who makes the block, where it begins one. Of another event: who seems to have made it.
    pub(super) maker: MakerIndex,
}

impl Found {
    fn new(event: Posted, node: NodeId, thread: usize) -> Self {
        Self {
            event,
            node,
            thread: thread as u32,
            kept_frames: None,
            internal: false,
            begins: true,
            gap: false,
            span: NO_SPAN,
            traced: Traced::NONE,
            before: None,
            mark: 0,
            maker: MakerIndex::MAX,
        }
    }

    /// The address of the block that it releases; `None` where it releases none.
    #[inline]
    pub(super) fn released(&self) -> Option<u64> {
        match self.event.kind {
            EventKind::Free => Some(self.event.address),
            EventKind::Realloc => Some(self.event.old_address),
            EventKind::Alloc | EventKind::AllocZeroed => None,
        }
    }

    /// Its place; `None` where that is not known.
    #[inline]
    pub(super) fn place(&self) -> Option<Place> {
        Some(self.traced.place).filter(|&place| place != Place::LOST)
    }
}

/// Reads the next events into `batch`, in place of those that it held: none at the end of the recording.
pub(super) fn read(batch: &mut Vec<Found>, replay: &mut Replay<'_>) -> Result<(), ReadError> {
    batch.clear();
    while batch.len() < BATCH {
        if let Some((run, _)) = replay.next_run(BATCH - batch.len()) {
            let HeapRun { events, thread, internal, span, gap } = run;
            let span = span.map_or(NO_SPAN, |entered| entered.instance);
            let first = batch.len();
            batch.extend(events.iter().map(|event| {
                let found = Found::new(event.into(), event.node, thread);
                Found { internal, span, ..found }
            }));
            if let Some(first) = batch.get_mut(first) {
                first.gap = gap;
            }
        } else if replay.advance()? {
            let gap = replay.take_gap();
            let HeapEvent { event, thread, internal, filter } = replay.event();
            let span = replay.spans.current(thread).map_or(NO_SPAN, |entered| entered.instance);
            // A reallocation begins nothing of its own where its block may be one that is not picked.
            let is_realloc = event.kind == EventKind::Realloc;
            let begins = filter.picked && !(is_realloc && replay.prepared.is_filtered());
            let found = Found::new(event.into(), event.node, thread);
            let kept_frames = event.kept_frames;
            batch.push(Found { internal, begins, gap, span, kept_frames, ..found });
        } else {
            break;
        }
    }
    Ok(())
}
