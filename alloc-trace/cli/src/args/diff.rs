//! What `alloc-trace diff` takes.

use std::path::PathBuf;

use clap::Args;

use super::{ByName, ReadingArguments, SortKey};
use crate::limits::parse_growth;

/// Compare two recordings: what changed, by function and by span
///
/// What belongs together is found by name, so functions that moved to other lines or files and other
/// builds of a program can be compared; functions without a name only in one build. A function's
/// call sites are found again by the order and the distance of their lines. The filters pick from
/// both recordings. Exit status 1 where --fail is exceeded, otherwise 0, whatever changed.
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

    /// What is compared [default: functions, and spans]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) by: Option<ByName>,

    /// What orders the rows, by how much it changed
    #[arg(long, visible_alias = "measure", value_enum, value_name = "MEASURE")]
    #[arg(default_value_t = SortKey::Bytes)]
    pub(crate) sort: SortKey,

    /// Exit with status 1 where the whole program's --sort grew by more than this, as in 5%
    #[arg(long, value_name = "PERCENT", value_parser = parse_growth)]
    pub(crate) fail: Option<f64>,

    /// How many rows to show [default: 10]
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<usize>,

    #[command(flatten)]
    pub(crate) reading: ReadingArguments,
}
