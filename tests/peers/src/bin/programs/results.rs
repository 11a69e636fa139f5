//! What was measured, as it is kept in a file.

use std::collections::BTreeMap;

use peers::child::Cost;
use serde::{Deserialize, Serialize};

/// One run of a program.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Run {
    /// What it cost.
    pub(crate) cost: Cost,
    /// A number for its answer.
    pub(crate) checksum: u64,
}

/// A program under a library.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Cell {
    /// Its runs, round by round.
    pub(crate) runs: Vec<Run>,
    /// Instructions in the allocator, when it was given little to do.
    pub(crate) instructions: Option<u64>,
    /// Why it could not be run.
    pub(crate) failed: Option<String>,
}

/// All of them, and where they were made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    /// The machine and what it ran.
    pub(crate) machine: String,
    /// By program, by library.
    pub(crate) programs: BTreeMap<String, BTreeMap<String, Cell>>,
}

impl Results {
    /// A program under a library; empty if there was none yet.
    pub(crate) fn cell(&mut self, program: &str, library: &str) -> &mut Cell {
        let program = self.programs.entry(program.to_owned()).or_default();
        program.entry(library.to_owned()).or_default()
    }
}
