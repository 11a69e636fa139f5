//! What `alloc-trace export` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ReadingArguments;
use crate::measures::MeasureName;
use crate::quantities::parse_count;

/// Write a recording in the format of another program
///
/// pprof, dhat, speedscope and collapsed have figures by backtrace; firefox and perfetto have them over
/// time; jsonl, csv and parquet have one row for each block, from its request to its release.
///
/// Where to open them: `go tool pprof -http=: FILE`; Valgrind's dh_view.html; profiler.firefox.com;
/// www.speedscope.app; ui.perfetto.dev; flamegraph.pl and inferno; DuckDB, pandas and Spark.
#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// The recording, finished or still being written
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// The format
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    pub(crate) format: ExportFormat,

    /// Write to standard output, as one JSON object, what was written to the file that --output names
    #[arg(long)]
    pub(crate) json: bool,

    /// What collapsed stacks are weighted by, and what pprof and speedscope show first; `peak` is each
    /// backtrace's share of the program's peak, `lifetime` the sum of all its blocks' lifetimes: in
    /// nanoseconds, in pprof's format in microseconds
    #[arg(long, value_enum, value_name = "MEASURE", default_value_t = MeasureName::Bytes)]
    pub(crate) measure: MeasureName,

    /// How many blocks the Firefox Profiler is handed at most: it keeps all of them in memory, and for
    /// more the export is refused
    #[arg(long, value_name = "N", value_parser = parse_count, default_value_t = 1_000_000)]
    pub(crate) max_blocks: u64,

    #[command(flatten)]
    pub(crate) reading: ReadingArguments,
}

/// What a recording can be written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// A gzipped profile for pprof and what reads its format
    Pprof,
    /// JSON for the viewer of Valgrind's DHAT
    Dhat,
    /// JSON for the Firefox Profiler, with allocation tracks
    Firefox,
    /// JSON for speedscope, one profile for each measure
    Speedscope,
    /// A trace for Perfetto: live bytes by thread and span, spans and markers
    Perfetto,
    /// Folded stacks, a line each, for flame graphs
    Collapsed,
    /// A JSON object for each block, a line each
    Jsonl,
    /// A line for each block, with a heading
    Csv,
    /// Parquet with a row for each block
    #[cfg(feature = "parquet")]
    Parquet,
}
