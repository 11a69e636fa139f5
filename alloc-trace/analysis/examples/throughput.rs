//! Measures how fast a recording is read: `throughput FILE`.
//!
//! `alloc-trace-format` has an example that writes a recording to measure with.

use std::path::Path;
use std::time::Instant;

use alloc_trace_analysis::{Options, Recording, Summary};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("usage: throughput FILE")?;
    let recording = Recording::open(Path::new(&file))?;
    for _ in 0..3 {
        let begin = Instant::now();
        let mut merged = recording.merged();
        while !matches!(merged.advance()?, alloc_trace_format::Step::End) {}
        let merge = begin.elapsed();
        let summary = Summary::of(&recording, Options::default().symbols(false))?;
        let whole = begin.elapsed() - merge;
        println!(
            "{} events: merged in {merge:.0?}, summed up in {whole:.0?}, {:.1} M events/s",
            summary.total.events,
            summary.total.events as f64 / whole.as_secs_f64() / 1e6
        );
    }
    Ok(())
}
