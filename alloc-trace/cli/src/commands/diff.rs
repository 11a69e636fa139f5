//! `alloc-trace diff`: what changed between two recordings.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use alloc_trace_analysis::{
    By, Diff, DiffFigures, DiffRow, Figures, GroupKey, Grouped, Measure, Recording,
};
use serde::Serialize;

use crate::args::{DiffArguments, SortKey};
use crate::commands::advise::place;
use crate::commands::grouped;
use crate::error::CommandError;
use crate::json;
use crate::measures::{self, value};
use crate::open;
use crate::progress::Progress;
use crate::style::Style;
use crate::table::{Table, from_the_back, from_the_front};
use crate::text::{self, write_heading};
use crate::units::{count, counted, duration};
use crate::warnings;

/// How many rows a table has unless the user says otherwise.
const ROWS: usize = 10;

/// What `--json` writes.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    /// Whether the exit status is 0.
    passed: bool,
    tables: &'a [Diff],
}

pub(crate) fn run(arguments: &DiffArguments) -> Result<ExitCode, CommandError> {
    let measure = arguments.sort.measure().map(|name| name.measure());
    if arguments.fail.is_some() && measure.is_none() {
        return Err(CommandError::Usage(
            "diff: --fail compares what adds up, which lifetimes do not: give another --sort"
                .into(),
        ));
    }
    let before = open::recording(&arguments.before)?;
    let after = open::recording(&arguments.after)?;
    let mut output = arguments.reading.open_output()?;
    let whats = match arguments.by {
        Some(by) => vec![by.by()],
        None => vec![By::Function, By::Span],
    };
    let mut tables = Vec::new();
    for by in whats {
        let group = |recording: &Recording| {
            let _progress = Progress::reading(recording);
            Grouped::of(recording, arguments.reading.options(), by)
        };
        let mut diff = Diff::of(group(&before)?, group(&after)?);
        diff.rows.sort_by_key(|row| Reverse(weight(row, arguments.sort)));
        tables.push(diff);
    }
    if let Some(diff) = tables.first() {
        warnings::print(&arguments.before, &warnings::of_state(&diff.before.state));
        warnings::print(&arguments.after, &warnings::of_state(&diff.after.state));
    }
    let growth = tables.first().zip(measure).map(|(diff, measure)| {
        (measure, measure.of(&diff.before.total), measure.of(&diff.after.total))
    });
    let excess = arguments.fail.zip(growth).and_then(|(percent, (measure, before, after))| {
        let whole = |diff: &Diff| diff.before.state.complete && diff.after.state.complete;
        if !tables.iter().all(whole) {
            // What is missing could be what grew.
            return Some(
                "a recording is incomplete; check --baseline --allow-incomplete compares what \
                 there is"
                    .to_owned(),
            );
        }
        let max = before as f64 + before as f64 * percent / 100.0;
        (after as f64 > max).then(|| {
            let (before, after) = (value(measure, before), value(measure, after));
            format!("{}: {after} is over {percent} % more than {before}", measures::phrase(measure))
        })
    });
    let written = if arguments.json {
        for diff in &mut tables {
            diff.rows.truncate(arguments.top.unwrap_or(usize::MAX));
        }
        let answer = Answer { passed: excess.is_none(), tables: &tables };
        output.write(|out| {
            json::write_pretty(out, &answer)?;
            writeln!(out)
        })
    } else {
        let layout = Layout {
            sort: arguments.sort,
            rows: arguments.top.unwrap_or(ROWS),
            columns: output.columns,
            style: output.style,
        };
        output.write(|out| {
            write_text(out, arguments, &tables, layout)?;
            excess.iter().try_for_each(|excess| {
                writeln!(out, "\n{}", layout.style.warning(format!("FAILED: {excess}")))
            })
        })
    };
    CommandError::unless_closed(written.and_then(|()| output.finish()))?;
    if let Some(diff) = tables.first() {
        let (before, after) = (&diff.before.state, &diff.after.state);
        warnings::print_names(&before.symbol_problems);
        // What both miss is told once.
        let new = after.symbol_problems.iter().filter(|it| !before.symbol_problems.contains(it));
        warnings::print_names(&new.cloned().collect::<Vec<_>>());
    }
    Ok(if excess.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How much of a change a row is.
fn weight(row: &DiffRow, sort: SortKey) -> u128 {
    let change = match sort.measure() {
        Some(measure) => row.change(measure.measure()),
        None => row.lifetime_change_ns().unwrap_or_default(),
    };
    change.unsigned_abs()
}

#[derive(Debug, Clone, Copy)]
struct Layout {
    sort: SortKey,
    rows: usize,
    columns: usize,
    style: Style,
}

fn write_text(
    out: &mut dyn Write,
    arguments: &DiffArguments,
    tables: &[Diff],
    layout: Layout,
) -> io::Result<()> {
    let Some(first) = tables.first() else { return Ok(()) };
    let name = |path: &Path| from_the_back(&path.display().to_string(), layout.columns - 8);
    writeln!(out, "before  {}", name(&arguments.before))?;
    writeln!(out, "after   {}", name(&arguments.after))?;
    writeln!(out)?;
    write_totals(out, &first.before.total, &first.after.total, layout)?;
    for diff in tables {
        let outside_only = diff.by == By::Span && diff.rows.len() < 2;
        if arguments.by.is_some() || !outside_only {
            write_table(out, diff, layout)?;
        }
    }
    Ok(())
}

fn write_totals(
    out: &mut dyn Write,
    before: &Figures,
    after: &Figures,
    layout: Layout,
) -> io::Result<()> {
    // Where there is no room beside the figures, what they are of stands above them.
    let narrow = layout.columns < 22 + 3 * 12 + 10;
    let (name_width, width) = if narrow { (0, 10) } else { (22, 12) };
    let heading =
        format!("{:name_width$}{:>width$}{:>width$}{:>width$}", "", "before", "after", "change");
    writeln!(out, "{}", layout.style.faint(heading))?;
    let measures = [
        Measure::Bytes,
        Measure::Requests,
        Measure::Peak,
        Measure::Live,
        Measure::LiveBlocks,
        Measure::Temporary,
    ];
    for measure in measures {
        let name = match measure {
            Measure::Peak => "peak of live bytes",
            measure => measures::phrase(measure),
        };
        let (old, new) = (measure.of(before), measure.of(after));
        let change = new.cast_signed() - old.cast_signed();
        let change = signed(change, |change| value(measure, change));
        let (old_text, new_text) = (value(measure, old), value(measure, new));
        let percent = relative(old, new);
        if narrow {
            writeln!(out, "{name}")?;
        }
        let name = if narrow { "" } else { name };
        let figures = format!("{old_text:>width$}{new_text:>width$}{change:>width$}{percent:>10}");
        let line = format!("{name:name_width$}{figures}");
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn write_table(out: &mut dyn Write, diff: &Diff, layout: Layout) -> io::Result<()> {
    let (names, name) = grouped::names(diff.by);
    let requests = |side: &Option<DiffFigures>| side.is_some_and(|s| s.figures.requests() > 0);
    // What only frees has nothing of its own.
    let rows = diff.rows.iter().filter(|row| requests(&row.before) || requests(&row.after));
    let (same, changed): (Vec<&DiffRow>, Vec<&DiffRow>) = rows.partition(|row| row.is_same());
    let same = match same.len() {
        0 => String::new(),
        same => format!(", {} as before", count(same as u64)),
    };
    let phrase = match layout.sort.measure() {
        Some(measure) => measures::phrase(measure.measure()),
        None => "mean lifetime",
    };
    let heading = match changed.len() {
        0 => format!("{names}: none changed"),
        all if all > layout.rows => {
            format!(
                "{names} by change of {phrase} ({} of {}{same})",
                layout.rows,
                counted_rows(all)
            )
        }
        all => format!("{names} by change of {phrase} ({}{same})", counted_rows(all)),
    };
    writeln!(out)?;
    write_heading(out, &heading, layout.columns, layout.style)?;
    if changed.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["bytes", "requests", "peak", "at end", "lifetime", name]);
    for row in changed.iter().take(layout.rows) {
        let change =
            |measure: Measure| signed(row.change(measure), |change| value(measure, change));
        let lifetime =
            row.lifetime_change_ns().map_or_else(|| "–".into(), |change| signed(change, duration));
        let cells = vec![
            change(Measure::Bytes),
            change(Measure::Requests),
            change(Measure::Peak),
            change(Measure::Live),
            lifetime,
        ];
        table.row(cells, grouped::label(&row.key), note(row));
    }
    table.write(out, layout.columns, layout.style, |name, columns| match diff.by {
        By::Site | By::Function => text::function(name, columns),
        By::File => from_the_back(name, columns),
        _ => from_the_front(name, columns),
    })
}

fn counted_rows(rows: usize) -> String {
    format!("{} changed", count(rows as u64))
}

/// Where a call site is, and what only one recording has.
fn note(row: &DiffRow) -> Option<String> {
    let requests = |side: &DiffFigures| counted(side.figures.requests(), "request");
    let only = match (&row.before, &row.after) {
        (None, Some(side)) => Some(format!("new: {}", requests(side))),
        (Some(side), None) => Some(format!("gone: {}", requests(side))),
        _ => None,
    };
    let place = match &row.key {
        GroupKey::Site(site) => place(site),
        _ => None,
    };
    match (place, only) {
        (Some(place), Some(only)) => Some(format!("{place}, {only}")),
        (place, only) => place.or(only),
    }
}

/// A change with its sign.
fn signed(change: i128, show: impl Fn(u64) -> String) -> String {
    let sign = match change {
        0 => return "=".into(),
        1.. => '+',
        _ => '−',
    };
    format!("{sign}{}", show(u64::try_from(change.unsigned_abs()).unwrap_or(u64::MAX)))
}

/// A change in percent of what was before.
fn relative(before: u128, after: u128) -> String {
    match (before, after) {
        (before, after) if before == after => String::new(),
        (0, _) => "new".into(),
        (before, after) => {
            let percent = (after as f64 - before as f64) * 100.0 / before as f64;
            if percent >= 999.95 {
                return format!("×{:.0}", after as f64 / before as f64);
            }
            let sign = if percent < 0.0 { '−' } else { '+' };
            format!("{sign}{:.1} %", percent.abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::bytes;

    #[test]
    fn changes_have_a_sign() {
        assert_eq!(signed(2_048, bytes), "+2.0 KiB");
        assert_eq!(signed(-5, count), "−5");
        assert_eq!(signed(0, count), "=");
        assert_eq!((relative(200, 100), relative(100, 150)), ("−50.0 %".into(), "+50.0 %".into()));
        assert_eq!((relative(2, 24), relative(0, 0)), ("×12".into(), String::new()));
        assert_eq!((relative(0, 1), relative(1, 1)), ("new".into(), String::new()));
    }
}
