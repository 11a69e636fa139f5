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

use alloc_trace_format::{ExitStatus, Process, Recording};
use serde::Serialize;

use crate::call_site::CallSite;
use crate::call_tree::TreeForm;
use crate::definitions::Definitions;
use crate::error::AnalysisError;
use crate::figures::Figures;
use crate::heap::Memory;
use crate::held_size::{HeldSize, LargeSizes};
use crate::ledger::{Account, Ledger, Posted, Posting, Release};
use crate::options::Options;
use crate::owners::{Owner, OwnerParts};
use crate::recording_state::{RecordingEnd, RecordingState, SkippedPart};
use crate::replay::{Prepared, Replay};
use crate::sites::RUNTIME;
use crate::spans::{KindIndex, Spans};
use crate::symbols::SymbolProblem;
use crate::tallies::{Levels, Tallies};
use crate::unmatched::UnmatchedFilter;

/// What a recording says, in figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// The recorded program, where its record was found.
    pub program: Option<Program>,
    /// The figures of the whole program.
    #[serde(flatten)]
    pub total: Figures,
    /// What of `live_blocks_at_end` Rust's runtime made for itself and keeps until the end: no leak of the
    /// program's. 0 where there are no names.
    pub runtime_blocks_at_end: u64,
    /// The requested bytes of these blocks, a part of `live_bytes_at_end`.
    pub runtime_bytes_at_end: u64,
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
    /// Where what is known begins, in a recording that kept its last part, in nanoseconds from the
    /// beginning of the recording: of what was before only the requests of blocks that were live then
    /// count in any figure. `None` where everything was kept.
    pub horizon_ns: Option<u64>,
    /// Records that are known to be missing.
    pub lost_records: u64,
    /// Whether every record is there: see [`RecordingState::complete`].
    pub complete: bool,
    /// Why the recording was closed; `None` where it ended without its closing record.
    pub end: Option<RecordingEnd>,
    /// How the process ended, where whoever waited for it noted that.
    pub exit_status: Option<ProcessEnd>,
    /// The parts of the file that could not be read.
    pub skipped: Vec<SkippedPart>,
    /// What the filter asks for by name and the recording does not have.
    pub unmatched_filters: Vec<UnmatchedFilter>,
    /// Why some call sites have no name or no line.
    pub symbol_problems: Vec<SymbolProblem>,
    /// What the process had resident and what its heap held, whatever the filter.
    pub memory: Memory,
    /// Every call site at which an event happened, those that only free too, so that all figures but
    /// peaks add up to the whole program's; most allocated bytes first.
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

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessEnd {
    /// It exited with this code.
    Code(i32),
    /// It was killed by this signal.
    Signal(i32),
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
        let lifetimes = options.lifetimes;
        let prepared = Prepared::new(recording, options)?;
        if lifetimes {
            sum_up::<true>(recording, prepared)
        } else {
            sum_up::<false>(recording, prepared)
        }
    }
}

fn sum_up<const LIFETIMES: bool>(
    recording: &Recording,
    prepared: Prepared<'_>,
) -> Result<Summary, AnalysisError> {
    let mut replay = Replay::new(prepared);
    let ledger = Ledger::run(Totals::<LIFETIMES>::new(recording), &mut replay)?;
    Ok(close(ledger, recording, &replay))
}

/// The figures as they grow, event by event.
#[derive(Debug)]
struct Totals<const LIFETIMES: bool> {
    tallies: Tallies<LIFETIMES>,
    sites: Levels,
    threads: Levels,
    spans: Levels,
    large: LargeSizes,
}

impl<const LIFETIMES: bool> Totals<LIFETIMES> {
    fn new(recording: &Recording) -> Self {
        Self {
            tallies: Tallies::new(*recording.clock()),
            sites: Levels::default(),
            threads: Levels::default(),
            spans: Levels::default(),
            large: LargeSizes::default(),
        }
    }
}

/// What is kept of a live block: with its address 16 bytes.
#[derive(Debug, Clone, Copy)]
struct Held {
    size: HeldSize,
    owner: Owner,
}

impl<const LIFETIMES: bool> Account for Totals<LIFETIMES> {
    type Held = Held;

    const NONE: Held = Held { size: HeldSize::ZERO, owner: 0 };

    #[inline]
    fn parts(&self, posting: &Posting) -> OwnerParts {
        OwnerParts { key: posting.site, thread: posting.thread, span: posting.span_kind }
    }

    #[inline]
    fn touch(&mut self, owner: Owner) -> u64 {
        self.tallies.touch(owner)
    }

    #[inline]
    fn made(&mut self, owner: Owner, _: OwnerParts, posting: &Posting) {
        self.tallies.count(owner, &posting.event);
    }

    #[inline(always)]
    fn obtained(&mut self, owner: Owner, parts: OwnerParts, posting: &Posting) -> Held {
        let Posted { size, stamp, address, .. } = posting.event;
        self.tallies.obtain(owner, size, stamp);
        self.sites.rise(parts.key, size, stamp);
        self.threads.rise(parts.thread, size, stamp);
        if let Some(span) = parts.span.checked_sub(1) {
            self.spans.rise(span, size, stamp);
        }
        Held { size: self.large.hold(address, size), owner }
    }

    #[inline]
    fn owner(held: &Held) -> Owner {
        held.owner
    }

    #[inline(always)]
    fn released(&mut self, held: Held, release: &Release<'_>) {
        let size = self.large.release(release.address, held.size);
        self.tallies.release(held.owner, size, release.by.event.stamp, release.temporary);
        self.sites.fall(release.owner.key, size);
        self.threads.fall(release.owner.thread, size);
        if let Some(span) = release.owner.span.checked_sub(1) {
            self.spans.fall(span, size);
        }
    }
}

fn close<const LIFETIMES: bool>(
    mut ledger: Ledger<Totals<LIFETIMES>>,
    recording: &Recording,
    replay: &Replay<'_>,
) -> Summary {
    let definitions = &replay.prepared.definitions;
    let clock = recording.clock();
    let totals = &mut ledger.account;
    totals.tallies.finish(definitions.last_stamp);
    let owners = &ledger.owners;
    let of = |levels: &Levels, part: fn(OwnerParts) -> Option<u32>| {
        let mut figures = levels.figures(&totals.tallies, |owner| part(owners.get(owner)));
        figures.iter_mut().for_each(|figures| figures.finish(|stamp| clock.ns(stamp)));
        figures
    };
    let sites = of(&totals.sites, |owner| Some(owner.key));
    let threads = of(&totals.threads, |owner| Some(owner.thread));
    let spans = of(&totals.spans, |owner| owner.span.checked_sub(1));
    let mut total = totals.tallies.total();
    total.finish(|stamp| clock.ns(stamp));
    let state = RecordingState::new(recording, &replay.prepared);
    let by_thread = by_thread(replay, &threads);
    let runtime = sites.get(RUNTIME as usize);
    Summary {
        program: definitions.process.as_ref().map(Program::from),
        total,
        runtime_blocks_at_end: runtime.map_or(0, |figures| figures.live_blocks_at_end),
        runtime_bytes_at_end: runtime.map_or(0, |figures| figures.live_bytes_at_end),
        unmatched_frees: ledger.unmatched_frees,
        unmatched_freed_bytes: ledger.unmatched_freed_bytes,
        inferred_frees: ledger.inferred_frees,
        internal_events: ledger.internal_events,
        threads: by_thread.len() as u64,
        duration_ns: state.duration_ns,
        started_at_unix_ns: recording.header().start_realtime_ns,
        horizon_ns: state.horizon_ns,
        lost_records: state.lost_records,
        complete: state.complete,
        end: state.end,
        exit_status: recording.exit_status().map(ProcessEnd::from),
        skipped: state.skipped,
        unmatched_filters: state.unmatched_filters,
        symbol_problems: state.symbol_problems,
        memory: Memory::of(definitions, clock),
        sites: by_site(replay, &sites),
        by_thread,
        by_span: by_span(&replay.spans, &spans),
    }
}

fn by_site(replay: &Replay<'_>, figures: &[Figures]) -> Vec<SiteFigures> {
    let mut sites: Vec<SiteFigures> = (0..)
        .zip(figures)
        .filter(|(_, figures)| figures.events > 0)
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

fn by_thread(replay: &Replay<'_>, figures: &[Figures]) -> Vec<ThreadFigures> {
    // Threads that made no event have no figures of their own.
    let figures = figures.iter().copied().chain(std::iter::repeat(Figures::default()));
    let threads = replay.prepared.definitions.threads.iter().zip(figures);
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
            figures,
        })
        .collect()
}

fn by_span(spans: &Spans, figures: &[Figures]) -> Vec<SpanFigures> {
    let kinds = (0 as KindIndex..).zip(spans.kinds()).zip(figures);
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

impl Summary {
    /// How far the recording can be believed.
    #[must_use]
    pub fn state(&self) -> RecordingState {
        RecordingState {
            duration_ns: self.duration_ns,
            horizon_ns: self.horizon_ns,
            lost_records: self.lost_records,
            complete: self.complete,
            end: self.end,
            skipped: self.skipped.clone(),
            inferred_frees: self.inferred_frees,
            unmatched_filters: self.unmatched_filters.clone(),
            symbol_problems: self.symbol_problems.clone(),
        }
    }
}

impl Program {
    /// The program that a recording says it is of.
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file.
    pub fn of(recording: &Recording) -> Result<Option<Self>, AnalysisError> {
        let definitions = Definitions::gather(recording, TreeForm::Numbered)?;
        Ok(definitions.process.as_ref().map(Self::from))
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

impl From<ExitStatus> for ProcessEnd {
    fn from(status: ExitStatus) -> Self {
        match status {
            ExitStatus::Code(code) => Self::Code(code),
            ExitStatus::Signal(signal) => Self::Signal(signal),
        }
    }
}
