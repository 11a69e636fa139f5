//! Collapsed stacks: a backtrace a line, its frames set off by semicolons, the outermost first, and
//! its weight. Flame graph scripts read them.

use std::io::{self, Write};

use alloc_trace_analysis::{CallTreeWeights, Measure};

use crate::printable::printable;
use crate::warnings;

/// Writes the backtraces that have any of a measure, in units of `unit` of what it is in, rounded down.
pub(crate) fn write(
    out: &mut dyn Write,
    weights: &CallTreeWeights,
    measure: Measure,
    unit: u128,
) -> io::Result<()> {
    if let Some(unknown) = warnings::unknown_part(&weights.state) {
        // A line that weighs nothing, which a reader of the format draws as nothing.
        writeln!(out, "[{unknown}] 0")?;
    }
    let mut line = String::new();
    for (node, figures) in (0..).zip(&weights.own) {
        let weight = measure.of(figures) / unit;
        if weight == 0 {
            continue;
        }
        let frames: Vec<_> = weights.backtraces.frames_of(node).collect();
        line.clear();
        for frame in frames.into_iter().rev() {
            if !line.is_empty() {
                line.push(';');
            }
            // A name can have what sets frames off, as in `[u8; 4]`.
            line.push_str(&printable(&frame.function).replace(';', ":"));
        }
        writeln!(out, "{line} {weight}")?;
    }
    Ok(())
}
