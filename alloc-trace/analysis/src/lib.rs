//! Recordings in, plain data out: the analyses behind the alloc-trace command.
//!
//! [`Summary`] is what a person wants to know first; [`Events`] gives every heap event with its
//! thread, span and call site, and [`Blocks`] every block with its end; [`Leaks`] what was never
//! freed; [`Advice`] what could leave the heap. [`Grouped`] has the figures by any one thing that
//! requests differ in, [`CallTreeWeights`] by backtrace, [`Intervals`] those of any interval. A
//! [`Filter`] picks the part that they look at. All read a [`Recording`] twice: first for what its
//! records define (the call tree, modules, threads), which may come after the events that need it, then for the
//! events in order. Memory grows with live blocks and call sites, not with events.
//!
//! Nothing here prints, and nothing decides how figures look.

#![forbid(unsafe_code)]

mod advise;
mod backtraces;
mod blocks;
mod call_site;
mod call_tree;
mod cpp_library;
mod definitions;
mod diff;
mod error;
mod events;
mod figures;
mod filter;
mod flame_tree;
mod frame;
mod frames;
mod grouped;
mod heap;
mod held_size;
mod holder;
mod intervals;
mod leaks;
mod ledger;
mod limits;
mod live;
mod live_bytes;
mod loaded_module;
mod measure;
mod moments;
mod options;
mod owners;
mod peak;
mod program_points;
mod recorder_blocks;
mod recording_state;
mod replaced_code;
mod replay;
mod request_bits;
mod selection;
mod sites;
mod span_lives;
mod span_names;
mod spans;
mod summary;
mod surroundings;
mod symbols;
mod tallies;
mod times;
mod tree;
mod unmatched;
mod weights;

pub use alloc_trace_format::{EventKind, ReadError, ReadProgress, Recording};

pub use advise::{Advice, Evidence, Finding, OutlivedSpan, Reserve, Rule, Thresholds};
pub use backtraces::{BacktraceNode, Backtraces};
pub use blocks::{BlockActor, BlockEnd, BlockRelease, BlockRow, Blocks};
pub use call_site::CallSite;
pub use diff::{Diff, DiffFigures, DiffRow, DiffSide};
pub use error::AnalysisError;
pub use events::{EventRow, EventSpan, Events};
pub use figures::Figures;
pub use filter::{Filter, Moment};
pub use flame_tree::FlameNode;
pub use frame::Frame;
pub use grouped::{By, Group, GroupKey, Grouped, Lifetimes};
pub use heap::{ClassState, HeapReason, HeapState, Memory, Resident};
pub use holder::Holder;
pub use intervals::{
    Bin, Cell, Intervals, Resolution, Row, SpanKey, ThreadKey, lifetime_class, size_class,
};
pub use leaks::{LeakSite, LeakSpan, LeakThread, Leaks};
pub use limits::{CheckedLimit, Growth, Limited};
pub use loaded_module::LoadedModule;
pub use measure::Measure;
pub use moments::{MarkerMoment, MomentThread, Moments, SpanMoment};
pub use options::Options;
pub use program_points::{ProgramPoint, ProgramPoints};
pub use recording_state::{RecordingEnd, RecordingState, SkippedPart};
pub use regex::Regex;
pub use span_names::SpanName;
pub use summary::{ProcessEnd, Program, SiteFigures, SpanFigures, Summary, ThreadFigures};
pub use symbols::{SymbolProblem, Symbols, shorten};
pub use tree::{Tree, TreeNode, TreeShape};
pub use unmatched::{FilterKind, UnmatchedFilter};
pub use weights::CallTreeWeights;
