//! `--by`: the figures of a recording in groups, for `report` and for `leaks`.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::path::Path;

use alloc_trace_analysis::{By, Group, GroupKey, Grouped};

use crate::args::{ByName, ReadingArguments, SortKey};
use crate::error::CommandError;
use crate::json;
use crate::measures;
use crate::never_freed;
use crate::open;
use crate::progress::Progress;
use crate::style::Style;
use crate::table::{Table, from_the_back, from_the_front};
use crate::text::{self, short_path, wrap, write_heading};
use crate::units::{bytes, count, counted, duration, share};
use crate::warnings;

/// How many rows a table has unless the user says otherwise.
const ROWS: usize = 10;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) file: &'a Path,
    pub(crate) by: ByName,
    pub(crate) sort: Option<SortKey>,
    pub(crate) top: Option<usize>,
    pub(crate) json: bool,
    /// Only what was never freed.
    pub(crate) leaks: bool,
    pub(crate) reading: &'a ReadingArguments,
}

pub(crate) fn run(request: Request<'_>) -> Result<(), CommandError> {
    let recording = open::recording(request.file)?;
    let mut output = request.reading.open_output()?;
    let by = request.by.by();
    // Only call sites have names; and only names tell what the runtime keeps from what the program leaks.
    let of_sites = matches!(by, By::Site | By::Function | By::File | By::Crate);
    let named = of_sites || request.leaks || request.reading.filters.asks_for_sites();
    let options = request.reading.options();
    let options = if named { options } else { options.symbols(false) };
    let progress = Progress::reading(&recording);
    let mut grouped = Grouped::of(&recording, options, by)?;
    drop(progress);
    let runtime = of_runtime(&grouped, output.columns).filter(|_| request.leaks);
    warnings::print(request.file, &warnings::of_state(&grouped.state));
    if request.leaks {
        grouped.groups.retain(|group| leaked(group).0 > 0);
    }
    // Sizes and lifetimes have an order of their own.
    let natural = matches!(by, By::Size | By::Lifetime);
    let default = if request.leaks { SortKey::Live } else { SortKey::Bytes };
    let sort = request.sort.or((!natural).then_some(default));
    if let Some(sort) = sort {
        grouped.groups.sort_by_key(|group| {
            Reverse(match sort {
                SortKey::Live if request.leaks => leaked(group).1.into(),
                SortKey::LiveBlocks if request.leaks => leaked(group).0.into(),
                _ => sort.of_group(group),
            })
        });
    }
    if request.json {
        grouped.groups.truncate(request.top.unwrap_or(usize::MAX));
        output.write(|out| {
            json::write_pretty(out, &grouped)?;
            writeln!(out)
        })?;
    } else {
        // What only frees has nothing of its own to show.
        grouped.groups.retain(|group| group.figures.requests() > 0);
        // All sizes and lifetimes are few.
        let rows = request.top.unwrap_or(if natural { usize::MAX } else { ROWS });
        let (columns, style) = (output.columns, output.style);
        let layout = Layout { rows, sort, leaks: request.leaks, columns, style };
        output.write(|out| {
            write_text(out, &grouped, layout)?;
            let gap = if grouped.groups.is_empty() { "" } else { "\n" };
            runtime.iter().try_for_each(|line| writeln!(out, "{gap}{line}"))
        })?;
    }
    output.finish()?;
    warnings::print_names(&grouped.state.symbol_problems);
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Layout {
    rows: usize,
    sort: Option<SortKey>,
    leaks: bool,
    columns: usize,
    style: Style,
}

fn write_text(out: &mut dyn Write, grouped: &Grouped, layout: Layout) -> io::Result<()> {
    if layout.leaks && grouped.groups.is_empty() {
        return writeln!(out, "{}", never_freed::NOTHING);
    }
    let total = &grouped.total;
    let line = if layout.leaks {
        let sum = grouped.groups.iter().map(leaked).fold((0, 0), add);
        format!("Never freed: {} in {}", bytes(sum.1), counted(sum.0, "block"))
    } else {
        let requests = counted(total.requests(), "request");
        let allocated = bytes(total.allocated_bytes);
        format!("Allocated: {allocated} in {requests}, peak {}", bytes(total.peak_bytes))
    };
    wrap(&line, layout.columns).iter().try_for_each(|line| writeln!(out, "{line}"))?;
    let (names, name) = names(grouped.by);
    let ordered = match layout.sort {
        None => String::new(),
        Some(SortKey::Lifetime) => " by mean lifetime".into(),
        Some(sort) => match sort.measure() {
            None => String::new(),
            Some(measure) => format!(" by {}", measures::phrase(measure.measure())),
        },
    };
    let shown = match grouped.groups.len() {
        all if all > layout.rows => format!(" ({} of {})", layout.rows, count(all as u64)),
        _ => String::new(),
    };
    writeln!(out)?;
    let heading = format!("{names}{ordered}{shown}");
    write_heading(out, &heading, layout.columns, layout.style)?;
    let temporary = layout.sort == Some(SortKey::Temporary);
    let fourth = if temporary { "temp." } else { "lifetime" };
    let mut table = if layout.leaks {
        Table::new(&["at end", "blocks", "of", name])
    } else {
        Table::new(&["allocated", "requests", fourth, "peak", "at end", name])
    };
    for group in grouped.groups.iter().take(layout.rows) {
        let figures = &group.figures;
        let cells = if layout.leaks {
            let (blocks, of_bytes) = leaked(group);
            vec![bytes(of_bytes), count(blocks), count(figures.requests())]
        } else {
            vec![
                bytes(figures.allocated_bytes),
                count(figures.requests()),
                if temporary {
                    share(figures.temporary_allocations, figures.requests())
                } else {
                    mean_lifetime(group)
                },
                bytes(figures.peak_bytes),
                bytes(figures.live_bytes_at_end),
            ]
        };
        table.row(cells, label(&group.key), place(&group.key));
    }
    table.write(out, layout.columns, layout.style, |name, columns| match grouped.by {
        By::Site | By::Function => text::function(name, columns),
        By::File => from_the_back(name, columns),
        _ => from_the_front(name, columns),
    })
}

/// The blocks of a group that were never freed, and their bytes, without those that the runtime keeps.
const fn leaked(group: &Group) -> (u64, u64) {
    let figures = &group.figures;
    (
        figures.live_blocks_at_end.saturating_sub(group.runtime_blocks_at_end),
        figures.live_bytes_at_end.saturating_sub(group.runtime_bytes_at_end),
    )
}

/// Blocks and bytes, added up.
const fn add(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    (one.0.saturating_add(other.0), one.1.saturating_add(other.1))
}

/// What the runtime keeps in all groups, where it keeps anything.
fn of_runtime(grouped: &Grouped, columns: usize) -> Option<String> {
    let of_group = |group: &Group| (group.runtime_blocks_at_end, group.runtime_bytes_at_end);
    let (blocks, of_bytes) = grouped.groups.iter().map(of_group).fold((0, 0), add);
    never_freed::of_runtime(blocks, of_bytes, columns)
}

fn mean_lifetime(group: &Group) -> String {
    match group.lifetimes.released_blocks {
        0 => "–".into(),
        _ => duration(group.lifetimes.mean_ns),
    }
}

/// What groups are called: all of them, and one.
pub(crate) const fn names(by: By) -> (&'static str, &'static str) {
    match by {
        By::Site => ("Call sites", "call site"),
        By::Function => ("Functions", "function"),
        By::File => ("Files", "file"),
        By::Crate => ("Crates", "crate"),
        By::Thread => ("Threads", "thread"),
        By::Span => ("Spans", "span"),
        By::Size => ("Sizes", "size"),
        By::Lifetime => ("Lifetimes", "lifetime"),
        _ => ("Groups", "group"),
    }
}

/// A group as a person reads it.
pub(crate) fn label(key: &GroupKey) -> String {
    match key {
        GroupKey::Site(site) => site.function.to_string(),
        GroupKey::Function { function } => function.to_string(),
        GroupKey::File { file } => {
            file.as_deref().map_or_else(|| "[no file known]".into(), short_path)
        }
        GroupKey::Crate { name } => name.as_deref().unwrap_or("[no crate known]").to_owned(),
        GroupKey::Thread { thread, name } => match name {
            Some(name) => format!("{thread} {name}"),
            None => thread.to_string(),
        },
        GroupKey::Span { span: None, .. } => "[outside of spans]".into(),
        GroupKey::Span { span: Some(span), fields, .. } => match fields.as_deref() {
            None | Some("") => span.to_string(),
            Some(fields) => format!("{span}{{{fields}}}"),
        },
        GroupKey::Size { min_size, max_size } if min_size == max_size => bytes(*min_size),
        GroupKey::Size { max_size, .. } => format!("< {}", bytes(max_size.saturating_add(1))),
        GroupKey::Lifetime { max_lifetime_ns: Some(max), .. } => {
            format!("< {}", duration(max.saturating_add(1)))
        }
        GroupKey::Lifetime { known_block: true, .. } => "never freed".into(),
        GroupKey::Lifetime { .. } => "[no block known]".into(),
        _ => "[of another kind]".into(),
    }
}

/// Where a call site is.
fn place(key: &GroupKey) -> Option<String> {
    let GroupKey::Site(site) = key else { return None };
    let file = short_path(site.file.as_deref()?);
    Some(site.line.map_or_else(|| file.clone(), |line| format!("{file}:{line}")))
}
