//! What `alloc-trace flame` takes.

use std::path::PathBuf;

use clap::Args;

use super::ReadingArguments;
use crate::measures::MeasureName;

/// Draw the call tree as a flame graph, as SVG
///
/// Each function is as wide as what was asked for in it and in all that it called. In a browser a
/// click zooms in, and Ctrl-F searches; as an image it can be read too. What was live at an instant
/// is drawn with --live-at.
#[derive(Debug, Args)]
pub(crate) struct FlameArguments {
    /// The recording, finished or still being written
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Write to standard output, as one JSON object, what was written to the file that --output names
    #[arg(long)]
    pub(crate) json: bool,

    /// What the widths are; `peak` is each function's share of the program's peak, `lifetime` the sum of all
    /// its blocks' lifetimes
    #[arg(long, value_enum, value_name = "MEASURE", default_value_t = MeasureName::Bytes)]
    pub(crate) measure: MeasureName,

    /// From the call sites outwards, downwards, in place of from `main` inwards
    #[arg(long)]
    pub(crate) inverted: bool,

    /// How wide the picture is, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 1200)]
    #[arg(value_parser = clap::value_parser!(u32).range(200..=20_000))]
    pub(crate) width: u32,

    #[command(flatten)]
    pub(crate) reading: ReadingArguments,
}
