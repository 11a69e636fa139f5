//! What a reader must know of a recording before it believes the figures.

use std::path::Path;

use alloc_trace_analysis::{
    FilterKind, RecordingEnd, RecordingState, SkippedPart, SymbolProblem, UnmatchedFilter,
};

use crate::message;
use crate::table::from_the_back;
use crate::units::{count, counted, duration};

/// Why the figures may not be what they seem, a sentence each.
pub(crate) fn of_state(state: &RecordingState) -> Vec<String> {
    let mut warnings = incomplete(state);
    warnings.extend(notes(state));
    warnings
}

/// The recording kept its last part only.
fn horizon(at_ns: Option<u64>) -> Option<String> {
    at_ns.map(|at_ns| {
        format!(
            "the recording kept what happened after {}: of what was before only the blocks that were \
             live then count, and totals, peak and the rest of it are unknown",
            duration(at_ns)
        )
    })
}

/// The same in a few words, for the title of a picture or of a file for another program.
pub(crate) fn unknown_part(state: &RecordingState) -> Option<String> {
    let at = duration(state.horizon_ns?);
    Some(format!("what happened before {at} is unknown, but for what was live then"))
}

/// What of the recording is missing, a sentence each.
pub(crate) fn incomplete(state: &RecordingState) -> Vec<String> {
    let mut warnings = Vec::from_iter(horizon(state.horizon_ns));
    match state.end {
        None => warnings.push(
            "the recording ended without its closing record: the program was killed, or still runs"
                .to_owned(),
        ),
        Some(RecordingEnd::WriteFailed) => warnings.push(
            "the recording could not be written to its end: what happened later is missing".into(),
        ),
        Some(_) => {}
    }
    if state.lost_records > 0 {
        warnings.push(format!("{} records were lost", count(state.lost_records)));
    }
    warnings.extend(skipped(&state.skipped));
    warnings
}

/// What else there is to know, a sentence each.
pub(crate) fn notes(state: &RecordingState) -> Vec<String> {
    let mut notes = Vec::new();
    if state.inferred_frees > 0 {
        notes.push(format!(
            "{} have no free in the recording, although their address was given out again",
            counted(state.inferred_frees, "block")
        ));
    }
    let end_ns = state.duration_ns;
    notes.extend(state.unmatched_filters.iter().map(|filter| unmatched(filter, end_ns)));
    notes
}

/// A filter asks for a name or a time that the recording does not have.
fn unmatched(filter: &UnmatchedFilter, end_ns: u64) -> String {
    let value = &filter.value;
    // A time has its unit behind it.
    let time = value.strip_suffix("ns").and_then(|ns| ns.parse().ok()).map(duration);
    let time = time.as_ref().unwrap_or(value);
    let behind = |option, picks| {
        let end = duration(end_ns);
        format!("{option} {time} is behind the end of the recording, after {end}: it picks {picks}")
    };
    match filter.filter {
        FilterKind::From => return behind("--from", "nothing"),
        FilterKind::LiveAt => return behind("--live-at", "what was never freed"),
        FilterKind::To => return format!("--to {time} is before --from: they pick nothing"),
        _ => {}
    }
    let (nothing, all, option) = match filter.filter {
        FilterKind::Thread => (format!("no thread is `{value}`"), "threads", "--thread"),
        FilterKind::Span => (format!("no span is called `{value}`"), "spans", "--span"),
        _ => (format!("no call site matches `{value}`"), "call sites", "--site"),
    };
    if filter.near.is_empty() {
        return format!("{nothing}: the recording has no {all}, so {option} picks nothing");
    }
    format!(
        "{nothing}, so {option} picks nothing by it; the nearest are: {}",
        filter.near.join(", ")
    )
}

/// Why call sites have no name or no line, a sentence each: of the first few modules, whose paths may be
/// as long as a file says.
pub(crate) fn of_symbols(problems: &[SymbolProblem]) -> Vec<String> {
    const SHOWN: usize = 5;
    const LONGEST: usize = 160;
    let mut lines: Vec<String> = problems
        .iter()
        .take(SHOWN)
        .map(|problem| {
            let module = problem.module().to_string_lossy();
            let text = problem.to_string();
            text.replacen(&*module, &from_the_back(&module, LONGEST), 1)
        })
        .collect();
    if let Some(more) = problems.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        lines.push(format!("{} more modules lack names, or files and lines", count(more as u64)));
    }
    lines
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

/// Prints all that is to be known of a recording on standard error.
pub(crate) fn tell(file: &Path, state: &RecordingState) {
    print(file, &of_state(state));
    print_names(&state.symbol_problems);
}

/// Prints warnings about a file on standard error.
pub(crate) fn print(file: &Path, warnings: &[String]) {
    for warning in warnings {
        message::print(&format!("{}: {warning}", file.to_string_lossy()));
    }
}

/// Prints on standard error why call sites have no name or no line.
pub(crate) fn print_names(problems: &[SymbolProblem]) {
    of_symbols(problems).iter().for_each(|problem| message::print(problem));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_without_names_are_told_in_few_lines_of_a_bounded_length() {
        let problems = |modules: usize, path: &str| -> Vec<SymbolProblem> {
            (0..modules).map(|_| SymbolProblem::Changed { module: path.into() }).collect()
        };
        let told = of_symbols(&problems(5, "/lib/a.so"));
        assert_eq!(told.len(), 5);
        let whole = "/lib/a.so: no names, because the file has changed since the recording; put the \
                     recorded one back, or record again";
        assert!(told.iter().all(|line| line == whole), "{told:?}");
        let told = of_symbols(&problems(1_005, &"/long".repeat(800)));
        assert_eq!(told.len(), 6);
        assert_eq!(told[5], "1,000 more modules lack names, or files and lines");
        for line in &told[..5] {
            assert!(line.chars().count() < 300 && line.ends_with("or record again"), "{line}");
        }
    }
}
