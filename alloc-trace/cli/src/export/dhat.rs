//! The JSON that the viewer of Valgrind's DHAT opens.

use std::io::{self, Write};

use alloc_trace_analysis::{Frame, ProgramPoint, ProgramPoints};
use serde::Serialize;

use crate::json;

/// A file of version 2; the names are the viewer's.
#[derive(Debug, Serialize)]
struct File<'a> {
    #[serde(rename = "dhatFileVersion")]
    version: u32,
    mode: &'static str,
    verb: &'static str,
    /// Whether there are lifetimes.
    bklt: bool,
    /// Whether accesses were counted.
    bkacc: bool,
    /// The unit of time, and that of a million of them.
    tu: &'static str,
    #[serde(rename = "Mtu")]
    mtu: &'static str,
    /// Blocks that live less on average are pointed out.
    tuth: u64,
    cmd: &'a str,
    pid: u32,
    /// When the program had most, and when it ended.
    tg: u64,
    te: u64,
    pps: Vec<Point>,
    ftbl: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Point {
    /// Bytes and blocks in all.
    tb: u64,
    tbk: u64,
    /// All lifetimes together.
    tl: u64,
    /// Bytes and blocks at its own peak.
    mb: u64,
    mbk: u64,
    /// Bytes and blocks at the program's peak.
    gb: u64,
    gbk: u64,
    /// Bytes and blocks at the end.
    eb: u64,
    ebk: u64,
    /// The frames, innermost first, as numbers of texts.
    fs: Vec<u32>,
}

/// In nanoseconds: what lives less is pointed out as short-lived.
const SHORT_LIFE_NS: u64 = 10_000;

pub(crate) fn write(
    out: &mut dyn Write,
    points: &ProgramPoints,
    command: &str,
    pid: u32,
) -> io::Result<()> {
    let backtraces = &points.backtraces;
    // The first text is the root's.
    let frames = backtraces.frames.iter().map(text);
    let ftbl = std::iter::once("[root]".to_owned()).chain(frames).collect();
    let point = |point: &ProgramPoint| {
        let at = |number: u32| backtraces.nodes.get(number as usize);
        let way = std::iter::successors(at(point.node), |node| at(node.parent?));
        let figures = &point.figures;
        Point {
            tb: figures.allocated_bytes,
            tbk: point.blocks,
            tl: u64::try_from(figures.lifetime_ns).unwrap_or(u64::MAX),
            mb: figures.peak_bytes,
            mbk: point.peak_blocks,
            gb: figures.at_peak_bytes,
            gbk: figures.at_peak_blocks,
            eb: figures.live_bytes_at_end,
            ebk: figures.live_blocks_at_end,
            fs: way.filter_map(|node| Some(node.frame? + 1)).collect(),
        }
    };
    let file = File {
        version: 2,
        mode: "heap",
        verb: "Allocated",
        bklt: true,
        bkacc: false,
        tu: "ns",
        mtu: "ms",
        tuth: SHORT_LIFE_NS,
        cmd: command,
        pid,
        tg: points.total.peak_at_ns,
        te: points.state.duration_ns,
        pps: points.points.iter().map(point).collect(),
        ftbl,
    };
    json::write(out, &file)?;
    writeln!(out)
}

fn text(frame: &Frame) -> String {
    match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!("{} ({file}:{line})", frame.function),
        (Some(file), None) => format!("{} ({file})", frame.function),
        _ => frame.function.to_string(),
    }
}
