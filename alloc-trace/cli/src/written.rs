//! What `--json` says of a file that a command wrote.

use std::borrow::Cow;

use alloc_trace_analysis::{Figures, Intervals, Measure, RecordingState};
use serde::Serialize;

use crate::args::ReadingArguments;
use crate::error::CommandError;
use crate::json;
use crate::output::Output;
use crate::style::ColorChoice;

/// A file that was written, and what it is of. The keys are documented in `docs/json.md`.
#[derive(Debug, Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    state: &'a RecordingState,
    /// JSON has no way to write what is not UTF-8 in it.
    path: Cow<'a, str>,
    format: &'a str,
    bytes: u64,
    measure: Option<Measure>,
    events: Option<u64>,
    blocks: u64,
}

/// How much of a recording a file is of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Heap events; rows of blocks have none.
    events: Option<u64>,
    /// Blocks that were obtained.
    blocks: u64,
}

impl Extent {
    pub(crate) const fn of_blocks(blocks: u64) -> Self {
        Self { events: None, blocks }
    }
}

impl From<&Figures> for Extent {
    fn from(figures: &Figures) -> Self {
        Self { events: Some(figures.events), blocks: figures.obtained_blocks() }
    }
}

impl From<&Intervals> for Extent {
    fn from(intervals: &Intervals) -> Self {
        let events = intervals.bins.iter().map(|bin| bin.events()).sum();
        let blocks = intervals.bins.iter().map(|bin| bin.obtained_blocks()).sum();
        Self { events: Some(events), blocks }
    }
}

/// Refuses to say on standard output what is written there.
pub(crate) fn refuse_mixture(
    command: &str,
    json: bool,
    reading: &ReadingArguments,
) -> Result<(), CommandError> {
    if json && reading.output.as_os_str() == "-" {
        return Err(CommandError::Usage(format!(
            "{command}: --json says on standard output what was written, so that needs a file: give \
             -o FILE"
        )));
    }
    Ok(())
}

/// Says on standard output what was written.
pub(crate) fn say(
    reading: &ReadingArguments,
    format: &str,
    bytes: u64,
    measure: Option<Measure>,
    extent: Extent,
    state: &RecordingState,
) -> Result<(), CommandError> {
    let Extent { events, blocks } = extent;
    let path = reading.output.to_string_lossy();
    let written = Written { state, path, format, bytes, measure, events, blocks };
    let mut output = Output::open("-".as_ref(), ColorChoice::Never)?;
    output.write(|out| {
        json::write_pretty(out, &written)?;
        writeln!(out)
    })?;
    output.finish()
}
