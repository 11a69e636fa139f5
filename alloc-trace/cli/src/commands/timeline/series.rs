//! What is plotted: its points over time, and what they are called.

use alloc_trace_analysis::{Bin, Intervals};

use crate::args::Plotted;
use crate::units::{bytes, count, counted, duration};

/// What values are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    Count,
    Nanoseconds,
}

/// A line over time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    /// What it is and how much of it there is at most or in all.
    pub(super) title: String,
    /// What one of its values is.
    pub(super) name: &'static str,
    pub(super) unit: Unit,
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
            Plotted::Peak => peaks(intervals),
            Plotted::AtPeak => {
                let name = "bytes a second";
                let rate = rate(intervals, "", name, Unit::Bytes, |bin| bin.allocated_bytes);
                let sum = intervals.bins.iter().map(|bin| bin.allocated_bytes);
                let sum = bytes(sum.fold(0, u64::saturating_add));
                Series {
                    title: format!("live at the peak {sum}, by when it was requested"),
                    ..rate
                }
            }
            Plotted::Bytes => rate(intervals, "allocated", "bytes a second", Unit::Bytes, |bin| {
                bin.allocated_bytes
            }),
            Plotted::Freed => {
                rate(intervals, "freed", "bytes a second", Unit::Bytes, |bin| bin.released_bytes)
            }
            Plotted::Requests => {
                rate(intervals, "requested", "requests a second", Unit::Count, Bin::requests)
            }
            Plotted::Temporary => {
                rate(intervals, "temporary", "allocations a second", Unit::Count, |bin| {
                    bin.temporary_allocations
                })
            }
            Plotted::Lifetime => lifetimes(intervals),
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
        unit: Unit::Bytes,
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
        unit: Unit::Count,
        points,
        peak: None,
    }
}

/// A step for each bin, as high as the most that was live in it.
fn peaks(intervals: &Intervals) -> Series {
    let live = live_bytes(intervals);
    let points = steps(intervals, |bin| bin.peak_bytes as f64);
    let title = live.title.replacen("live bytes", "most live bytes of each bin", 1);
    Series { title, name: "most live", points, ..live }
}

/// A step for each bin, as high as its blocks lived on average; nothing where there are none.
fn lifetimes(intervals: &Intervals) -> Series {
    let mean = |lifetime_ns: u128, blocks: u64| lifetime_ns.checked_div(u128::from(blocks));
    let blocks = intervals.bins.iter().map(Bin::obtained_blocks).sum();
    let whole = intervals.bins.iter().map(|bin| bin.lifetime_ns).sum();
    let whole = u64::try_from(mean(whole, blocks).unwrap_or(0)).unwrap_or(u64::MAX);
    let points =
        steps(intervals, |bin| mean(bin.lifetime_ns, bin.obtained_blocks()).unwrap_or(0) as f64);
    Series {
        title: format!(
            "mean lifetime {} of {}, by when they were requested",
            duration(whole),
            counted(blocks, "block")
        ),
        name: "mean lifetime",
        unit: Unit::Nanoseconds,
        points,
        peak: None,
    }
}

/// A step for each bin.
fn steps(intervals: &Intervals, value: impl Fn(&Bin) -> f64) -> Vec<(f64, f64)> {
    let mut points = Vec::with_capacity(2 * intervals.bins.len());
    for (index, bin) in (0_u64..).zip(&intervals.bins) {
        for edge in [index, index + 1] {
            points.push(((edge * intervals.bin_ns) as f64, value(bin)));
        }
    }
    points
}

/// A step for each bin, as high as its figure would be of a second.
fn rate(
    intervals: &Intervals,
    what: &str,
    name: &'static str,
    unit: Unit,
    figure: impl Fn(&Bin) -> u64,
) -> Series {
    let seconds = intervals.bin_ns as f64 / 1e9;
    let sum = intervals.bins.iter().map(&figure).fold(0, u64::saturating_add);
    let points = steps(intervals, |bin| figure(bin) as f64 / seconds);
    let whole = if unit == Unit::Bytes { bytes(sum) } else { count(sum) };
    Series {
        title: format!("{what} {whole} in {}", duration(intervals.state.duration_ns)),
        name,
        unit,
        points,
        peak: None,
    }
}
