//! What `alloc-trace html` takes.

use std::path::PathBuf;

use clap::Args;

use super::ReadingArguments;

/// Make one page of a recording, to look around in with a browser
///
/// The page has everything in it and asks no network for anything. It shows live bytes over time;
/// an interval that is picked there is what all tables, the flame graph and the histograms are of.
/// What they say is exact: intervals begin and end at the edges of bins of time. Of more than 10,000
/// call sites, functions, threads and so on the smallest are one row, and no page has more than 30 MB.
#[derive(Debug, Args)]
pub(crate) struct HtmlArguments {
    /// The recording, finished or still being written
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Write to standard output, as one JSON object, what was written to the file that --output names
    #[arg(long)]
    pub(crate) json: bool,

    /// Bins of time: how finely an interval can be picked. Fewer are made where call sites are so
    /// many that the page would be too large
    #[arg(long, value_name = "N", default_value_t = 1024)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub(crate) bins: u32,

    #[command(flatten)]
    pub(crate) reading: ReadingArguments,
}
