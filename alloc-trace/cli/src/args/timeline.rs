//! What `alloc-trace timeline` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ReadingArguments;

/// Plot the recording over time, as SVG, with its markers and spans
///
/// Live bytes by default, or what was asked for in each bin of time, as a rate. A bin's highest point
/// is shown, so no peak is lost, however short it was. The measures are those of the other commands; what
/// is of one instant, or of a block's whole life, is shown when it was requested.
#[derive(Debug, Args)]
pub(crate) struct TimelineArguments {
    /// The recording, finished or still being written
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Write one JSON object with all figures of every bin in place of a picture
    #[arg(long, conflicts_with_all = ["measure", "width"])]
    pub(crate) json: bool,

    /// What is plotted
    #[arg(long, value_enum, value_name = "MEASURE", default_value_t = Plotted::Live)]
    pub(crate) measure: Plotted,

    /// Bins of time
    #[arg(long, value_name = "N", default_value_t = 600)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub(crate) bins: u32,

    /// How wide the picture is, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 1200)]
    #[arg(value_parser = clap::value_parser!(u32).range(300..=20_000))]
    pub(crate) width: u32,

    #[command(flatten)]
    pub(crate) reading: ReadingArguments,
}

/// What can be plotted over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plotted {
    /// Live bytes, with their peak
    Live,
    /// Live blocks
    LiveBlocks,
    /// The most live bytes of each bin
    Peak,
    /// Bytes that were live at the program's peak, when they were requested, a second
    AtPeak,
    /// Allocated bytes a second: the churn
    Bytes,
    /// Freed bytes a second
    Freed,
    /// Requests for memory a second
    Requests,
    /// Temporary allocations a second
    Temporary,
    /// How long the blocks that were requested in each bin lived on average; those never freed, until the end
    Lifetime,
}
