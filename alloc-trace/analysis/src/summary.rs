//! The summary of a recording: the figures of the whole program, of each call site, thread and span.
//!
//! # What is counted how
//!
//! *Live* is what was requested and not released, in requested bytes. A reallocation releases its
//! old block and obtains its new one at one moment: its new size belongs to its own call site,
//! thread and span, its old size leaves those that had obtained the old block. A failed one leaves
//! the old block as it is.
//!
//! `live_bytes_at_end` = `allocated_bytes` − `freed_bytes` always holds. So the release of a block
//! that is older than the recording does not count in `freed_bytes`: it counts in
//! `unmatched_frees` and `unmatched_freed_bytes`, whether it was a free or a reallocation (whose
//! new block counts as any other). And where an address is handed out while it still seems to be
//! live, the record of its release is missing: the old block counts as freed at that moment, in
//! `freed_bytes` and `inferred_frees`, not in `frees`.
//!
//! Events of the recorder's own threads, and releases of what they had allocated, are in no figure
//! but `internal_events`. Where such a thread releases a block of the program, that block's bytes
//! count as freed.
//!
//! With a filter, only the requests that it picks count, and the frees of what they obtained; see
//! [`Filter`](crate::Filter). Whether an allocation is temporary still depends on all requests of
//! its thread.

use std::sync::Arc;

use alloc_trace_format::{EndReason, Event, EventKind, ExitStatus, Process, Recording, Skipped};
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::error::AnalysisError;
use crate::figures::Figures;
use crate::live::{Block, LiveBlocks, Owner};
use crate::options::Options;
use crate::replay::{HeapEvent, Prepared, Replay};
use crate::selection::Picked;
use crate::sites::{CallSite, SiteIndex};
use crate::spans::{KindIndex, Spans};
use crate::symbols::SymbolProblem;

/// What a recording says, in figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// The recorded program, where its record was found.
    pub program: Option<Program>,
    /// The figures of the whole program.
    #[serde(flatten)]
    pub total: Figures,
    /// Releases of blocks that are older than the recording.
    pub unmatched_frees: u64,
    /// The requested bytes of those blocks; not part of `freed_bytes`.
    pub unmatched_freed_bytes: u64,
    /// Blocks whose release is not in the recording, and whose address was handed out again.
    pub inferred_frees: u64,
    /// Heap events of the recorder itself, which no other figure counts.
    pub internal_events: u64,
    /// How many threads of the program were met; with a filter, how many made an event it picks.
    pub threads: u64,
    /// From the beginning of the recording to its last record, in nanoseconds.
    pub duration_ns: u64,
    /// When recording began, in nanoseconds since the Unix epoch.
    pub started_at_unix_ns: u64,
    /// Records that are known to be missing.
    pub lost_records: u64,
    /// Whether the recording was closed and all of it could be read. What the recorder itself counted
    /// as lost is in `lost_records`.
    pub complete: bool,
    /// Why the recording was closed; `None` where it ended without its closing record.
    pub end: Option<RecordingEnd>,
    /// How the process ended, where whoever waited for it noted that.
    pub exit_status: Option<ProcessEnd>,
    /// The parts of the file that could not be read.
    pub skipped: Vec<SkippedPart>,
    /// Why some call sites have no name or no line.
    pub symbol_problems: Vec<SymbolProblem>,
    /// Every call site that requested memory; most allocated bytes first.
    pub sites: Vec<SiteFigures>,
    /// Every thread of the program, in the order in which they were met.
    pub by_thread: Vec<ThreadFigures>,
    /// Every span in which an event happened; most allocated bytes first. An event counts in the
    /// innermost span only, and outside of spans in none.
    pub by_span: Vec<SpanFigures>,
}

/// The recorded program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Program {
    /// Its executable.
    pub executable: String,
    /// Its arguments, the first being its name.
    pub arguments: Vec<String>,
    /// Its process id.
    pub pid: u32,
    /// Its parent's process id.
    pub parent_pid: u32,
}

/// Why a recording was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RecordingEnd {
    /// The program stopped it.
    Stopped,
    /// The program exited.
    Exited,
    /// The file could not be written any more: what happened afterwards is not in it.
    WriteFailed,
    /// A reason that this version does not know.
    Other,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessEnd {
    /// It exited with this code.
    Code(i32),
    /// It was killed by this signal.
    Signal(i32),
}

/// A part of a recording that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SkippedPart {
    /// Where in the file it begins.
    pub offset: u64,
    /// How many bytes were passed over, as far as that is known.
    pub bytes: u64,
    /// What should have stood there.
    pub expected: String,
    /// Whether the file merely ends too early, rather than contradicting itself.
    pub truncated: bool,
}

/// The figures of one call site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SiteFigures {
    /// The call site.
    #[serde(flatten)]
    pub site: CallSite,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// The figures of one thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ThreadFigures {
    /// The recording's number for it.
    pub thread: u32,
    /// Its last name.
    pub name: Option<String>,
    /// The kernel's number for it.
    pub os_thread: Option<u32>,
    /// Whether it had exited when the recording ended.
    pub exited: bool,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// The figures of the spans of one name and target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SpanFigures {
    /// The span's name.
    pub name: Arc<str>,
    /// Its target.
    pub target: Arc<str>,
    /// Its fields, where spans are told apart by them (see [`Options::span_fields`]).
    pub fields: Option<Arc<str>>,
    /// Its level: 1 for ERROR to 5 for TRACE, 0 where that is unknown.
    pub level: u8,
    /// How many such spans were made.
    pub spans: u64,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
}

impl Summary {
    /// Reads a whole recording and sums it up.
    ///
    /// ```no_run
    /// use alloc_trace_analysis::{Options, Recording, Summary};
    ///
    /// let recording = Recording::open("app.trace".as_ref())?;
    /// let summary = Summary::of(&recording, Options::default())?;
    /// println!("peak: {} bytes", summary.total.peak_bytes);
    /// for site in summary.sites.iter().take(5) {
    ///     println!("{} allocated {} bytes", site.site.function, site.figures.allocated_bytes);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file. Damage in it is no error: see
    /// [`Summary::skipped`].
    pub fn of(recording: &Recording, options: Options) -> Result<Self, AnalysisError> {
        let prepared = Prepared::new(recording, options)?;
        let mut accounts = Accounts::new(&prepared);
        let mut replay = Replay::new(prepared);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            batch.clear();
            while batch.len() < BATCH && replay.advance()? {
                batch.push(Posting::new(replay.event(), &replay.spans));
            }
            if batch.is_empty() {
                return Ok(accounts.close(recording, &replay));
            }
            accounts.prepare(&batch);
            for posting in &batch {
                accounts.take(posting);
            }
        }
    }
}

/// How many events are read before they are counted.
///
/// Nearly every release finds its block in memory that is in no cache. Asked for one after the other
/// each is waited for; asked for together the processor fetches several at a time.
const BATCH: usize = 64;

/// What an event changes, and whose it is.
#[derive(Debug, Clone, Copy)]
struct Posting {
    event: Event,
    parts: OwnerParts,
    internal: bool,
    filter: Picked,
}

impl Posting {
    #[inline]
    fn new(heap_event: HeapEvent<'_>, spans: &Spans) -> Self {
        let HeapEvent { event, thread, site, internal, filter } = heap_event;
        let span = spans.current(thread).map_or(0, |entered| entered.kind + 1);
        let parts = OwnerParts { site, thread: thread as u32, span };
        Self { event: *event, parts, internal, filter }
    }
}

/// Who obtained a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct OwnerParts {
    site: SiteIndex,
    thread: u32,
    /// The kind of the innermost span plus one; 0 outside of spans.
    span: u32,
}

/// The figures as they grow, event by event.
#[derive(Debug)]
struct Accounts {
    total: Figures,
    sites: Vec<Figures>,
    threads: Vec<Figures>,
    spans: Vec<Figures>,
    /// The block that each thread obtained last; 0 where there is none.
    last_obtained: Vec<u64>,
    live: LiveBlocks,
    owners: Vec<OwnerParts>,
    owner_numbers: FxHashMap<OwnerParts, Owner>,
    unmatched_frees: u64,
    unmatched_freed_bytes: u64,
    inferred_frees: u64,
    internal_events: u64,
}

impl Accounts {
    fn new(prepared: &Prepared<'_>) -> Self {
        let threads = prepared.definitions.threads.len();
        Self {
            total: Figures::default(),
            sites: vec![Figures::default(); prepared.sites.len()],
            threads: vec![Figures::default(); threads],
            spans: Vec::new(),
            last_obtained: vec![0; threads],
            live: LiveBlocks::default(),
            owners: Vec::new(),
            owner_numbers: FxHashMap::default(),
            unmatched_frees: 0,
            unmatched_freed_bytes: 0,
            inferred_frees: 0,
            internal_events: 0,
        }
    }

    /// Has the processor fetch what the events will need.
    #[inline]
    fn prepare(&self, batch: &[Posting]) {
        for Posting { event, .. } in batch {
            let released = match event.kind {
                EventKind::Realloc => event.old_address,
                _ => event.address,
            };
            self.live.touch(released);
        }
    }

    #[inline]
    fn take(&mut self, posting: &Posting) {
        let Posting { event, parts, internal, filter } = posting;
        if *internal {
            self.take_internal(event);
            return;
        }
        let parts = *parts;
        if filter.picked {
            self.each(parts, |figures| figures.count(event));
        }
        if event.failed {
            return;
        }
        match event.kind {
            EventKind::Free if filter.releases => self.release(event.address, event.size, true),
            EventKind::Realloc if filter.releases => {
                self.release(event.old_address, event.old_size, false);
            }
            _ => {}
        }
        if event.kind == EventKind::Free {
            return;
        }
        if filter.picked {
            self.obtain(event, parts);
        } else if let Some(last) = self.last_obtained.get_mut(parts.thread as usize) {
            // What was obtained before it is no temporary allocation any more.
            *last = event.address;
        }
    }

    /// The recorder's own threads release what is the program's only where the program handed it
    /// to them, as a name or a closure.
    #[cold]
    fn take_internal(&mut self, event: &Event) {
        self.internal_events += 1;
        let released = match event.kind {
            EventKind::Free => event.address,
            EventKind::Realloc => event.old_address,
            EventKind::Alloc | EventKind::AllocZeroed => return,
        };
        if !event.failed
            && let Some(block) = self.live.remove(released)
        {
            self.give_back(block, false);
        }
    }

    #[inline]
    fn obtain(&mut self, event: &Event, parts: OwnerParts) {
        let owner = self.owner(parts);
        let block = Block { size: event.size, owner };
        if let Some(old) = self.live.insert(event.address, block) {
            self.inferred_frees += 1;
            self.give_back(old, false);
        }
        self.each(parts, |figures| figures.obtain(event.size, event.stamp));
        if let Some(last) = self.last_obtained.get_mut(parts.thread as usize) {
            *last = event.address;
        }
    }

    #[inline]
    fn release(&mut self, address: u64, size: u64, freed: bool) {
        let Some(block) = self.live.remove(address) else {
            self.unmatched_frees += 1;
            self.unmatched_freed_bytes = self.unmatched_freed_bytes.saturating_add(size);
            return;
        };
        let thread = self.owners.get(block.owner as usize).map_or(0, |owner| owner.thread);
        let last = self.last_obtained.get_mut(thread as usize).filter(|last| **last == address);
        let temporary = freed && last.is_some();
        if let Some(last) = last {
            *last = 0;
        }
        self.give_back(block, temporary);
    }

    #[inline]
    fn give_back(&mut self, block: Block, temporary: bool) {
        if let Some(&parts) = self.owners.get(block.owner as usize) {
            self.each(parts, |figures| figures.release(block.size, temporary));
        }
    }

    /// Changes the figures of the program, and of the parts that something belongs to.
    #[inline]
    fn each(&mut self, parts: OwnerParts, change: impl Fn(&mut Figures)) {
        change(&mut self.total);
        if let Some(figures) = self.sites.get_mut(parts.site as usize) {
            change(figures);
        }
        if let Some(figures) = self.threads.get_mut(parts.thread as usize) {
            change(figures);
        }
        if let Some(span) = (parts.span as usize).checked_sub(1) {
            if span >= self.spans.len() {
                self.spans.resize(span + 1, Figures::default());
            }
            if let Some(figures) = self.spans.get_mut(span) {
                change(figures);
            }
        }
    }

    #[inline]
    fn owner(&mut self, parts: OwnerParts) -> Owner {
        let next = self.owners.len() as Owner;
        let owner = *self.owner_numbers.entry(parts).or_insert(next);
        if owner == next {
            self.owners.push(parts);
        }
        owner
    }

    fn close(mut self, recording: &Recording, replay: &Replay<'_>) -> Summary {
        let definitions = &replay.prepared.definitions;
        let clock = recording.clock();
        let parts = [&mut self.sites, &mut self.threads, &mut self.spans].into_iter().flatten();
        for figures in parts.chain([&mut self.total]) {
            figures.finish(|stamp| clock.ns(stamp));
        }
        let end = definitions.end.map(|end| RecordingEnd::from(end.reason));
        let skipped: Vec<SkippedPart> = definitions.skipped.iter().map(SkippedPart::from).collect();
        let by_thread: Vec<ThreadFigures> = self.by_thread(replay);
        Summary {
            program: definitions.process.as_ref().map(Program::from),
            total: self.total,
            unmatched_frees: self.unmatched_frees,
            unmatched_freed_bytes: self.unmatched_freed_bytes,
            inferred_frees: self.inferred_frees,
            internal_events: self.internal_events,
            threads: by_thread.len() as u64,
            duration_ns: clock.ns(definitions.last_stamp),
            started_at_unix_ns: recording.header().start_realtime_ns,
            lost_records: definitions.missing_records(),
            complete: end.is_some_and(|end| end != RecordingEnd::WriteFailed)
                && skipped.is_empty()
                && definitions.missing_records() <= definitions.lost_records,
            end,
            exit_status: recording.exit_status().map(ProcessEnd::from),
            skipped,
            symbol_problems: replay.prepared.sites.problems().to_vec(),
            sites: self.by_site(replay),
            by_thread,
            by_span: self.by_span(&replay.spans),
        }
    }

    fn by_site(&self, replay: &Replay<'_>) -> Vec<SiteFigures> {
        let mut sites: Vec<SiteFigures> = (0..)
            .zip(&self.sites)
            .filter(|(_, figures)| figures.requests() > 0)
            .filter_map(|(index, figures)| {
                let site = replay.prepared.sites.get(index)?.clone();
                Some(SiteFigures { site, figures: *figures })
            })
            .collect();
        sites.sort_by(|one, other| {
            let bytes = other.figures.allocated_bytes.cmp(&one.figures.allocated_bytes);
            bytes.then_with(|| one.site.cmp(&other.site))
        });
        sites
    }

    fn by_thread(&self, replay: &Replay<'_>) -> Vec<ThreadFigures> {
        let threads = replay.prepared.definitions.threads.iter().zip(&self.threads);
        let known = threads.filter(|(thread, figures)| {
            let met = thread.os_thread.is_some() && !replay.prepared.is_filtered();
            !thread.internal && (met || figures.events > 0)
        });
        known
            .map(|(thread, figures)| ThreadFigures {
                thread: thread.id.0,
                name: thread.name.as_deref().map(str::to_owned),
                os_thread: thread.os_thread,
                exited: thread.exited,
                figures: *figures,
            })
            .collect()
    }

    fn by_span(&self, spans: &Spans) -> Vec<SpanFigures> {
        let kinds = (0 as KindIndex..).zip(spans.kinds()).zip(&self.spans);
        let mut rows: Vec<SpanFigures> = kinds
            .filter(|(_, figures)| figures.events > 0)
            .map(|((index, kind), figures)| SpanFigures {
                name: Arc::clone(&kind.name),
                target: Arc::clone(&kind.target),
                fields: kind.fields.clone(),
                level: kind.level,
                spans: spans.made(index),
                figures: *figures,
            })
            .collect();
        rows.sort_by(|one, other| {
            let bytes = other.figures.allocated_bytes.cmp(&one.figures.allocated_bytes);
            let key = |row: &SpanFigures| {
                (Arc::clone(&row.name), Arc::clone(&row.target), row.fields.clone(), row.level)
            };
            bytes.then_with(|| key(one).cmp(&key(other)))
        });
        rows
    }
}

impl From<&Process> for Program {
    fn from(process: &Process) -> Self {
        Self {
            executable: process.executable.to_string(),
            arguments: process.arguments.iter().map(ToString::to_string).collect(),
            pid: process.pid,
            parent_pid: process.parent_pid,
        }
    }
}

impl From<EndReason> for RecordingEnd {
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::Stopped => Self::Stopped,
            EndReason::Exited => Self::Exited,
            EndReason::WriteFailed => Self::WriteFailed,
            _ => Self::Other,
        }
    }
}

impl From<ExitStatus> for ProcessEnd {
    fn from(status: ExitStatus) -> Self {
        match status {
            ExitStatus::Code(code) => Self::Code(code),
            ExitStatus::Signal(signal) => Self::Signal(signal),
        }
    }
}

impl From<&Skipped> for SkippedPart {
    fn from(skipped: &Skipped) -> Self {
        Self {
            offset: skipped.offset,
            bytes: skipped.bytes,
            expected: skipped.expected.clone(),
            truncated: skipped.truncated,
        }
    }
}
