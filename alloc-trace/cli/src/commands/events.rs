//! `alloc-trace events`: every heap event, a line each.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use alloc_trace_analysis::{EventRow, Events};
use serde::Serialize;

use crate::args::EventsArguments;
use crate::error::CommandError;
use crate::json;
use crate::open;
use crate::table::from_the_front;
use crate::text;
use crate::units::duration;
use crate::warnings;

pub(crate) fn run(arguments: &EventsArguments) -> Result<ExitCode, CommandError> {
    let recording = open::recording(&arguments.file)?;
    let mut output = arguments.reading.open_output()?;
    let options = arguments.reading.options();
    let mut events = Events::of(&recording, options)?;
    let state = events.state();
    warnings::print(&arguments.file, &warnings::of_state(&state));
    let columns = output.columns;
    if !arguments.json {
        let style = output.style;
        let heading = heading(columns);
        output.write(|out| {
            heading.iter().try_for_each(|line| writeln!(out, "{}", style.faint(line)))
        })?;
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
    // Damage that only the events have is found on the way.
    let found = events.state().skipped;
    let new: Vec<_> = found.into_iter().filter(|part| !state.skipped.contains(part)).collect();
    warnings::print(&arguments.file, &warnings::skipped(&new));
    warnings::print_names(&state.symbol_problems);
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
    json::write(out, &object)?;
    out.write_all(b"\n")
}

/// An event's figures, up to its call site.
struct Figures([String; 7]);

impl Figures {
    fn of(event: &EventRow<'_>) -> Self {
        Self([
            format!("{:>6}", event.seq),
            format!("{:>7}", duration(event.time_ns)),
            format!("{:>3}", event.thread),
            format!("{:<12}", event.kind.name()),
            format!("{:<#14x}", event.address),
            format!("{:>7}", event.size),
            format!("{:>4}", event.align),
        ])
    }

    fn heading() -> Self {
        Self([
            format!("{:>6}", "seq"),
            format!("{:>7}", "time"),
            format!("{:>3}", "thr"),
            format!("{:<12}", "kind"),
            format!("{:<14}", "addr"),
            format!("{:>7}", "size"),
            format!("{:>4}", "algn"),
        ])
    }

    /// On one line, or, where that leaves no room for a call site, on two.
    fn lines(&self, columns: usize) -> Vec<String> {
        let Self(cells) = self;
        if columns >= WIDTH + NARROWEST_SITE {
            return vec![cells.join(" ") + " "];
        }
        let (first, second) = cells.split_at(4);
        vec![first.join(" "), format!("{SET_IN}{}", second.join(" "))]
    }
}

/// What figures take on one line.
const WIDTH: usize = 6 + 1 + 7 + 1 + 3 + 1 + 12 + 1 + 14 + 1 + 7 + 1 + 4 + 1;
/// No call site is cut to less.
const NARROWEST_SITE: usize = 16;
/// Before what goes on with an event on another line.
const SET_IN: &str = "       ";

fn heading(columns: usize) -> Vec<String> {
    let mut lines = Figures::heading().lines(columns);
    match lines.as_mut_slice() {
        [line] => line.push_str("site [span]"),
        _ => lines.push(format!("{SET_IN}site [span]")),
    }
    lines
}

fn write_text(out: &mut dyn Write, event: &EventRow<'_>, columns: usize) -> io::Result<()> {
    let mut lines = Figures::of(event).lines(columns);
    let mut line = match lines.as_slice() {
        [_] => lines.pop().unwrap_or_default(),
        _ => SET_IN.to_owned(),
    };
    let room = columns.saturating_sub(line.chars().count());
    // The span gets what the call site's own name leaves, and at least a third.
    let span = event.span.map(|span| from_the_front(span.name, (room / 3).max(4)));
    let span = span.map_or_else(String::new, |span| format!(" [{span}]"));
    let room = room.saturating_sub(span.chars().count());
    line.push_str(&text::function(&event.site.function, room));
    line.push_str(&span);
    lines.push(line);
    lines.iter().try_for_each(|line| writeln!(out, "{}", line.trim_end()))
}
