//! The second pass over a recording: its heap events in order, each with what the first pass found
//! out about it.

use std::sync::Arc;

use alloc_trace_format::{
    Event, Merged, NodeId, ReadError, Record, Recording, Run, RunEvent, Stamp, Step, ThreadId,
};

use crate::backtraces::Backtraces;
use crate::call_tree::Place;
use crate::definitions::Definitions;
use crate::error::AnalysisError;
use crate::flame_tree::{FlameTree, NodeIndex};
use crate::frames::Frames;
use crate::options::Options;
use crate::recorder_blocks::RecorderBlocks;
use crate::selection::{Picked, Selection};
use crate::sites::{Sites, Traced, TracedNodes};
use crate::span_lives::SpanLives;
use crate::spans::{Entered, Spans};
use crate::symbols::Symbols;
use crate::times::Times;
use crate::unmatched::{self, UnmatchedFilter};

/// What the passes over one recording share.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    recording: &'a Recording,
    pub(crate) definitions: Definitions,
    pub(crate) sites: Sites,
    nodes: TracedNodes,
    /// Where activations are followed.
    pub(crate) frames: Option<Frames>,
    /// Where a call tree by functions is asked for.
    pub(crate) flame_tree: Option<FlameTree>,
    /// Where the tree of frames is asked for.
    backtraces: Option<Arc<Backtraces>>,
    /// Where a filter is given.
    selection: Option<Selection>,
    /// What the filter asks for and the recording does not have.
    pub(crate) unmatched_filters: Vec<UnmatchedFilter>,
    span_fields: bool,
}

impl<'a> Prepared<'a> {
    pub(crate) fn new(recording: &'a Recording, options: Options) -> Result<Self, AnalysisError> {
        let definitions = Definitions::gather(recording, options.tree_form())?;
        let recorded_at_ns = recording.header().start_realtime_ns;
        let symbols = Symbols::new(&definitions.modules, recorded_at_ns)
            .with_debuginfod(options.debuginfod)
            .with_runtime_in_outline(!options.all_frames)
            .with_allocator(definitions.call_tree.allocator_addresses());
        let mut symbols = match (options.symbols, options.keep_symbols) {
            (false, _) => symbols.without_names(),
            (true, false) => symbols,
            (true, true) => symbols.with_cache(recording),
        };
        let call_tree = &definitions.call_tree;
        let all_frames = options.all_frames;
        let sites = Sites::new(call_tree, &mut symbols, all_frames);
        let frames = options.activations.then(|| Frames::new(call_tree, &mut symbols));
        let backtraces = options
            .backtraces
            .then(|| Arc::new(Backtraces::new(call_tree, &sites, &mut symbols, all_frames)));
        let flame_tree = options.flame_tree.then(|| {
            let backtraces = backtraces.as_deref();
            backtraces.map_or_else(FlameTree::default, |all| FlameTree::new(call_tree, all))
        });
        symbols.save();
        let (selection, unmatched_filters) = if options.filter.is_empty() {
            (None, Vec::new())
        } else {
            let times = Times::find(&options.filter, recording, &definitions)?;
            let unmatched =
                unmatched::find(&options.filter, &times, recording, &definitions, &sites)?;
            let selection = Selection::new(&options, times, recording, &definitions, &sites)?;
            (Some(selection), unmatched)
        };
        let span_fields = options.span_fields;
        let nodes = TracedNodes::new(&definitions.call_tree, &sites);
        Ok(Self {
            recording,
            definitions,
            sites,
            nodes,
            frames,
            flame_tree,
            backtraces,
            selection,
            unmatched_filters,
            span_fields,
        })
    }

    /// The tree of frames: empty unless [`Options`] ask for it.
    pub(crate) fn backtraces(&self) -> Arc<Backtraces> {
        self.backtraces.clone().unwrap_or_default()
    }

    /// The place and the site of a recorded node.
    #[inline]
    pub(crate) fn traced(&self, node: NodeId) -> Traced {
        self.nodes.get(node, &self.definitions.call_tree, &self.sites)
    }

    /// Whether a filter picks a part of the recording.
    pub(crate) fn is_filtered(&self) -> bool {
        self.selection.is_some()
    }

    /// Whether spans of one name are told apart by their fields: then there can be any number of kinds.
    pub(crate) const fn has_span_fields(&self) -> bool {
        self.span_fields
    }

    /// A backtrace's node in the call tree by functions.
    pub(crate) fn flame_node(&self, place: Place) -> NodeIndex {
        self.flame_tree.as_ref().map_or(0, |tree| tree.of(place))
    }

    /// When recording began.
    pub(crate) fn first_stamp(&self) -> Stamp {
        self.recording.header().start.ticks
    }
}

/// The heap events of a recording in order.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    pub(crate) prepared: Prepared<'a>,
    records: Merged<'a>,
    pub(crate) spans: Spans,
    /// How long spans lived, where that is followed.
    pub(crate) span_lives: Option<SpanLives>,
    /// The blocks that the recorder's own threads allocated.
    recorder_blocks: RecorderBlocks,
    /// Of the event that [`Replay::advance`] came to: its thread's index, and whether it is the
    /// recorder's own.
    thread: usize,
    internal: bool,
    /// The thread of the event before, its index, and whether it is the recorder's: nearly always the
    /// next event is of the same one.
    last_thread: (ThreadId, usize, bool),
    /// What the filter says of it.
    picked: Picked,
    /// Threads that lost records since their last event that was given.
    gaps: Vec<ThreadId>,
}

/// A heap event and what it belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeapEvent<'a> {
    pub(crate) event: &'a Event,
    /// The index of its thread.
    pub(crate) thread: usize,
    /// Whether it is the recorder's own: made by one of its threads, or the release of a block
    /// that one of them allocated.
    pub(crate) internal: bool,
    pub(crate) filter: Picked,
}

/// Heap events of one thread that follow each other, none of which has anything that few have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeapRun<'a> {
    /// At least one.
    pub(crate) events: &'a [RunEvent],
    /// The index of their thread.
    pub(crate) thread: usize,
    /// Whether they are the recorder's own.
    pub(crate) internal: bool,
    /// The span in which the thread is.
    pub(crate) span: Option<&'a Entered>,
    /// Whether records of the thread were lost before them.
    pub(crate) gap: bool,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(prepared: Prepared<'a>) -> Self {
        let threads = &prepared.definitions.threads;
        Self {
            records: prepared.recording.merged_in_brief(),
            spans: Spans::new(prepared.span_fields, threads.len()),
            span_lives: None,
            recorder_blocks: RecorderBlocks::default(),
            thread: 0,
            internal: false,
            last_thread: (ThreadId::default(), usize::MAX, false),
            picked: Picked::ALL,
            gaps: Vec::new(),
            prepared,
        }
    }

    /// From the beginning again.
    pub(crate) fn again(mut self) -> Self {
        if let Some(selection) = &mut self.prepared.selection {
            selection.rewind();
        }
        Self::new(self.prepared)
    }

    /// Follows how long spans live, from the beginning of the recording on.
    pub(crate) fn with_span_lives(self) -> Self {
        Self { span_lives: Some(SpanLives::default()), ..self }
    }

    /// Goes on to the next heap event, the recorder's own included, which [`Replay::event`] gives
    /// then; `false` at the end.
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<bool, ReadError> {
        loop {
            match self.records.advance()? {
                Step::Event => {
                    let event = *self.records.event();
                    let own_thread;
                    (self.thread, own_thread) = self.thread(event.thread);
                    self.internal = (own_thread || !self.recorder_blocks.is_empty())
                        && self.recorder_blocks.follow(&event, own_thread);
                    if self.prepared.selection.is_some() {
                        self.ask_filter()?;
                    }
                    return Ok(true);
                }
                Step::Other(record) => self.follow_spans(record),
                Step::End => {
                    self.prepared.definitions.skip(self.records.skipped());
                    return Ok(false);
                }
            }
        }
    }

    /// The event that [`Replay::advance`] came to; [`Replay::spans`] knows the span it happened in.
    #[inline]
    pub(crate) fn event(&self) -> HeapEvent<'_> {
        let event = self.records.event();
        let (thread, internal, filter) = (self.thread, self.internal, self.picked);
        HeapEvent { event, thread, internal, filter }
    }

    /// Goes on by the heap events that come next, as far as there is nothing to say of each of them: at
    /// most so many. `None` where [`Replay::advance`] has to go on first.
    #[inline]
    pub(crate) fn next_run(&mut self, most: usize) -> Option<(HeapRun<'_>, &Prepared<'a>)> {
        if self.prepared.selection.is_some() {
            return None;
        }
        let Self { records, recorder_blocks, last_thread, prepared, gaps, .. } = self;
        let run = if recorder_blocks.is_empty() {
            records.next_run(most)
        } else {
            // What another thread does with one of those blocks is told of each by itself.
            records.next_run_while(most, |id, event| {
                !recorder_blocks.has(event.address)
                    || known_thread(last_thread, id, &prepared.definitions).1
            })
        };
        let Run { thread: id, events } = run?;
        let (thread, internal) = known_thread(last_thread, id, &prepared.definitions);
        if internal {
            for event in events {
                recorder_blocks.follow(&event.event(id), true);
            }
        }
        let (gap, span) = (take_gap(gaps, id), self.spans.current(thread));
        let run = HeapRun { events, thread, internal, span, gap };
        Some((run, &self.prepared))
    }

    /// A thread's index, and whether it is the recorder's own.
    #[inline]
    fn thread(&mut self, id: ThreadId) -> (usize, bool) {
        known_thread(&mut self.last_thread, id, &self.prepared.definitions)
    }

    fn ask_filter(&mut self) -> Result<(), ReadError> {
        let event = self.records.event();
        let Traced { site, .. } = self.prepared.traced(event.node);
        let selection = &mut self.prepared.selection;
        if let Some(selection) = selection {
            self.picked = selection.judge(event, self.thread, site, self.internal, &self.spans)?;
        }
        Ok(())
    }

    /// Whether records of the event's thread were lost before it.
    #[inline]
    pub(crate) fn take_gap(&mut self) -> bool {
        take_gap(&mut self.gaps, self.records.event().thread)
    }

    fn follow_spans(&mut self, record: Record) {
        let definitions = &self.prepared.definitions;
        match record {
            Record::Span(span) => {
                self.spans.make(&span);
                if let Some(lives) = &mut self.span_lives
                    && let Some(made) = self.spans.open(span.id)
                {
                    let around = span.parent.and_then(|parent| self.spans.open(parent));
                    lives.begin(made, around, span.stamp);
                }
            }
            Record::SpanFields { thread, span, fields, .. } => {
                self.spans.add_fields(definitions.thread(thread), span, &fields);
            }
            Record::SpanEnter { thread, span, .. } => {
                self.spans.enter(definitions.thread(thread), span);
            }
            Record::SpanExit { thread, span, .. } => {
                self.spans.exit(definitions.thread(thread), span);
            }
            Record::SpanClose { span, stamp } => {
                if let Some(lives) = &mut self.span_lives
                    && let Some(closed) = self.spans.open(span)
                {
                    lives.close(closed.instance, stamp);
                }
                self.spans.close(span);
            }
            Record::Lost { thread, .. } => self.gaps.push(thread),
            _ => {}
        }
    }
}

/// Whether records of a thread were lost since this was last asked.
#[inline]
fn take_gap(gaps: &mut Vec<ThreadId>, thread: ThreadId) -> bool {
    if gaps.is_empty() {
        return false;
    }
    let before = gaps.len();
    gaps.retain(|&gap| gap != thread);
    gaps.len() < before
}

/// A thread's index, and whether it is the recorder's own; `last` is what was answered before.
#[inline]
fn known_thread(
    last: &mut (ThreadId, usize, bool),
    id: ThreadId,
    definitions: &Definitions,
) -> (usize, bool) {
    if id != last.0 || last.1 == usize::MAX {
        let index = definitions.thread(id);
        let internal = definitions.threads.get(index).is_some_and(|thread| thread.internal);
        *last = (id, index, internal);
    }
    (last.1, last.2)
}
