//! `alloc-trace check`: whether a recording keeps to limits, or to what an earlier one has.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use alloc_trace_analysis::{
    AnalysisError, CheckedLimit, Growth, Limited, Recording, RecordingState, Summary,
};
use serde::Serialize;

use crate::args::CheckArguments;
use crate::error::CommandError;
use crate::json;
use crate::limits::Allowed;
use crate::open;
use crate::printable::printable;
use crate::progress::Progress;
use crate::text::wrap;
use crate::units::{bytes, count};
use crate::warnings;

/// What `--json` writes.
#[derive(Debug, Serialize)]
struct Answer {
    /// Whether the recording passes.
    passed: bool,
    /// Whether every record is there, of the baseline too.
    complete: bool,
    /// Why it may not be.
    incomplete: Vec<String>,
    /// Every limit that was given.
    limits: Vec<CheckedLimit>,
}

pub(crate) fn run(arguments: &CheckArguments) -> Result<ExitCode, CommandError> {
    let limits = limits(arguments)?;
    let recording = open::recording(&arguments.file)?;
    let baseline = arguments.baseline.as_deref().map(open::recording).transpose()?;
    let mut output = arguments.reading.open_output()?;
    let columns = output.terminal_columns;
    // Only names tell what the runtime keeps for itself from what the program leaks; no other figure
    // that is limited depends on them, unless they pick it.
    let reading = &arguments.reading;
    let picked = reading.filters.asks_for_sites();
    let of_leaks = |limit: &Limited| matches!(limit, Limited::Leaked | Limited::LeakedBlocks);
    let names = (picked || limits.iter().any(|(limit, _)| of_leaks(limit))) && !reading.no_symbols;
    let sum_up = |recording: &Recording| -> Result<Summary, AnalysisError> {
        let _progress = Progress::reading(recording);
        let options = reading.options().symbols(names).all_frames(reading.full && picked);
        Summary::of(recording, options)
    };
    let summary = sum_up(&recording)?;
    let baseline = baseline.as_ref().map(sum_up).transpose()?;
    let check = |(limit, allowed): (Limited, Allowed)| match (allowed, &baseline) {
        (Allowed::AtMost(max), _) => Some(limit.check(max, &summary)),
        (Allowed::More(growth), Some(baseline)) => {
            Some(limit.check_growth(growth, baseline, &summary))
        }
        (Allowed::More(_), None) => None,
    };
    let limits: Vec<CheckedLimit> = limits.into_iter().filter_map(check).collect();
    // What is live in the end is known of a recording that kept its last part, too.
    let needs_everything = limits.iter().any(|limit| limit.limit.needs_everything());
    let known = |mut state: RecordingState| {
        state.horizon_ns = state.horizon_ns.filter(|_| needs_everything);
        state
    };
    let state = known(summary.state());
    let before = baseline.map(|baseline| known(baseline.state()));
    let missing = warnings::incomplete(&state);
    let missing_before = before.as_ref().map(warnings::incomplete).unwrap_or_default();
    let mut incomplete = missing.clone();
    incomplete.extend(missing_before.iter().map(|why| format!("in the baseline: {why}")));
    let complete = incomplete.is_empty();
    let believed = complete || arguments.allow_incomplete;
    let passed = believed && limits.iter().all(|limit| limit.kept);
    let answer = Answer { passed, complete, incomplete, limits };
    let baseline_file = arguments.baseline.as_deref().zip(before.as_ref());
    if arguments.allow_incomplete {
        warnings::print(&arguments.file, &missing);
        if let Some((file, _)) = baseline_file {
            warnings::print(file, &missing_before);
        }
    }
    warnings::print(&arguments.file, &warnings::notes(&state));
    warnings::print_names(&state.symbol_problems);
    if let Some((file, before)) = baseline_file {
        warnings::print(file, &warnings::notes(before));
        let new = before.symbol_problems.iter().filter(|it| !state.symbol_problems.contains(it));
        warnings::print_names(&new.cloned().collect::<Vec<_>>());
    }
    if reading.is_filtered() && summary.total.events == 0 {
        let nothing = "the filters pick no event: there was nothing to exceed a limit".to_owned();
        warnings::print(&arguments.file, &[nothing]);
    }
    let written = output.write(|out| {
        if arguments.json {
            json::write_pretty(out, &answer)?;
            writeln!(out)
        } else {
            write_text(out, &answer, believed, arguments.baseline.as_deref(), columns)
        }
    });
    CommandError::unless_closed(written.and_then(|()| output.finish()))?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The limits that were given.
fn limits(arguments: &CheckArguments) -> Result<Vec<(Limited, Allowed)>, CommandError> {
    let of = |limit| match limit {
        Limited::Peak => arguments.max_peak,
        Limited::Leaked => arguments.max_leaked,
        Limited::LeakedBlocks => arguments.max_leaked_blocks,
        Limited::Allocations => arguments.max_allocations,
        Limited::Bytes => arguments.max_bytes,
        Limited::Temporary => arguments.max_temporary,
        _ => None,
    };
    let growth = arguments.max_growth.map(|percent| Allowed::More(Growth::Percent(percent)));
    let limits: Vec<(Limited, Allowed)> =
        Limited::ALL.into_iter().filter_map(|limit| Some((limit, of(limit).or(growth)?))).collect();
    let relative = limits.iter().any(|(_, allowed)| matches!(allowed, Allowed::More(_)));
    let wrong = match arguments.baseline {
        None if limits.is_empty() => {
            "no limit was given; give at least one, as in --max-peak 64MiB --max-leaked 0"
        }
        Some(_) if !relative => {
            "no limit is counted from the baseline; give --max-growth 5%, or one such as \
             --max-peak +5%"
        }
        None if relative => "a limit with a `+` is counted from a recording: give --baseline FILE",
        _ => return Ok(limits),
    };
    Err(CommandError::Usage(format!("check: {wrong}")))
}

fn write_text(
    out: &mut dyn Write,
    answer: &Answer,
    believed: bool,
    baseline: Option<&Path>,
    columns: Option<usize>,
) -> io::Result<()> {
    let mut write_line = |line: &str| {
        // For a log each is a line, however long.
        let Some(columns) = columns else { return writeln!(out, "{}", printable(line)) };
        let lines = wrap(line, columns - 2);
        (0..).zip(&lines).try_for_each(|(number, line)| {
            writeln!(out, "{}{line}", if number == 0 { "" } else { "  " })
        })
    };
    if !believed {
        write_line(&format!("incomplete: {}", answer.incomplete.join("; ")))?;
        write_line("  --allow-incomplete checks what there is")?;
    }
    for limit in answer.limits.iter().filter(|limit| !limit.kept) {
        let (name, unit): (_, fn(f64) -> String) = match limit.limit {
            Limited::Peak => ("peak", size),
            Limited::Leaked => ("never freed", size),
            Limited::LeakedBlocks => ("blocks never freed", number),
            Limited::Allocations => ("allocations", number),
            Limited::Bytes => ("allocated", size),
            _ => ("temporary", percent),
        };
        let (actual, max) = (unit(limit.actual), unit(limit.max));
        let from = match (limit.baseline, baseline) {
            (Some(figure), Some(path)) => {
                format!(", from {} in {}", unit(figure), path.to_string_lossy())
            }
            _ => String::new(),
        };
        write_line(&format!("{name}: {actual} exceeds {max}{from}"))?;
    }
    Ok(())
}

/// Bytes in a unit, and exactly: a limit can be exceeded by less than the unit shows.
fn size(value: f64) -> String {
    let value = value as u64;
    if value < 1024 { bytes(value) } else { format!("{} ({} B)", bytes(value), count(value)) }
}

fn number(value: f64) -> String {
    count(value as u64)
}

fn percent(value: f64) -> String {
    format!("{value:.2} %")
}
