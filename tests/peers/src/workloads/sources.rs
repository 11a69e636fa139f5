//! Rust sources to parse: those of the crates that this package is built from.

use std::fs;
use std::path::{Path, PathBuf};

/// Sources that are read, at most, in bytes.
const BYTES: usize = 3 << 20;

/// Texts of Rust sources that `syn` can parse: the same ones in every run of one machine.
///
/// # Panics
///
/// If cargo's registry has none, which cannot be where this package was built.
pub(super) fn rust() -> Vec<String> {
    let home = std::env::var_os("CARGO_HOME").map_or_else(
        || Path::new(&std::env::var_os("HOME").expect("a home")).join(".cargo"),
        PathBuf::from,
    );
    let mut files = Vec::new();
    // Crates with plain code, none with macros alone.
    for name in ["clap_builder-", "proc-macro2-", "serde_json-", "syn-2", "tokio-1"] {
        collect(&home.join("registry/src"), 0, name, &mut files);
    }
    files.sort();
    let mut bytes = 0;
    let texts: Vec<_> = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .filter(|text| syn::parse_file(text).is_ok())
        .take_while(|text| {
            bytes += text.len();
            bytes < BYTES
        })
        .collect();
    assert!(!texts.is_empty(), "no sources in cargo's registry");
    texts
}

/// Collects the Rust sources below a directory; two levels down, of one crate only.
fn collect(directory: &Path, level: u32, name: &str, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if level == 1 && !entry.file_name().to_string_lossy().starts_with(name) {
            continue;
        }
        if path.is_dir() {
            collect(&path, level + 1, name, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
