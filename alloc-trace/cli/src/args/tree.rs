//! What `alloc-trace tree` takes.

use std::path::PathBuf;

use clap::Args;

use super::ReadingArguments;
use crate::limits::parse_share;
use crate::measures::MeasureName;

/// Show the call tree: which functions lead to the allocations, and how much each way costs
///
/// A line has what was asked for in a function and in all that it called, its share of the whole, and
/// what it asked for itself. Calls from different lines of one function are one. A function that is
/// the only way on stands right below its caller: only where ways part are they indented.
#[derive(Debug, Args)]
pub(crate) struct TreeArguments {
    /// The recording, finished or still being written
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Write one JSON object, with all nodes unless --min-share is given
    #[arg(long)]
    pub(crate) json: bool,

    /// What the tree is made of; `peak` is each node's share of the program's peak, `lifetime` the sum of all
    /// its blocks' lifetimes, beside which their mean stands
    #[arg(long, visible_alias = "sort", value_enum, value_name = "MEASURE")]
    #[arg(default_value_t = MeasureName::Bytes)]
    pub(crate) measure: MeasureName,

    /// From the call sites outwards, in place of from `main` inwards
    #[arg(long)]
    pub(crate) inverted: bool,

    /// Leave out what has less than this part of the whole [default: 1%]
    #[arg(long, value_name = "PERCENT", value_parser = parse_share)]
    pub(crate) min_share: Option<f64>,

    /// How many levels to show [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) depth: Option<u32>,

    #[command(flatten)]
    pub(crate) reading: ReadingArguments,
}
