//! `alloc-trace timeline`: the recording over time, as a plot.

mod figures;
mod plot;
mod series;

use std::process::ExitCode;

use alloc_trace_analysis::{Intervals, Resolution};

use self::series::Series;
use crate::args::TimelineArguments;
use crate::error::CommandError;
use crate::open;
use crate::progress::Progress;
use crate::warnings;

pub(crate) fn run(arguments: &TimelineArguments) -> Result<ExitCode, CommandError> {
    let recording = open::recording(&arguments.file)?;
    let reading = &arguments.reading;
    let mut output = reading.open_output()?;
    let progress = Progress::reading(&recording);
    // No plot has anything that is called by its call site, unless that picks it.
    let names = reading.filters.asks_for_sites() && !reading.no_symbols;
    let resolution = Resolution::default().bins(arguments.bins);
    let intervals = Intervals::of(&recording, reading.options().symbols(names), resolution)?;
    drop(progress);
    if arguments.json {
        output.write(|out| figures::write(out, &intervals))?;
        output.finish()?;
        warnings::tell(&arguments.file, &intervals.state);
        return Ok(ExitCode::SUCCESS);
    }
    let series = Series::of(&intervals, arguments.measure);
    let file = arguments.file.file_name().unwrap_or(arguments.file.as_os_str());
    let filtered = if reading.is_filtered() { ", only of what the filters pick" } else { "" };
    let unknown = warnings::unknown_part(&intervals.state);
    let unknown = unknown.map_or_else(String::new, |unknown| format!("; {unknown}"));
    let title = format!("{}: {}{filtered}{unknown}", file.display(), series.title);
    let drawn = plot::draw(&intervals, &series, &title, arguments.width);
    output.write(|out| out.write_all(drawn?.as_bytes()))?;
    output.finish()?;
    warnings::tell(&arguments.file, &intervals.state);
    Ok(ExitCode::SUCCESS)
}
