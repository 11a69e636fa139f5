//! The second pass over a recording: its heap events in order, each with what the first pass found
//! out about it.

use alloc_trace_format::{Event, EventKind, Merged, ReadError, Record, Recording};
use rustc_hash::FxHashSet;

use crate::definitions::Definitions;
use crate::options::Options;
use crate::sites::{SiteIndex, Sites};
use crate::spans::Spans;

/// What the passes over one recording share.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    recording: &'a Recording,
    pub(crate) definitions: Definitions,
    pub(crate) sites: Sites,
    options: Options,
}

impl<'a> Prepared<'a> {
    pub(crate) fn new(recording: &'a Recording, options: Options) -> Result<Self, ReadError> {
        let definitions = Definitions::gather(recording)?;
        let recorded_at_ns = recording.header().start_realtime_ns;
        let sites = Sites::new(&definitions, recorded_at_ns, options);
        Ok(Self { recording, definitions, sites, options })
    }
}

/// The heap events of a recording in order.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    pub(crate) prepared: Prepared<'a>,
    records: Merged<'a>,
    pub(crate) spans: Spans,
    /// The blocks that the recorder's own threads allocated.
    internal_blocks: FxHashSet<u64>,
    has_internal_threads: bool,
}

/// A heap event and what it belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeapEvent {
    pub(crate) event: Event,
    /// The index of its thread.
    pub(crate) thread: usize,
    pub(crate) site: SiteIndex,
    /// Whether it is the recorder's own: made by one of its threads, or the release of a block
    /// that one of them allocated.
    pub(crate) internal: bool,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(prepared: Prepared<'a>) -> Self {
        let threads = &prepared.definitions.threads;
        Self {
            records: prepared.recording.merged(),
            spans: Spans::new(prepared.options.span_fields, threads.len()),
            internal_blocks: FxHashSet::default(),
            has_internal_threads: threads.iter().any(|thread| thread.internal),
            prepared,
        }
    }

    /// The next heap event, the recorder's own included; afterwards [`Replay::spans`] knows which
    /// span it happened in.
    #[inline]
    pub(crate) fn next_event(&mut self) -> Result<Option<HeapEvent>, ReadError> {
        let definitions = &self.prepared.definitions;
        while let Some(record) = self.records.next_record()? {
            match record {
                Record::Event(event) => {
                    let thread = definitions.thread(event.thread);
                    let site = self.prepared.sites.of(&definitions.call_tree, event.node);
                    let internal = self.has_internal_threads && self.is_internal(&event, thread);
                    return Ok(Some(HeapEvent { event, thread, site, internal }));
                }
                Record::Span(span) => self.spans.make(&span),
                Record::SpanEnter { thread, span, .. } => {
                    self.spans.enter(definitions.thread(thread), span);
                }
                Record::SpanExit { thread, span, .. } => {
                    self.spans.exit(definitions.thread(thread), span);
                }
                Record::SpanClose { span, .. } => self.spans.close(span),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Whether an event is the recorder's own; follows the blocks that are.
    fn is_internal(&mut self, event: &Event, thread: usize) -> bool {
        let threads = &self.prepared.definitions.threads;
        let own_thread = threads.get(thread).is_some_and(|thread| thread.internal);
        if event.failed {
            return own_thread || self.internal_blocks.contains(&event.old_address);
        }
        let released = match event.kind {
            EventKind::Free => self.internal_blocks.remove(&event.address),
            EventKind::Realloc => self.internal_blocks.remove(&event.old_address),
            EventKind::Alloc | EventKind::AllocZeroed => false,
        };
        let internal = own_thread || released;
        if event.kind != EventKind::Free {
            if internal {
                self.internal_blocks.insert(event.address);
            } else {
                self.internal_blocks.remove(&event.address);
            }
        }
        internal
    }
}
