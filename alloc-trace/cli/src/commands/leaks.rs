//! `alloc-trace leaks`: what was never freed, by call site.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::process::ExitCode;

use alloc_trace_analysis::{LeakSite, Leaks};

use crate::args::{ByName, LeakKey, LeaksArguments};
use crate::commands::grouped;
use crate::error::CommandError;
use crate::json;
use crate::never_freed;
use crate::open;
use crate::progress::Progress;
use crate::style::Style;
use crate::table::Table;
use crate::text::{self, short_path, write_heading};
use crate::units::{bytes, count, counted, duration};
use crate::warnings;

/// How many call sites are shown unless the user says otherwise.
const ROWS: usize = 10;
/// How many threads and spans of a call site are named.
const NAMES: usize = 3;

pub(crate) fn run(arguments: &LeaksArguments) -> Result<ExitCode, CommandError> {
    if let Some(by) = arguments.by {
        let Some(sort) = arguments.sort.of_groups() else {
            let why = "leaks: of groups the size and the age of blocks are not known: give another \
                       --sort, or no --by";
            return Err(CommandError::Usage(why.into()));
        };
        grouped::run(grouped::Request {
            file: &arguments.file,
            by,
            sort: Some(sort).filter(|_| arguments.sort != LeakKey::Bytes || !is_ordered(by)),
            top: arguments.top,
            json: arguments.json,
            leaks: true,
            reading: &arguments.reading,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let recording = open::recording(&arguments.file)?;
    let mut output = arguments.reading.open_output()?;
    let options = arguments.reading.options();
    let progress = Progress::reading(&recording);
    let mut leaks = Leaks::of(&recording, options)?;
    drop(progress);
    warnings::print(&arguments.file, &warnings::of_state(&leaks.state));
    leaks.sites.sort_by_key(|site| Reverse(arguments.sort.of_site(site)));
    if arguments.json {
        leaks.sites.truncate(arguments.top.unwrap_or(usize::MAX));
        output.write(|out| {
            json::write_pretty(out, &leaks)?;
            writeln!(out)
        })?;
    } else {
        let (columns, style) = (output.columns, output.style);
        let rows = arguments.top.unwrap_or(ROWS);
        output.write(|out| write_text(out, &leaks, rows, columns, style))?;
    }
    output.finish()?;
    warnings::print_names(&leaks.state.symbol_problems);
    Ok(ExitCode::SUCCESS)
}

/// Whether groups have an order of their own, which they keep unless another is asked for.
const fn is_ordered(by: ByName) -> bool {
    matches!(by, ByName::Size | ByName::Lifetime)
}

fn write_text(
    out: &mut dyn Write,
    leaks: &Leaks,
    rows: usize,
    columns: usize,
    style: Style,
) -> io::Result<()> {
    let runtime = never_freed::of_runtime(leaks.runtime_blocks, leaks.runtime_bytes, columns);
    if leaks.blocks == 0 {
        writeln!(out, "{}", never_freed::NOTHING)?;
        return runtime.iter().try_for_each(|line| writeln!(out, "{line}"));
    }
    let shown = match leaks.sites.len() {
        all if all > rows => format!(", {rows} of {} call sites", count(all as u64)),
        all => format!(", {}", counted(all as u64, "call site")),
    };
    let blocks = counted(leaks.blocks, "block");
    let heading = format!("Never freed: {} in {blocks}{shown}", bytes(leaks.bytes));
    write_heading(out, &heading, columns, style)?;
    let mut table = Table::new(&["at end", "blocks", "of", "size", "oldest", "call site"]);
    for site in leaks.sites.iter().take(rows) {
        let size = if site.min_size == site.max_size {
            bytes(site.max_size)
        } else {
            format!("≤ {}", bytes(site.max_size))
        };
        let figures = vec![
            bytes(site.bytes),
            count(site.blocks),
            count(site.obtained_blocks),
            size,
            duration(site.oldest_age_ns),
        ];
        table.row(figures, site.site.function.to_string(), details(site));
    }
    table.write(out, columns, style, text::function)?;
    runtime.iter().try_for_each(|line| writeln!(out, "\n{line}"))
}

/// Where the call site is, and by which threads and in which spans the blocks were obtained.
fn details(site: &LeakSite) -> Vec<String> {
    let place = site.site.file.as_deref().map(|file| match site.site.line {
        Some(line) => format!("{}:{line}", short_path(file)),
        None => short_path(file),
    });
    let threads = site.threads.iter().map(|thread| match &thread.name {
        Some(name) => name.clone(),
        None => thread.thread.to_string(),
    });
    let spans = site.spans.iter().map(|span| span.name.to_string());
    let lists = [("thread", threads.collect()), ("span", spans.collect())];
    place
        .into_iter()
        .chain(lists.into_iter().filter_map(|(what, names)| list(what, names)))
        .collect()
}

/// `thread main`, or `threads a, b, c and 2 more`.
fn list(what: &str, names: Vec<String>) -> Option<String> {
    let plural = if names.len() > 1 { "s" } else { "" };
    let more = match names.len().saturating_sub(NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown: Vec<String> = names.into_iter().take(NAMES).collect();
    (!shown.is_empty()).then(|| format!("{what}{plural} {}{more}", shown.join(", ")))
}
