//! The live bytes of a program over time, as few points that are exact.

use alloc_trace_analysis::Intervals;

/// The live bytes of the program at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LivePoint {
    pub(crate) time_ns: u64,
    pub(crate) live_bytes: u64,
    /// Requests and releases since the last point.
    pub(crate) operations: u64,
}

/// A point at the end of each bin, and one at its peak, where that is more than at both its ends.
pub(crate) fn live_points(intervals: &Intervals) -> Vec<LivePoint> {
    let mut points = Vec::with_capacity(2 * intervals.bins.len());
    let (mut live, mut end_ns) = (0_u64, 0);
    for bin in &intervals.bins {
        let before = live;
        live = live.saturating_add(bin.allocated_bytes).saturating_sub(bin.released_bytes);
        end_ns = intervals.state.duration_ns.min(end_ns + intervals.bin_ns);
        if bin.peak_bytes > before.max(live) {
            let (time_ns, live_bytes) = (bin.peak_at_ns, bin.peak_bytes);
            points.push(LivePoint { time_ns, live_bytes, operations: 0 });
        }
        let operations = bin.requests() + bin.released_blocks;
        points.push(LivePoint { time_ns: end_ns, live_bytes: live, operations });
    }
    points
}
