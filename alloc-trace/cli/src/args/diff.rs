//! What `alloc-trace diff` takes.

use std::path::PathBuf;

use clap::Args;

use super::{ByName, ReadingArguments};
use crate::measures::MeasureName;

/// Compare two recordings: what changed, by function and by span
///
/// What belongs together is found by name: functions that moved to other lines or files, and other
/// builds of the same program, compare as they are. Exit status 1 where --fail is given and something
/// grew; otherwise 0, whatever changed.
#[derive(Debug, Args)]
pub(crate) struct DiffArguments {
    /// The recording to compare with
    #[arg(value_name = "BEFORE")]
    pub(crate) before: PathBuf,

    /// The recording that is compared
    #[arg(value_name = "AFTER")]
    pub(crate) after: PathBuf,

    /// Write one JSON object, with everything, unless --top is given
    #[arg(long)]
    pub(crate) json: bool,

    /// What is compared [default: functions, and spans where there are any]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) by: Option<ByName>,

    /// What orders the rows, by how much it changed
    #[arg(long, value_enum, value_name = "MEASURE", default_value_t = MeasureName::Bytes)]
    #[arg(visible_alias = "measure")]
    pub(crate) sort: MeasureName,

    /// Exit with status 1 where the measure of the whole program grew by more than this, as in 5%
    #[arg(long, value_name = "PERCENT", value_parser = crate::limits::parse_growth)]
    pub(crate) fail: Option<f64>,

    /// How many rows to show [default: 10]
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<usize>,

    #[command(flatten)]
    pub(crate) reading: ReadingArguments,
}
