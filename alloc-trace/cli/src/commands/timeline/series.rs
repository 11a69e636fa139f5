//! What is plotted: its points over time, and what they are called.

use alloc_trace_analysis::{Bin, Intervals};

use crate::args::Plotted;
use crate::units::{bytes, count, duration};

/// A line over time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    /// What it is and how much of it there is at most or in all.
    pub(super) title: String,
    /// What one of its values is.
    pub(super) name: &'static str,
    pub(super) is_bytes: bool,
    /// Time in nanoseconds, and value.
    pub(super) points: Vec<(f64, f64)>,
    /// What is to be pointed at.
    pub(super) peak: Option<(f64, f64)>,
}

impl Series {
    pub(super) fn of(intervals: &Intervals, plotted: Plotted) -> Self {
        match plotted {
            Plotted::Live => live_bytes(intervals),
            Plotted::LiveBlocks => live_blocks(intervals),
            Plotted::Bytes => {
                rate(intervals, "allocated", "bytes a second", true, |bin| bin.allocated_bytes)
            }
            Plotted::Freed => {
                rate(intervals, "freed", "bytes a second", true, |bin| bin.released_bytes)
            }
            Plotted::Requests => {
                rate(intervals, "requested", "requests a second", false, Bin::requests)
            }
            Plotted::Temporary => {
                rate(intervals, "temporary", "allocations a second", false, |bin| {
                    bin.temporary_allocations
                })
            }
        }
    }
}

/// Up to each bin's peak when it was, and what is live at the edges.
fn live_bytes(intervals: &Intervals) -> Series {
    let mut points = vec![(0.0, 0.0)];
    let mut live = 0_u64;
    let mut peak = (0, 0);
    for (index, bin) in (1_u64..).zip(&intervals.bins) {
        points.push((bin.peak_at_ns as f64, bin.peak_bytes as f64));
        live = live.saturating_add(bin.allocated_bytes).saturating_sub(bin.released_bytes);
        points.push(((index * intervals.bin_ns) as f64, live as f64));
        if bin.peak_bytes > peak.1 {
            peak = (bin.peak_at_ns, bin.peak_bytes);
        }
    }
    Series {
        title: format!("live bytes, peak {} after {}", bytes(peak.1), duration(peak.0)),
        name: "live",
        is_bytes: true,
        points,
        peak: (peak.1 > 0).then_some((peak.0 as f64, peak.1 as f64)),
    }
}

/// What is live at the edges of the bins.
fn live_blocks(intervals: &Intervals) -> Series {
    let mut points = vec![(0.0, 0.0)];
    let (mut live, mut most) = (0_u64, 0);
    for (index, bin) in (1_u64..).zip(&intervals.bins) {
        live = (live + bin.obtained_blocks()).saturating_sub(bin.released_blocks);
        most = most.max(live);
        points.push(((index * intervals.bin_ns) as f64, live as f64));
    }
    Series {
        title: format!("live blocks between bins, at most {}", count(most)),
        name: "live blocks",
        is_bytes: false,
        points,
        peak: None,
    }
}

/// A step for each bin, as high as its figure would be of a second.
fn rate(
    intervals: &Intervals,
    what: &str,
    name: &'static str,
    is_bytes: bool,
    figure: impl Fn(&Bin) -> u64,
) -> Series {
    let seconds = intervals.bin_ns as f64 / 1e9;
    let mut points = Vec::with_capacity(2 * intervals.bins.len());
    let mut sum = 0_u64;
    for (index, bin) in (0_u64..).zip(&intervals.bins) {
        let value = figure(bin);
        sum = sum.saturating_add(value);
        for edge in [index, index + 1] {
            points.push(((edge * intervals.bin_ns) as f64, value as f64 / seconds));
        }
    }
    let whole = if is_bytes { bytes(sum) } else { count(sum) };
    Series {
        title: format!("{what} {whole} in {}", duration(intervals.state.duration_ns)),
        name,
        is_bytes,
        points,
        peak: None,
    }
}
