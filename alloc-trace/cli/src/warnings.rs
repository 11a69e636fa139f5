//! What a reader must know of a recording before it believes the figures.

use alloc_trace_analysis::{RecordingEnd, RecordingState, SkippedPart, Summary, SymbolProblem};

use crate::units::{count, counted};

/// Why the figures may not be the whole truth, a sentence each.
pub(crate) fn of_summary(summary: &Summary) -> Vec<String> {
    let mut warnings = of_parts(summary.end, summary.lost_records, &summary.skipped);
    if summary.inferred_frees > 0 {
        warnings.push(format!(
            "{} have no free in the recording, although their address was given out again",
            counted(summary.inferred_frees, "block")
        ));
    }
    warnings
}

/// Why what was found may not be the whole truth, a sentence each.
pub(crate) fn of_state(state: &RecordingState) -> Vec<String> {
    of_parts(state.end, state.lost_records, &state.skipped)
}

fn of_parts(end: Option<RecordingEnd>, lost_records: u64, parts: &[SkippedPart]) -> Vec<String> {
    let mut warnings = Vec::new();
    match end {
        None => warnings.push(unclosed().to_owned()),
        Some(RecordingEnd::WriteFailed) => warnings.push(
            "the recording could not be written to its end: what happened later is missing".into(),
        ),
        Some(_) => {}
    }
    warnings.extend(lost(lost_records));
    warnings.extend(skipped(parts));
    warnings
}

/// Why call sites have no name or no line, a sentence each.
pub(crate) fn of_symbols(problems: &[SymbolProblem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// The recording has no closing record.
pub(crate) const fn unclosed() -> &'static str {
    "the recording ended without its closing record: the program was killed, or still runs"
}

/// Records are missing.
pub(crate) fn lost(records: u64) -> Option<String> {
    (records > 0).then(|| format!("{} records were lost", count(records)))
}

/// Parts of the file could not be read: the first few, with their offsets.
pub(crate) fn skipped(parts: &[SkippedPart]) -> Vec<String> {
    const SHOWN: usize = 5;
    let mut lines: Vec<String> = parts
        .iter()
        .take(SHOWN)
        .map(|part| {
            let what = if part.truncated { "truncated" } else { "damaged" };
            let length = match part.bytes {
                0 => String::new(),
                bytes => format!(" ({} skipped)", counted(bytes, "byte")),
            };
            format!("{what} at offset {}: expected {}{length}", part.offset, part.expected)
        })
        .collect();
    if let Some(more) = parts.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        lines.push(format!("{} more parts could not be read", count(more as u64)));
    }
    lines
}

/// Prints warnings about a file on standard error.
pub(crate) fn print(file: &std::path::Path, warnings: &[String]) {
    for warning in warnings {
        eprintln!("alloc-trace: {}: {warning}", file.display());
    }
}

/// Prints on standard error why call sites have no name or no line.
pub(crate) fn print_names(problems: &[SymbolProblem]) {
    for problem in of_symbols(problems) {
        eprintln!("alloc-trace: {problem}");
    }
}
