//! `syn` on real sources: those of the crates that this package is built from.

use std::fs;

/// Parses the first files of a list, one at a time, and drops what came of each. The list is a file
/// named by `SOURCES`, a path a line.
pub(crate) fn run(files: u64) -> u64 {
    let list = std::env::var("SOURCES").unwrap_or_default();
    let list = fs::read_to_string(list).expect("a list of sources");
    let mut sum = 0u64;
    for file in list.lines().take(files as usize) {
        let text = fs::read_to_string(file).expect("a source");
        // What is no Rust of today, such as a template, is work too.
        sum += syn::parse_file(&text).map_or(1, |file| file.items.len() as u64);
    }
    sum
}
