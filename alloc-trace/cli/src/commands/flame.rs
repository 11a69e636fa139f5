//! `alloc-trace flame`: the call tree as a flame graph.

use std::process::ExitCode;

use alloc_trace_analysis::{CallTreeWeights, Measure};
use inferno::flamegraph::color::{BasicPalette, Palette};
use inferno::flamegraph::{self, Direction, Options};

use crate::args::FlameArguments;
use crate::error::CommandError;
use crate::export::collapsed;
use crate::measures;
use crate::open;
use crate::printable::printable;
use crate::progress::Progress;
use crate::units::duration;
use crate::warnings;
use crate::written::{self, Extent};

pub(crate) fn run(arguments: &FlameArguments) -> Result<ExitCode, CommandError> {
    let reading = &arguments.reading;
    written::refuse_mixture("flame", arguments.json, reading)?;
    let recording = open::recording(&arguments.file)?;
    let mut output = reading.open_output()?;
    let progress = Progress::reading(&recording);
    let weights = CallTreeWeights::of(&recording, reading.options())?;
    let measure = measures::adding_up(arguments.measure.measure());
    let mut lines = Vec::new();
    // Nothing can fail on the way to memory.
    let unit = unit(&weights, measure);
    collapsed::write(&mut lines, &weights, measure, unit.0)
        .map_err(|source| CommandError::write(&reading.output, source))?;
    let lines = String::from_utf8_lossy(&lines);
    drop(progress);
    warnings::tell(&arguments.file, &weights.state);
    if lines.is_empty() {
        return Err(CommandError::Nothing(measures::phrase(measure)));
    }
    let mut shape = options_of(arguments, &weights, measure, unit.1);
    output.write(|out| {
        let mut svg = Vec::new();
        flamegraph::from_lines(&mut shape, lines.lines(), &mut svg)?;
        out.write_all(&with_its_root_named(svg))
    })?;
    let bytes = output.finish_counted()?;
    if arguments.json {
        let extent = Extent::from(&weights.total);
        written::say(reading, "svg", bytes, Some(measure), extent, &weights.state)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes on the bar of everything what its title says: it comes with a text that only a browser fills in.
fn with_its_root_named(mut svg: Vec<u8>) -> Vec<u8> {
    let find = |svg: &[u8], from: usize, what: &str| {
        let rest = svg.get(from..)?;
        rest.windows(what.len()).position(|some| some == what.as_bytes()).map(|at| from + at)
    };
    let end = find(&svg, 0, "<title>all (").and_then(|title| find(&svg, title, "</text>"));
    if let Some(end) = end.filter(|&end| svg.get(end - 1) == Some(&b'>')) {
        svg.splice(end..end, *b"all");
    }
    svg
}

/// In what the picture counts, and its name: how many of the measure's own unit it is. Sums of lifetimes can be
/// more than the 64 bits that it counts in.
fn unit(weights: &CallTreeWeights, measure: Measure) -> (u128, &'static str) {
    if u64::try_from(measure.of(&weights.total)).is_err() {
        return (1_000_000, "milliseconds");
    }
    (1, measures::unit(measure))
}

fn options_of(
    arguments: &FlameArguments,
    weights: &CallTreeWeights,
    measure: Measure,
    unit: &str,
) -> Options<'static> {
    let mut options = Options::default();
    let whole = measures::value(measure, measure.of(&weights.total));
    let phrase = measures::phrase(measure);
    options.title = format!("{whole} {phrase}");
    options.subtitle = Some(subtitle(arguments, weights));
    options.count_name = unit.to_owned();
    options.name_type = "Function:".to_owned();
    options.image_width = Some(arguments.width as usize);
    // One function has one colour, in every picture of every recording.
    options.colors = Palette::Basic(BasicPalette::Mem);
    options.hash = true;
    options.deterministic = true;
    options.font_type = "sans-serif".to_owned();
    if arguments.inverted {
        // As of `tree`: from the call sites outwards.
        options.reverse_stack_order = true;
        options.direction = Direction::Inverted;
    }
    options
}

fn subtitle(arguments: &FlameArguments, weights: &CallTreeWeights) -> String {
    let name = arguments.file.file_name().unwrap_or(arguments.file.as_os_str());
    let filtered =
        if arguments.reading.is_filtered() { ", only of what the filters pick" } else { "" };
    let unknown = warnings::unknown_part(&weights.state);
    let unknown = unknown.map_or_else(String::new, |unknown| format!("; {unknown}"));
    format!(
        "{}, {}{filtered}{unknown}",
        printable(&name.to_string_lossy()),
        duration(weights.state.duration_ns)
    )
}
