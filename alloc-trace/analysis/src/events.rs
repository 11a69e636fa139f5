//! The heap events of a recording, one by one, each with its thread, its span and its call site.

use std::sync::Arc;

use alloc_trace_format::{Clock, EventKind, Recording};

use crate::call_site::CallSite;
use crate::error::AnalysisError;
use crate::options::Options;
use crate::recording_state::RecordingState;
use crate::replay::{Prepared, Replay};
use crate::sites::Traced;

/// One heap event.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct EventRow<'a> {
    /// Counts the program's events in the order in which they happened, from 1.
    pub seq: u64,
    /// Nanoseconds from the beginning of the recording.
    pub time_ns: u64,
    /// The recording's number for the thread.
    pub thread: u32,
    /// The thread's last name.
    pub thread_name: Option<&'a str>,
    /// What was asked.
    pub kind: EventKind,
    /// Whether the request was answered with null.
    pub failed: bool,
    /// The block's address; of a reallocation the new block's; 0 for a failed request.
    pub address: u64,
    /// The requested size in bytes; of a reallocation the new one.
    pub size: u64,
    /// The requested alignment in bytes.
    pub align: u64,
    /// Of a reallocation the old block's address.
    pub old_address: Option<u64>,
    /// Of a reallocation the old block's requested size in bytes.
    pub old_size: Option<u64>,
    /// The call site.
    pub site: &'a CallSite,
    /// The innermost span that the thread was in.
    pub span: Option<EventSpan<'a>>,
}

/// The span that an event happened in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventSpan<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its target.
    pub target: &'a str,
    /// The fields that it was made with, and those that had been set by then.
    pub fields: &'a str,
    /// The names of the spans that it was made in and its own, outermost first. Of more than 64 the middle
    /// ones are one text that says how many they are, as `[100 more]`.
    pub path: &'a [Arc<str>],
}

/// Reads the events of a recording in the order in which they happened.
///
/// Memory grows with call sites and open spans, not with events.
///
/// ```no_run
/// use alloc_trace_analysis::{Events, Options, Recording};
///
/// let recording = Recording::open("app.trace".as_ref())?;
/// let mut events = Events::of(&recording, Options::default())?;
/// while let Some(event) = events.next_row()? {
///     println!("{} {} {} bytes", event.seq, event.kind.name(), event.size);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Events<'a> {
    recording: &'a Recording,
    replay: Replay<'a>,
    clock: Clock,
    seq: u64,
    unknown: CallSite,
    /// The path of this number, kept from event to event.
    path: (Option<u32>, Vec<Arc<str>>),
}

impl<'a> Events<'a> {
    /// Reads through the recording for what its records define; the events come next.
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file.
    pub fn of(recording: &'a Recording, options: Options) -> Result<Self, AnalysisError> {
        let options = Options { of_events: true, ..options };
        Ok(Self {
            recording,
            replay: Replay::new(Prepared::new(recording, options)?),
            clock: *recording.clock(),
            seq: 0,
            unknown: CallSite { function: "[unknown]".into(), file: None, line: None },
            path: (None, Vec::new()),
        })
    }

    /// The next event of the program; `None` at the end. The recorder's own events are left out.
    ///
    /// A filter picks events by their own thread, span, call site, size, kind and time, frees too; by
    /// lifetime and by what was live, requests by what they obtain and frees by what they release.
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file.
    pub fn next_row(&mut self) -> Result<Option<EventRow<'_>>, AnalysisError> {
        loop {
            if !self.replay.advance()? {
                return Ok(None);
            }
            let found = self.replay.event();
            if found.internal {
                continue;
            }
            // Of all events: one has the same number whatever is picked.
            self.seq += 1;
            if found.filter.listed {
                break;
            }
        }
        let found = self.replay.event();
        let event = found.event;
        let spans = &self.replay.spans;
        let span = spans.current(found.thread);
        if let Some(span) = span.filter(|span| self.path.0 != Some(span.path)) {
            self.path = (Some(span.path), spans.names(span.path));
        }
        let span = span.and_then(|span| {
            let kind = spans.kinds().get(span.kind as usize)?;
            Some(EventSpan {
                name: &kind.name,
                target: &kind.target,
                fields: &span.fields,
                path: &self.path.1,
            })
        });
        let thread = self.replay.prepared.definitions.threads.get(found.thread);
        let Traced { site, .. } = self.replay.prepared.traced(event.node);
        let realloc = event.kind == EventKind::Realloc;
        Ok(Some(EventRow {
            seq: self.seq,
            time_ns: self.clock.ns(event.stamp),
            thread: event.thread.0,
            thread_name: thread.and_then(|thread| thread.name.as_deref()),
            kind: event.kind,
            failed: event.failed,
            address: event.address,
            size: event.size,
            align: event.align(),
            old_address: realloc.then_some(event.old_address),
            old_size: realloc.then_some(event.old_size),
            site: self.replay.prepared.sites.get(site).unwrap_or(&self.unknown),
            span,
        }))
    }

    /// How far the recording can be believed. Blocks are not followed here: there are no
    /// [`RecordingState::inferred_frees`].
    #[must_use]
    pub fn state(&self) -> RecordingState {
        RecordingState::new(self.recording, &self.replay.prepared)
    }
}
