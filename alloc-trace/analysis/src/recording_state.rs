//! What a reader must know of a recording before it believes the figures.

use alloc_trace_format::{EndReason, Recording, Skipped};
use serde::Serialize;

use crate::replay::Prepared;
use crate::symbols::SymbolProblem;
use crate::unmatched::UnmatchedFilter;

/// How far a recording can be believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RecordingState {
    /// From the beginning of the recording to its last record, in nanoseconds.
    pub duration_ns: u64,
    /// Where what is known begins, in a recording that kept its last part, in nanoseconds from the
    /// beginning of the recording: of what was before only the requests of blocks that were live then
    /// count in any figure. `None` where everything was kept.
    pub horizon_ns: Option<u64>,
    /// Records that are known to be missing.
    pub lost_records: u64,
    /// Whether every record is there: the recording was closed, everything in the file could be
    /// read, nothing was written over, and nothing is known to be missing.
    pub complete: bool,
    /// Why the recording was closed; `None` where it ended without its closing record.
    pub end: Option<RecordingEnd>,
    /// The parts of the file that could not be read.
    pub skipped: Vec<SkippedPart>,
    /// Blocks whose release is not in the recording, and whose address was handed out again: they count
    /// as released then.
    pub inferred_frees: u64,
    /// What the filter asks for by name and the recording does not have.
    pub unmatched_filters: Vec<UnmatchedFilter>,
    /// Why some call sites have no name or no line.
    pub symbol_problems: Vec<SymbolProblem>,
}

impl RecordingState {
    pub(crate) fn new(recording: &Recording, prepared: &Prepared<'_>) -> Self {
        let definitions = &prepared.definitions;
        let end = definitions.end.map(|end| RecordingEnd::from(end.reason));
        let lost_records = definitions.missing_records();
        let skipped: Vec<SkippedPart> = definitions.skipped.iter().map(SkippedPart::from).collect();
        Self {
            duration_ns: recording.clock().ns(definitions.last_stamp),
            horizon_ns: horizon_ns(recording),
            lost_records,
            complete: recording.horizon().is_none()
                && end.is_some_and(|end| end != RecordingEnd::WriteFailed)
                && skipped.is_empty()
                && lost_records == 0,
            end,
            skipped,
            inferred_frees: 0,
            unmatched_filters: prepared.unmatched_filters.clone(),
            symbol_problems: prepared.sites.problems().to_vec(),
        }
    }

    /// So many blocks have no release in the recording.
    pub(crate) const fn inferred(mut self, frees: u64) -> Self {
        self.inferred_frees = frees;
        self
    }
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

/// Where what is known of a recording begins, unless that is its beginning.
pub(crate) fn horizon_ns(recording: &Recording) -> Option<u64> {
    recording.horizon().map(|horizon| recording.clock().ns(horizon))
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
