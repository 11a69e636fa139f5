//! What a recording tells beside heap events: when threads were in spans, and the program's markers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use alloc_trace_format::{Record, Recording, SpanId, Stamp, Step};

use crate::call_tree::TreeForm;
use crate::definitions::Definitions;
use crate::error::AnalysisError;
use crate::spans::{Entered, KindIndex, Spans};
use crate::summary::Program;

/// When threads were in spans, and when the program set markers.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Moments {
    /// The recorded program, where its record was found.
    pub program: Option<Program>,
    /// From the beginning of the recording to its last record, in nanoseconds.
    pub duration_ns: u64,
    /// The program's threads whose beginning is in the recording.
    pub threads: Vec<MomentThread>,
    /// When threads were in spans, in the order of their beginning.
    pub spans: Vec<SpanMoment>,
    /// How many more such intervals there were: the shortest are left out.
    pub omitted_spans: u64,
    /// The markers, in the order of time.
    pub markers: Vec<MarkerMoment>,
}

/// A thread of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MomentThread {
    /// The recording's number for it.
    pub thread: u32,
    /// Its last name.
    pub name: Option<Arc<str>>,
    /// The kernel's number for it.
    pub os_thread: Option<u32>,
}

/// An interval in which a thread was in a span: it had entered it and not left.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpanMoment {
    /// When it entered, in nanoseconds from the beginning of the recording.
    pub begin_ns: u64,
    /// When it left; the end of the recording where it did not.
    pub end_ns: u64,
    /// The recording's number for the thread.
    pub thread: u32,
    /// The span's name.
    pub name: Arc<str>,
    /// The fields that it was made with, and those that were set before it was left.
    pub fields: Arc<str>,
}

/// A marker that the program set.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MarkerMoment {
    /// When, in nanoseconds from the beginning of the recording.
    pub time_ns: u64,
    /// The recording's number for the thread that set it.
    pub thread: u32,
    /// What it said.
    pub text: Box<str>,
}

impl MarkerMoment {
    /// A marker that the recording does not have.
    #[must_use]
    pub const fn new(time_ns: u64, thread: u32, text: Box<str>) -> Self {
        Self { time_ns, thread, text }
    }
}

impl Moments {
    /// As many intervals of spans are kept.
    pub const MAX_SPANS: usize = 100_000;

    /// Reads a whole recording.
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file.
    pub fn of(recording: &Recording) -> Result<Self, AnalysisError> {
        let definitions = Definitions::gather(recording, TreeForm::Numbered)?;
        let clock = recording.clock();
        let mut gathering = Gathering {
            spans: Spans::new(false, definitions.threads.len()),
            open: vec![Vec::new(); definitions.threads.len()],
            longest: BinaryHeap::new(),
            omitted_spans: 0,
        };
        let mut markers = Vec::new();
        let mut records = recording.merged_in_brief();
        loop {
            while records.next_run(usize::MAX).is_some() {}
            match records.advance()? {
                Step::Event => {}
                Step::Other(Record::Marker { thread, stamp, text }) => {
                    let time_ns = clock.ns(stamp);
                    markers.push(MarkerMoment { time_ns, thread: thread.0, text });
                }
                Step::Other(record) => gathering.follow(&definitions, record),
                Step::End => break,
            }
        }
        gathering.leave_all(definitions.last_stamp);
        let Gathering { longest, omitted_spans, spans, .. } = gathering;
        let span = |Reverse(interval): Reverse<Interval>| {
            let begin_ns = clock.ns(interval.begin);
            let end_ns = clock.ns(interval.begin.saturating_add(interval.length)).max(begin_ns);
            let thread = definitions.threads.get(interval.thread)?.id.0;
            let name = Arc::clone(&spans.kinds().get(interval.kind as usize)?.name);
            Some(SpanMoment { begin_ns, end_ns, thread, name, fields: interval.fields })
        };
        let mut spans: Vec<SpanMoment> = longest.into_iter().filter_map(span).collect();
        // What lies within another that begins at the same time comes behind it.
        spans.sort_by(|one, other| {
            let key = |span: &SpanMoment| (span.begin_ns, Reverse(span.end_ns), span.thread);
            key(one).cmp(&key(other)).then_with(|| one.name.cmp(&other.name))
        });
        markers.sort_by_key(|marker: &MarkerMoment| marker.time_ns);
        let threads = definitions.threads.iter();
        // One that never told of its beginning may be the mark of an empty chunk.
        let threads = threads.filter(|thread| !thread.internal && thread.os_thread.is_some());
        let threads = threads.map(|thread| MomentThread {
            thread: thread.id.0,
            name: thread.name.as_deref().map(Arc::from),
            os_thread: thread.os_thread,
        });
        Ok(Self {
            program: definitions.process.as_ref().map(Program::from),
            duration_ns: clock.ns(definitions.last_stamp),
            threads: threads.collect(),
            spans,
            omitted_spans,
            markers,
        })
    }
}

/// An interval in a span; the order is that of lengths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Interval {
    length: Stamp,
    begin: Stamp,
    thread: usize,
    kind: KindIndex,
    fields: Arc<str>,
}

/// What a thread has entered and not left.
#[derive(Debug, Clone)]
struct Open {
    id: SpanId,
    begin: Stamp,
}

struct Gathering {
    spans: Spans,
    /// By the thread's index.
    open: Vec<Vec<Open>>,
    /// The longest intervals so far, the shortest of them on top.
    longest: BinaryHeap<Reverse<Interval>>,
    omitted_spans: u64,
}

impl Gathering {
    fn follow(&mut self, definitions: &Definitions, record: Record) {
        match record {
            Record::Span(span) => self.spans.make(&span),
            Record::SpanFields { thread, span, fields, .. } => {
                self.spans.add_fields(definitions.thread(thread), span, &fields);
            }
            Record::SpanClose { span, .. } => self.spans.close(span),
            Record::SpanEnter { thread, stamp, span } => {
                let thread = definitions.thread(thread);
                self.spans.enter(thread, span);
                if let Some(open) = self.open.get_mut(thread) {
                    open.push(Open { id: span, begin: stamp });
                }
            }
            Record::SpanExit { thread, stamp, span } => {
                let thread = definitions.thread(thread);
                if span == SpanId::EVERY {
                    self.leave_every(thread, stamp);
                } else if let Some(open) = self.open.get_mut(thread)
                    // As in [`Spans::exit`], that leaves the last entry of the span.
                    && let Some(index) = open.iter().rposition(|open| open.id == span)
                {
                    let open = open.remove(index);
                    self.keep(thread, &open, stamp);
                }
            }
            _ => {}
        }
    }

    /// The recording ends.
    fn leave_all(&mut self, end: Stamp) {
        for thread in 0..self.open.len() {
            self.leave_every(thread, end);
        }
    }

    /// A thread leaves all spans that it is in.
    fn leave_every(&mut self, thread: usize, end: Stamp) {
        let open = self.open.get_mut(thread).map(std::mem::take).unwrap_or_default();
        for open in open.iter().rev() {
            self.keep(thread, open, end);
        }
    }

    fn keep(&mut self, thread: usize, open: &Open, end: Stamp) {
        let begin = open.begin;
        let Some(Entered { kind, fields, .. }) = self.spans.exit(thread, open.id) else { return };
        let length = end.saturating_sub(begin);
        self.longest.push(Reverse(Interval { length, begin, thread, kind, fields }));
        if self.longest.len() > Moments::MAX_SPANS {
            self.longest.pop();
            self.omitted_spans += 1;
        }
    }
}
