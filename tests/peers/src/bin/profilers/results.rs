//! What was measured, as it is kept in a file.

use std::collections::BTreeMap;

use peers::child::Cost;
use serde::{Deserialize, Serialize};

/// One run of a workload under a profiler.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Run {
    /// What everything together cost: the program, and what else the profiler ran until it had ended.
    pub(crate) cost: Cost,
    /// Largest resident set of the program itself, in bytes.
    pub(crate) peak_resident_bytes: u64,
    /// Size of what is left on disk.
    pub(crate) recording_bytes: u64,
}

/// A workload of a size.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Cell {
    /// Heap events, counted by a run of its own.
    pub(crate) events: u64,
    /// What the work comes to.
    pub(crate) checksum: u64,
    /// By profiler, round by round.
    pub(crate) runs: BTreeMap<String, Vec<Run>>,
}

impl Cell {
    /// How many rounds a profiler has.
    pub(crate) fn rounds(&self, profiler: &str) -> usize {
        self.runs.get(profiler).map_or(0, Vec::len)
    }
}

/// All of it, and where it was made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    /// The machine and what it ran.
    pub(crate) machine: String,
    /// What the profilers call their versions.
    pub(crate) versions: Vec<String>,
    /// By workload and size.
    pub(crate) cells: BTreeMap<String, Cell>,
}

/// The name of a cell.
pub(crate) fn cell_name(workload: &str, size: u64) -> String {
    format!("{workload} {size}")
}
