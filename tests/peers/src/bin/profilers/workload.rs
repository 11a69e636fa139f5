//! What is profiled.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A workload of `traced`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    /// Its name there, and what tables call it.
    pub(crate) name: &'static str,
    /// Its size there; profilers that are slow get a tenth of it.
    pub(crate) size: u64,
    /// What it is, for the table.
    pub(crate) about: &'static str,
    /// What recording with backtraces may add to an event, in nanoseconds.
    pub(crate) limit_ns: Option<f64>,
}

/// All of them.
pub(crate) const ALL: [Workload; 5] = [
    Workload {
        name: "churn",
        size: 10_000_000,
        about: "one thread, 8 to 256 B, depth 10 to 20, about 14,400 paths, another after 8 events",
        limit_ns: Some(45.0),
    },
    Workload {
        name: "steady churn",
        size: 10_000_000,
        about: "the same, another path after 64 events",
        limit_ns: Some(45.0),
    },
    Workload {
        name: "syn parse",
        size: 1_000,
        about: "syn on 1,000 real files",
        limit_ns: Some(60.0),
    },
    Workload {
        name: "two threads",
        size: 10_000_000,
        about: "each frees what the other allocates, 8 to 256 B, in batches of 256",
        limit_ns: Some(50.0),
    },
    Workload {
        name: "one thread",
        size: 10_000_000,
        about: "the same on one thread, which frees its own",
        limit_ns: None,
    },
];

/// Writes the list of sources for the parser: the first thousand of the packages that this one is built
/// from, in the order of their names.
pub(crate) fn write_sources(list: &Path) -> io::Result<()> {
    let mut files = BTreeSet::new();
    for root in peers::packages::roots()?.into_values() {
        if root.components().any(|part| part.as_os_str() == "registry") {
            collect(&root, &mut files)?;
        }
    }
    let text: String =
        files.iter().take(1_000).map(|file| format!("{}\n", file.display())).collect();
    fs::write(list, text)
}

fn collect(folder: &Path, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.insert(path);
        }
    }
    Ok(())
}
