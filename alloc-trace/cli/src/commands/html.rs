//! `alloc-trace html`: a recording as one page, to look around in with a browser.

mod data;
mod encode;

use std::io::{self, Write};
use std::process::ExitCode;

use alloc_trace_analysis::{Intervals, Resolution, Thresholds};
use base64::prelude::{BASE64_STANDARD, Engine};

use crate::args::HtmlArguments;
use crate::error::CommandError;
use crate::open;
use crate::printable::printable;
use crate::progress::Progress;
use crate::warnings;
use crate::written::{self, Extent};

/// The page around its figures.
const PAGE: &str = include_str!("html/page.html");
const STYLE: &str = include_str!("html/page.css");

/// The page's script: a function around these, in this order.
const SCRIPTS: [&str; 9] = [
    include_str!("html/units.js"),
    include_str!("html/data.js"),
    include_str!("html/figures.js"),
    include_str!("html/timeline.js"),
    include_str!("html/table.js"),
    include_str!("html/flame.js"),
    include_str!("html/histogram.js"),
    include_str!("html/advice.js"),
    include_str!("html/page.js"),
];

/// How many cells the page's call tree may have: what a browser unpacks in a blink.
const NODE_CELLS: usize = 300_000;

/// How many cells there may be in all.
const CELLS: usize = 1 << 20;

/// How many call sites, functions and so on have rows of their own.
const ROWS: usize = 10_000;

/// No page has more bytes, whatever the recording.
const MOST_BYTES: usize = 30_000_000;

/// As many as a page has around its figures, at most.
const PAGE_BYTES: usize = 200_000;

pub(crate) fn run(arguments: &HtmlArguments) -> Result<ExitCode, CommandError> {
    let reading = &arguments.reading;
    written::refuse_mixture("html", arguments.json, reading)?;
    let recording = open::recording(&arguments.file)?;
    let mut output = reading.open_output()?;
    let mut progress = Progress::reading(&recording);
    let bins = Resolution::default().bins(arguments.bins);
    let mut detail = 1;
    let resolution = |detail| bins.rows(ROWS / detail).cells(CELLS / detail);
    let thresholds = Thresholds::default();
    let options = reading.options();
    let (mut intervals, advice) =
        Intervals::with_advice(&recording, options.clone(), resolution(detail), thresholds)?;
    let packed = loop {
        progress.now("writing the page");
        intervals.fold_nodes(NODE_CELLS / detail);
        let packed = data::pack(&arguments.file, reading.is_filtered(), &intervals, &advice);
        if packed.len() / 3 * 4 + PAGE_BYTES <= MOST_BYTES || detail > ROWS {
            break packed;
        }
        // Names are long, or figures in no order: a quarter of the rows may do.
        detail *= 4;
        intervals = Intervals::of(&recording, options.clone(), resolution(detail))?;
    };
    output.write(|out| write_page(out, &title(&intervals), &packed))?;
    let bytes = output.finish_counted()?;
    drop(progress);
    warnings::tell(&arguments.file, &intervals.state);
    if arguments.json {
        let extent = Extent::from(&intervals);
        written::say(reading, "html", bytes, None, extent, &intervals.state)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn title(intervals: &Intervals) -> String {
    let program = intervals.program.as_ref();
    let name = program.and_then(|program| program.executable.rsplit('/').next());
    name.unwrap_or("recording").to_owned()
}

/// Writes the page: what stands between `{{` and `}}` in it is put in.
fn write_page(out: &mut dyn Write, title: &str, packed: &[u8]) -> io::Result<()> {
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { break };
        out.write_all(before.as_bytes())?;
        match name {
            "title" => out.write_all(escaped(title).as_bytes())?,
            "style" => out.write_all(STYLE.as_bytes())?,
            "script" => {
                for script in SCRIPTS {
                    out.write_all(script.as_bytes())?;
                }
            }
            // Nothing in it means anything to a browser: it needs no escape.
            "data" => out.write_all(BASE64_STANDARD.encode(packed).as_bytes())?,
            _ => {}
        }
        rest = after;
    }
    out.write_all(rest.as_bytes())
}

/// A text as it stands in a page.
fn escaped(text: &str) -> String {
    printable(text).chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
        out
    })
}
