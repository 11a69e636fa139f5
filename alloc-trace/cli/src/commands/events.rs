//! `alloc-trace events`: every heap event, a line each.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use alloc_trace_analysis::{EventRow, Events, Recording, shorten};
use serde::Serialize;

use crate::args::EventsArguments;
use crate::error::CommandError;
use crate::output::Output;
use crate::table::{from_the_back, from_the_front};
use crate::units::duration;
use crate::warnings;

pub(crate) fn run(arguments: &EventsArguments) -> Result<ExitCode, CommandError> {
    let recording = Recording::open(&arguments.file)?;
    let mut output = Output::open(&arguments.reading.output)?;
    let options = arguments.reading.options();
    let mut events = Events::of(&recording, options)?;
    let mut notes = warnings::skipped(&events.skipped());
    notes.extend(warnings::lost(events.lost_records()));
    if !events.is_closed() {
        notes.push(warnings::unclosed().into());
    }
    warnings::print(&arguments.file, &notes);
    let problems = warnings::of_symbols(events.symbol_problems());

    let columns = output.columns;
    if !arguments.json {
        let heading = output.style.faint(heading()).to_string();
        output.write(|out| writeln!(out, "{heading}"))?;
    }
    let mut printed = 0;
    while arguments.limit.is_none_or(|limit| printed < limit) {
        let Some(event) = events.next_row()? else { break };
        printed += 1;
        output.write(|out| {
            if arguments.json { write_json(out, &event) } else { write_text(out, &event, columns) }
        })?;
    }
    output.finish()?;
    for problem in problems {
        eprintln!("alloc-trace: {problem}");
    }
    Ok(ExitCode::SUCCESS)
}

/// An event as a JSON object.
#[derive(Debug, Serialize)]
struct JsonEvent<'a> {
    seq: u64,
    time_ns: u64,
    thread: u32,
    thread_name: Option<&'a str>,
    kind: &'static str,
    failed: bool,
    addr: Hex,
    size: u64,
    align: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_addr: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_size: Option<u64>,
    span: Option<&'a str>,
    span_path: &'a [Arc<str>],
    span_fields: Option<&'a str>,
    site: &'a str,
    file: Option<&'a str>,
    line: Option<u32>,
}

/// An address, written `0x7f00`: JSON's numbers have no room for 64 bits in every reader.
#[derive(Debug, Clone, Copy)]
struct Hex(u64);

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}

fn write_json(out: &mut dyn Write, event: &EventRow<'_>) -> io::Result<()> {
    let object = JsonEvent {
        seq: event.seq,
        time_ns: event.time_ns,
        thread: event.thread,
        thread_name: event.thread_name,
        kind: event.kind.name(),
        failed: event.failed,
        addr: Hex(event.address),
        size: event.size,
        align: event.align,
        old_addr: event.old_address.map(Hex),
        old_size: event.old_size,
        span: event.span.map(|span| span.name),
        span_path: event.span.map_or(&[], |span| span.path),
        span_fields: event.span.map(|span| span.fields),
        site: &event.site.function,
        file: event.site.file.as_deref(),
        line: event.site.line,
    };
    serde_json::to_writer(&mut *out, &object)?;
    out.write_all(b"\n")
}

fn heading() -> String {
    format!(
        "{:>6} {:>7} {:>3} {:<12} {:<14} {:>7} {:>4} {}",
        "seq", "time", "thr", "kind", "addr", "size", "algn", "site [span]"
    )
}

fn write_text(out: &mut dyn Write, event: &EventRow<'_>, columns: usize) -> io::Result<()> {
    let kind = event.kind.name();
    let mut line = format!(
        "{:>6} {:>7} {:>3} {kind:<12} {:<#14x} {:>7} {:>4} ",
        event.seq,
        duration(event.time_ns),
        event.thread,
        event.address,
        event.size,
        event.align,
    );
    let room = columns.saturating_sub(line.chars().count());
    // The span gets what the call site's own name leaves, and at least a third.
    let span = event.span.map(|span| from_the_front(span.name, (room / 3).max(4)));
    let span = span.map_or_else(String::new, |span| format!(" [{span}]"));
    let room = room.saturating_sub(span.chars().count());
    line.push_str(&shorten(&event.site.function, room));
    line.push_str(&span);
    writeln!(out, "{}", from_the_back(line.trim_end(), line.chars().count().max(columns)))
}
