//! `alloc-trace timeline`: the recording over time, as a plot.

mod figures;
mod plot;
mod series;

use std::process::ExitCode;

use alloc_trace_analysis::{Intervals, Moment, Options, Resolution};

use self::series::Series;
use crate::args::{Plotted, TimelineArguments};
use crate::error::CommandError;
use crate::open;
use crate::progress::Progress;
use crate::warnings;

pub(crate) fn run(arguments: &TimelineArguments) -> Result<ExitCode, CommandError> {
    let reading = &arguments.reading;
    let options = options(arguments)?;
    let recording = open::recording(&arguments.file)?;
    let mut output = reading.open_output()?;
    let progress = Progress::reading(&recording);
    // No plot has anything that is called by its call site, unless that picks it.
    let names = reading.filters.asks_for_sites() && !reading.no_symbols;
    let resolution = Resolution::default().bins(arguments.bins);
    let intervals = Intervals::over_time(&recording, options.symbols(names), resolution)?;
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

/// How the recording is to be analysed. What was live at the peak is what a filter picks.
fn options(arguments: &TimelineArguments) -> Result<Options, CommandError> {
    let reading = &arguments.reading;
    if arguments.measure != Plotted::AtPeak || arguments.json {
        return Ok(reading.options());
    }
    if reading.filters.has_live_at() {
        return Err(CommandError::Usage(
            "timeline: --measure at-peak picks what was live at the peak, and --live-at what was at \
             another time: with --live-at give --measure bytes"
                .into(),
        ));
    }
    let filter = reading.filters.filter().live_at(Moment::Peak);
    Ok(reading.options().filter(filter))
}
