//! What `timeline --json` writes: the figures of every bin, for whoever plots them.

use std::io::{self, Write};

use alloc_trace_analysis::{Bin, Intervals, RecordingState};
use serde::Serialize;

use crate::json;

#[derive(Debug, Serialize)]
struct Timeline<'a> {
    #[serde(flatten)]
    state: &'a RecordingState,
    bin_ns: u64,
    bins: Vec<BinFigures<'a>>,
    markers: Vec<MarkerAt<'a>>,
    resident: Vec<ResidentAt>,
}

#[derive(Debug, Serialize)]
struct BinFigures<'a> {
    /// At its end.
    live_bytes: u64,
    live_blocks: u64,
    #[serde(flatten)]
    bin: &'a Bin,
}

#[derive(Debug, Serialize)]
struct MarkerAt<'a> {
    text: &'a str,
    time_ns: u64,
}

#[derive(Debug, Serialize)]
struct ResidentAt {
    time_ns: u64,
    bytes: u64,
}

pub(super) fn write(out: &mut dyn Write, intervals: &Intervals) -> io::Result<()> {
    let (mut live_bytes, mut live_blocks) = (0_u64, 0_u64);
    let bins = intervals.bins.iter().map(|bin| {
        live_bytes =
            live_bytes.saturating_add(bin.allocated_bytes).saturating_sub(bin.released_bytes);
        live_blocks = (live_blocks + bin.obtained_blocks()).saturating_sub(bin.released_blocks);
        BinFigures { live_bytes, live_blocks, bin }
    });
    let timeline = Timeline {
        state: &intervals.state,
        bin_ns: intervals.bin_ns,
        bins: bins.collect(),
        markers: (intervals.markers.iter())
            .map(|(text, time_ns)| MarkerAt { text, time_ns: *time_ns })
            .collect(),
        resident: (intervals.resident.iter())
            .map(|&(time_ns, bytes)| ResidentAt { time_ns, bytes })
            .collect(),
    };
    json::write(out, &timeline)?;
    writeln!(out)
}
