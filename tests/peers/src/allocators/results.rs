//! What was measured, as it is kept in a file.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::machine;
use crate::measured::Measured;

/// All runs of all workloads, and where they were made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Results {
    /// The machine and what it ran.
    pub machine: String,
    /// By workload and number of threads, by allocator: the runs, round by round.
    pub cells: BTreeMap<String, BTreeMap<String, Vec<Measured>>>,
}

impl Results {
    /// What a file holds.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is no file of results.
    pub fn load(file: &Path) -> Result<Self, Error> {
        let text =
            fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()).into())
    }

    /// What a file holds, or nothing, made on this machine, where there is no file yet.
    ///
    /// # Errors
    ///
    /// As for [`Self::load`].
    pub fn load_or_new(file: &Path) -> Result<Self, Error> {
        match fs::metadata(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Ok(Self { machine: machine::describe(), cells: BTreeMap::new() })
            }
            _ => Self::load(file),
        }
    }

    /// The runs of a cell under an allocator; none if it was not run.
    #[must_use]
    pub fn runs(&self, cell: &str, allocator: &str) -> &[Measured] {
        let runs = self.cells.get(cell).and_then(|cell| cell.get(allocator));
        runs.map_or(&[], Vec::as_slice)
    }
}

/// The name of a workload with a number of threads.
#[must_use]
pub fn cell_name(workload: &str, threads: usize) -> String {
    format!("{workload} | {threads}")
}
