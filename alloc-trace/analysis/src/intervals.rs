//! The figures of any interval of a recording, so that whoever shows them can pick one afterwards.
//!
//! The time of a recording is cut into *bins* of one width. Of every bin, and of every call site,
//! thread and so on in it, what is kept adds up: so the figures of any interval that begins and ends at
//! the edges of bins follow from those of its bins, exactly.
//!
//! # What is counted how
//!
//! - What was *requested* in a bin, and what of that was temporary or never released, belongs to the
//!   bin of the request: over bins `a` to `b` these add up to what
//!   [`Summary`](crate::Summary) gives with a filter from the first moment of `a` to the last of `b`.
//! - What was *released* in a bin counts there, and belongs to whoever had obtained it. So what is live
//!   at an edge is what was requested before, less what was released before: what the filter
//!   [`live_at`](crate::Filter::live_at) picks at the last moment before that edge.
//! - The *peak* of a bin is the most that was live in it at a time, from its first moment on: the
//!   greatest of several bins' is that of the interval. [`Cell::at_peak_bytes`] is a part's share of
//!   what was live when the whole program was first at the bin's peak, so that the parts add up.
//! - A reallocation counts at its end; on the way to a peak it has its place in the merged order.
//!
//! Memory grows with live blocks, with call sites and functions in their call tree, and with cells,
//! whose number is bounded: where there would be too many, every two bins become one. That goes only so far, so
//! [`Resolution::rows`] bounds how many parts have figures of their own.

mod axis;
mod classes;
mod fold;
mod folding;
mod gather;
mod rows;
mod weights;

use std::sync::Arc;

use alloc_trace_format::Recording;
use serde::Serialize;

use crate::advise::{Advice, Thresholds};
use crate::call_site::CallSite;
use crate::error::AnalysisError;
use crate::options::Options;
use crate::recording_state::RecordingState;
use crate::replay::Prepared;
use crate::summary::Program;

pub use self::axis::{Cell, Row};
pub use self::classes::{lifetime_class, size_class};
use crate::flame_tree::FlameNode;

/// Of more call sites the advice waits for the intervals: each of the two takes a kilobyte or so of each.
const SITES_AT_ONCE: usize = 50_000;
/// And of more backtraces: each takes a hundred bytes or more of each.
const BACKTRACES_AT_ONCE: usize = 1 << 22;

/// The figures of a recording by bins of time, and of its parts.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Intervals {
    /// How far the recording can be believed.
    pub state: RecordingState,
    /// The recorded program, where its record was found.
    pub program: Option<Program>,
    /// When recording began, in nanoseconds since the Unix epoch.
    pub started_at_unix_ns: u64,
    /// Heap events of the recorder itself, which no figure counts.
    pub internal_events: u64,
    /// Releases of blocks that are older than the recording, which no figure counts either.
    pub unmatched_frees: u64,
    /// Blocks whose release is not in the recording, and whose address was handed out again.
    pub inferred_frees: u64,
    /// The program's markers, each with when it was first set, in the order of that.
    pub markers: Vec<(Arc<str>, u64)>,
    /// How many bytes the process had resident, the recorder's own included, each with when that was
    /// asked for, as `(time_ns, bytes)`, in the order of time.
    pub resident: Vec<(u64, u64)>,
    /// How many nanoseconds a bin takes. The bin with index `n` begins at `n` times that.
    pub bin_ns: u64,
    /// The bins, without gaps, to the end of the recording.
    pub bins: Vec<Bin>,
    /// The call sites.
    pub sites: Vec<Row<CallSite>>,
    /// The functions that the call sites are in.
    pub functions: Vec<Row<Arc<str>>>,
    /// The files that they are in; `None` for those whose file is unknown.
    pub files: Vec<Row<Option<Arc<str>>>>,
    /// The crates that they are in, C and C++ functions being of no crate.
    pub crates: Vec<Row<Option<Arc<str>>>>,
    /// The threads.
    pub threads: Vec<Row<ThreadKey>>,
    /// The innermost spans; `None` outside of spans.
    pub spans: Vec<Row<Option<SpanKey>>>,
    /// Classes of requested size: see [`size_class`].
    pub sizes: Vec<Row<u64>>,
    /// Classes of lifetime: see [`lifetime_class`]; `None` for blocks that were never released. A block's
    /// lifetime is not known while it lives, so there are no peaks.
    pub lifetimes: Vec<Row<Option<u64>>>,
    /// The call tree by functions, parents before children. There are no peaks of their own.
    pub nodes: Vec<Row<FlameNode>>,
}

/// What happened in a bin of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Bin {
    /// Requests by `alloc`, failed ones included.
    pub allocations: u64,
    /// Requests by `alloc_zeroed`, failed ones included.
    pub zeroed_allocations: u64,
    /// Requests by `realloc`, failed ones included.
    pub reallocations: u64,
    /// Requests that were answered with null.
    pub failed_requests: u64,
    /// Blocks obtained here that were freed, whenever that was. A reallocation is no free.
    pub frees: u64,
    /// Frees made here, of blocks older than the recording: `frees` has none of them, and with them adds
    /// up to all frees.
    pub unmatched_frees: u64,
    /// Blocks obtained here that were temporary.
    pub temporary_allocations: u64,
    /// Bytes requested.
    pub allocated_bytes: u64,
    /// Bytes released here, whenever they had been obtained.
    pub released_bytes: u64,
    /// Blocks released here.
    pub released_blocks: u64,
    /// Bytes obtained here that were never released.
    pub kept_bytes: u64,
    /// Blocks obtained here that were never released.
    pub kept_blocks: u64,
    /// How long all blocks obtained here lived together, in nanoseconds; those that were never released,
    /// until the end of the recording.
    pub lifetime_ns: u128,
    /// The most bytes that were live at a time.
    pub peak_bytes: u64,
    /// When that was first so, in nanoseconds from the beginning of the recording.
    pub peak_at_ns: u64,
}

impl Bin {
    /// How many heap events of the program it stands for: requests, and frees.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.allocations
            + self.zeroed_allocations
            + self.reallocations
            + self.frees
            + self.unmatched_frees
    }
}

impl Bin {
    /// Requests of every kind, failed ones included.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.allocations + self.zeroed_allocations + self.reallocations
    }

    /// Blocks obtained here: the requests that did not fail.
    #[must_use]
    pub const fn obtained_blocks(&self) -> u64 {
        self.requests().saturating_sub(self.failed_requests)
    }
}

/// A thread of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThreadKey {
    /// The recording's number for it.
    pub thread: u32,
    /// Its last name.
    pub name: Option<Arc<str>>,
}

/// The spans of one name and target.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpanKey {
    /// The span's name.
    pub name: Arc<str>,
    /// Its target.
    pub target: Arc<str>,
    /// Its fields, where spans are told apart by them.
    pub fields: Option<Arc<str>>,
}

/// How finely an interval can be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution {
    bins: u32,
    cells: usize,
    rows: usize,
}

impl Default for Resolution {
    fn default() -> Self {
        Self { bins: 1024, cells: 1 << 20, rows: usize::MAX }
    }
}

impl Resolution {
    /// At most so many bins; 1024 by default, and at least one.
    ///
    /// Twice as many take up to twice the memory.
    #[must_use]
    pub const fn bins(mut self, bins: u32) -> Self {
        self.bins = if bins == 0 { 1 } else { bins };
        self
    }

    /// At most about so many cells; 2²⁰ by default, of 80 bytes each. Bins are merged to keep to that, but
    /// not to fewer than 16.
    #[must_use]
    pub const fn cells(mut self, cells: usize) -> Self {
        self.cells = cells;
        self
    }

    /// At most so many call sites, functions, threads and so on have rows of their own, those that are the
    /// largest in any respect; all others are one row, the last, whose [`Row::parts`] says how many they are. In
    /// the call tree they are a node below their caller. By default all have their own.
    ///
    /// Where there may be more, finding the largest takes another pass over the recording.
    #[must_use]
    pub const fn rows(mut self, rows: usize) -> Self {
        self.rows = rows;
        self
    }
}

/// By what the figures are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parts {
    /// By everything.
    All,
    /// By threads and spans.
    WithoutSites,
}

impl Intervals {
    /// Reads a whole recording.
    ///
    /// ```no_run
    /// use alloc_trace_analysis::{Intervals, Options, Recording, Resolution};
    ///
    /// let recording = Recording::open("app.trace".as_ref())?;
    /// let intervals = Intervals::of(&recording, Options::default(), Resolution::default())?;
    /// let peak = intervals.bins.iter().map(|bin| bin.peak_bytes).max();
    /// println!("peak: {peak:?} bytes");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file. Damage in it is no error: see
    /// [`Intervals::state`].
    pub fn of(
        recording: &Recording,
        options: Options,
        resolution: Resolution,
    ) -> Result<Self, AnalysisError> {
        gather::run(recording, Self::prepare(recording, options)?, Parts::All, resolution)
    }

    /// As [`Intervals::of`], by threads and spans only: there are no call sites, nothing that goes by them, no
    /// classes of size and no call tree, and no memory is taken for any.
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file.
    pub fn over_time(
        recording: &Recording,
        options: Options,
        resolution: Resolution,
    ) -> Result<Self, AnalysisError> {
        gather::run(recording, Prepared::new(recording, options)?, Parts::WithoutSites, resolution)
    }

    /// As [`Intervals::of`], and the advice too: at the same time where there is a second processor, but one
    /// after the other where call sites or backtraces are so many that both together would take too much memory.
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file.
    pub fn with_advice(
        recording: &Recording,
        options: Options,
        resolution: Resolution,
        thresholds: Thresholds,
    ) -> Result<(Self, Advice), AnalysisError> {
        // One after the other: the second finds the names that the first one keeps.
        let prepared = Self::prepare(recording, options.clone())?;
        let backtraces = prepared.definitions.call_tree.len();
        if prepared.sites.len() > SITES_AT_ONCE || backtraces > BACKTRACES_AT_ONCE {
            let intervals = gather::run(recording, prepared, Parts::All, resolution)?;
            return Ok((intervals, Advice::of(recording, options, thresholds)?));
        }
        let advised = Advice::prepare(recording, options)?;
        std::thread::scope(|scope| {
            let advice = scope.spawn(|| Advice::of_prepared(recording, advised, thresholds));
            let intervals = gather::run(recording, prepared, Parts::All, resolution);
            let advice = advice.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok((intervals?, advice?))
        })
    }

    fn prepare(recording: &Recording, options: Options) -> Result<Prepared<'_>, AnalysisError> {
        let options = Options { backtraces: true, flame_tree: true, ..options };
        Prepared::new(recording, options)
    }
}
