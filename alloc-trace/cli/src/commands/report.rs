//! `alloc-trace report`: what a person reads first.

mod memory;

use std::cmp::Reverse;
use std::io::{self, Write};
use std::process::ExitCode;

use alloc_trace_analysis::{Figures, Measure, ProcessEnd, SiteFigures, Summary};

use crate::args::{ByName, ReportArguments, SortKey};
use crate::commands::grouped;
use crate::error::CommandError;
use crate::json;
use crate::measures::{self, MeasureName};
use crate::open;
use crate::progress::Progress;
use crate::style::Style;
use crate::table::{Table, from_the_front};
use crate::text::{self, short_path, wrap, write_fact, write_heading};
use crate::units::{bytes, count, counted, duration, share};
use crate::warnings;

/// How many rows a table has unless the user says otherwise.
const ROWS: usize = 10;

pub(crate) fn run(arguments: &ReportArguments) -> Result<ExitCode, CommandError> {
    // Lifetimes are known of groups only.
    let by_lifetime = arguments.sort == Some(SortKey::Lifetime);
    if let Some(by) = arguments.by.or(by_lifetime.then_some(ByName::Site)) {
        grouped::run(grouped::Request {
            file: &arguments.file,
            by,
            sort: arguments.sort,
            top: arguments.top,
            json: arguments.json,
            leaks: false,
            reading: &arguments.reading,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let measure = arguments.sort.and_then(SortKey::measure).unwrap_or(MeasureName::Bytes).measure();
    let recording = open::recording(&arguments.file)?;
    // Before the work, so that nobody waits for an output that cannot be written.
    let mut output = arguments.reading.open_output()?;
    // The text says nothing of them.
    let options = arguments.reading.options().lifetimes(arguments.json);
    let progress = Progress::reading(&recording);
    let mut summary = Summary::of(&recording, options)?;
    drop(progress);
    sort(&mut summary, measure);
    if arguments.json {
        if let Some(top) = arguments.top {
            summary.sites.truncate(top);
        }
        warnings::print(&arguments.file, &warnings::of_state(&summary.state()));
        output.write(|out| write_json(out, &summary))?;
    } else {
        let (columns, style) = (output.columns, output.style);
        let filtered = arguments.reading.is_filtered();
        let layout = Layout { columns, style, rows: arguments.top.unwrap_or(ROWS), filtered };
        output.write(|out| write_text(out, &summary, measure, layout))?;
    }
    output.finish()?;
    warnings::print_names(&summary.symbol_problems);
    Ok(ExitCode::SUCCESS)
}

/// Writes the summary as one JSON object.
pub(crate) fn write_json(out: &mut dyn Write, summary: &Summary) -> io::Result<()> {
    json::write_pretty(out, summary)?;
    writeln!(out)
}

/// How a report is laid out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) columns: usize,
    pub(crate) style: Style,
    /// How many rows a table has.
    pub(crate) rows: usize,
    /// Whether the figures are of a part only.
    pub(crate) filtered: bool,
}

/// Writes the summary for a person.
pub(crate) fn write_text(
    out: &mut dyn Write,
    summary: &Summary,
    measure: Measure,
    layout: Layout,
) -> io::Result<()> {
    write_head(out, summary, layout)?;
    write_totals(out, summary, layout)?;
    write_sites(out, summary, measure, layout)?;
    write_spans(out, summary, layout)?;
    write_threads(out, summary, layout)?;
    memory::write_heap(out, &summary.memory, layout)
}

fn write_head(out: &mut dyn Write, summary: &Summary, layout: Layout) -> io::Result<()> {
    if let Some(program) = &summary.program {
        let command = match program.arguments.as_slice() {
            [] => program.executable.clone(),
            arguments => arguments.join(" "),
        };
        let command = from_the_front(&command, layout.columns);
        writeln!(out, "{}", layout.style.heading(command))?;
        let end = match summary.exit_status {
            Some(ProcessEnd::Code(code)) => format!(", exited with code {code}"),
            Some(ProcessEnd::Signal(signal)) => format!(", killed by signal {signal}"),
            None => String::new(),
        };
        writeln!(out, "process {}{end}", program.pid)?;
    }
    let events = counted(summary.total.events, "heap event");
    let (time, threads) = (duration(summary.duration_ns), counted(summary.threads, "thread"));
    for line in wrap(&format!("{events} in {time}, {threads}"), layout.columns) {
        writeln!(out, "{line}")?;
    }
    if layout.filtered {
        writeln!(out, "only of what the filters pick")?;
    }
    for warning in warnings::of_state(&summary.state()) {
        for (index, line) in wrap(&warning, layout.columns.saturating_sub(9)).iter().enumerate() {
            let mark = if index == 0 { "WARNING:" } else { "" };
            writeln!(out, "{}", layout.style.warning(format!("{mark:8} {line}")))?;
        }
    }
    writeln!(out)
}

fn write_totals(out: &mut dyn Write, summary: &Summary, layout: Layout) -> io::Result<()> {
    let total = &summary.total;
    let mut line = |name: &str, text: String| write_fact(out, name, &text, layout.columns);
    let in_requests = counted(total.requests(), "request");
    line("allocated", format!("{} in {in_requests}", bytes(total.allocated_bytes)))?;
    line(
        "",
        format!(
            "{} alloc, {} alloc_zeroed, {} realloc",
            count(total.allocations),
            count(total.zeroed_allocations),
            count(total.reallocations)
        ),
    )?;
    line("freed", format!("{} by {}", bytes(total.freed_bytes), counted(total.frees, "free")))?;
    line("peak", format!("{} after {}", bytes(total.peak_bytes), duration(total.peak_at_ns)))?;
    let blocks = counted(total.live_blocks_at_end, "block");
    line("live at end", format!("{} in {blocks}", bytes(total.live_bytes_at_end)))?;
    if summary.runtime_blocks_at_end > 0 {
        let blocks = counted(summary.runtime_blocks_at_end, "block");
        let text =
            format!("{} in {blocks} of it Rust's runtime's", bytes(summary.runtime_bytes_at_end));
        line("", text)?;
    }
    line(
        "temporary",
        format!(
            "{} ({} of the requests)",
            counted(total.temporary_allocations, "allocation"),
            share(total.temporary_allocations, total.requests())
        ),
    )?;
    if let Some(resident) = memory::resident(&summary.memory) {
        line("resident", resident)?;
    }
    if total.failed_requests > 0 {
        line("failed", counted(total.failed_requests, "request"))?;
    }
    if summary.unmatched_frees > 0 {
        let frees = counted(summary.unmatched_frees, "free");
        let size = bytes(summary.unmatched_freed_bytes);
        line("unmatched", format!("{frees}, {size}, of blocks older than the recording"))?;
    }
    Ok(())
}

fn write_sites(
    out: &mut dyn Write,
    summary: &Summary,
    measure: Measure,
    layout: Layout,
) -> io::Result<()> {
    if summary.sites.iter().all(|site| site.figures.requests() == 0) {
        return Ok(());
    }
    let by = measures::phrase(measure);
    // What only frees has nothing of its own to show; --json has it, so that all adds up.
    let asking = || summary.sites.iter().filter(|site| site.figures.requests() > 0);
    let shown = shown(asking().count(), layout.rows);
    writeln!(out)?;
    let heading = format!("Call sites by {by}{shown}");
    write_heading(out, &heading, layout.columns, layout.style)?;
    let mut table = Table::new(&["allocated", "requests", "temp.", "peak", "at end", "call site"]);
    for SiteFigures { site, figures, .. } in asking().take(layout.rows) {
        let place = site.file.as_deref().map(|file| match site.line {
            Some(line) => format!("{}:{line}", short_path(file)),
            None => short_path(file),
        });
        table.row(columns_of(figures), site.function.to_string(), place);
    }
    table.write(out, layout.columns, layout.style, text::function)
}

fn write_spans(out: &mut dyn Write, summary: &Summary, layout: Layout) -> io::Result<()> {
    if summary.by_span.is_empty() {
        return Ok(());
    }
    let shown = shown(summary.by_span.len(), layout.rows);
    writeln!(out)?;
    let heading = format!("Spans, each without those in it{shown}");
    write_heading(out, &heading, layout.columns, layout.style)?;
    let mut table = Table::new(&["allocated", "requests", "temp.", "peak", "at end", "span"]);
    for span in summary.by_span.iter().take(layout.rows) {
        let name = match span.fields.as_deref() {
            None | Some("") => span.name.to_string(),
            Some(fields) => format!("{}{{{fields}}}", span.name),
        };
        table.row(columns_of(&span.figures), name, None);
    }
    table.write(out, layout.columns, layout.style, from_the_front)
}

fn write_threads(out: &mut dyn Write, summary: &Summary, layout: Layout) -> io::Result<()> {
    if summary.by_thread.len() < 2 {
        return Ok(());
    }
    let shown = shown(summary.by_thread.len(), layout.rows);
    writeln!(out, "\n{}", layout.style.heading(format!("Threads{shown}")))?;
    let mut table = Table::new(&["allocated", "requests", "temp.", "peak", "at end", "thread"]);
    for thread in summary.by_thread.iter().take(layout.rows) {
        let name = match &thread.name {
            Some(name) => format!("{} {name}", thread.thread),
            None => thread.thread.to_string(),
        };
        table.row(columns_of(&thread.figures), name, None);
    }
    table.write(out, layout.columns, layout.style, from_the_front)
}

fn columns_of(figures: &Figures) -> Vec<String> {
    vec![
        bytes(figures.allocated_bytes),
        count(figures.requests()),
        share(figures.temporary_allocations, figures.requests()),
        bytes(figures.peak_bytes),
        bytes(figures.live_bytes_at_end),
    ]
}

/// What a heading says where not all rows are shown.
fn shown(all: usize, rows: usize) -> String {
    if all > rows { format!(" ({rows} of {})", count(all as u64)) } else { String::new() }
}

/// Orders every list of the summary that has no order of its own; what is equal stays as it was.
fn sort(summary: &mut Summary, measure: Measure) {
    summary.sites.sort_by_key(|row| Reverse(measure.of(&row.figures)));
    summary.by_span.sort_by_key(|row| Reverse(measure.of(&row.figures)));
}
