//! `alloc-trace check`: whether a recording keeps to limits.

use std::io::{self, Write};
use std::process::ExitCode;

use alloc_trace_analysis::{CheckedLimit, Limited, Options, Recording, Summary};
use serde::Serialize;

use crate::args::CheckArguments;
use crate::error::CommandError;
use crate::output::Output;
use crate::units::{bytes, count};
use crate::warnings;

/// What `--json` writes.
#[derive(Debug, Serialize)]
struct Answer {
    /// Whether the recording passes.
    passed: bool,
    /// Whether every record is there.
    complete: bool,
    /// Why it may not be.
    incomplete: Vec<String>,
    /// Every limit that was given.
    limits: Vec<CheckedLimit>,
}

pub(crate) fn run(arguments: &CheckArguments) -> Result<ExitCode, CommandError> {
    let limits = limits(arguments);
    if limits.is_empty() {
        return Err(CommandError::Usage(
            "check: no limit was given; give at least one, as in --max-peak 64MiB --max-leaked 0"
                .into(),
        ));
    }
    let recording = Recording::open(&arguments.file)?;
    let mut output = Output::open(&arguments.reading.output)?;
    // No figure that is limited depends on names.
    let summary = Summary::of(&recording, Options::default().symbols(false))?;
    let limits: Vec<CheckedLimit> =
        limits.into_iter().map(|(limit, max)| limit.check(max, &summary)).collect();
    let believed = summary.complete || arguments.allow_incomplete;
    let incomplete = if summary.complete { Vec::new() } else { warnings::of_summary(&summary) };
    let passed = believed && limits.iter().all(|limit| limit.kept);
    let answer = Answer { passed, complete: summary.complete, incomplete, limits };
    if arguments.allow_incomplete {
        warnings::print(&arguments.file, &answer.incomplete);
    }
    output.write(|out| {
        if arguments.json {
            serde_json::to_writer_pretty(&mut *out, &answer)?;
            writeln!(out)
        } else {
            write_text(out, &answer, believed)
        }
    })?;
    output.finish()?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The limits that were given.
fn limits(arguments: &CheckArguments) -> Vec<(Limited, f64)> {
    let number = |max: Option<u64>| max.map(|max| max as f64);
    let given = [
        (Limited::Peak, number(arguments.max_peak)),
        (Limited::Leaked, number(arguments.max_leaked)),
        (Limited::LeakedBlocks, number(arguments.max_leaked_blocks)),
        (Limited::Allocations, number(arguments.max_allocations)),
        (Limited::Bytes, number(arguments.max_bytes)),
        (Limited::Temporary, arguments.max_temporary),
    ];
    given.into_iter().filter_map(|(limit, max)| Some((limit, max?))).collect()
}

fn write_text(out: &mut dyn Write, answer: &Answer, believed: bool) -> io::Result<()> {
    if !believed {
        writeln!(out, "incomplete: {}", answer.incomplete.join("; "))?;
        writeln!(out, "  --allow-incomplete checks what there is")?;
    }
    for limit in answer.limits.iter().filter(|limit| !limit.kept) {
        let (name, actual, max) = match limit.limit {
            Limited::Peak => ("peak", size(limit.actual), size(limit.max)),
            Limited::Leaked => ("never freed", size(limit.actual), size(limit.max)),
            Limited::LeakedBlocks => {
                ("blocks never freed", number(limit.actual), number(limit.max))
            }
            Limited::Allocations => ("allocations", number(limit.actual), number(limit.max)),
            Limited::Bytes => ("allocated", size(limit.actual), size(limit.max)),
            _ => ("temporary", percent(limit.actual), percent(limit.max)),
        };
        writeln!(out, "{name}: {actual} exceeds {max}")?;
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
