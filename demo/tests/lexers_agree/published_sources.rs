//! Sources that somebody has published, as they lie on this machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use demo::source_files::SourceFiles;

/// Names more directories, separated by colons.
const SOURCES: &str = "LEXERS_AGREE_SOURCES";

/// Where published sources are: this repository, the packages that its lock file names as the
/// registry unpacked them, the toolchain's library if it is installed, and what the environment
/// adds.
fn directories_of_published_sources() -> Vec<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut directories = vec![repository.to_owned()];

    let home = || env::home_dir().expect("a home directory").join(".cargo");
    let cargo_home = env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from);
    let lock = fs::read_to_string(repository.join("Cargo.lock")).unwrap();
    let values = |key: &'static str| lock.lines().filter_map(move |line| line.strip_prefix(key));
    let packages: Vec<String> = values("name = ")
        .zip(values("version = ").skip(1))
        .map(|(name, version)| format!("{}-{}", name.trim_matches('"'), version.trim_matches('"')))
        .collect();
    if let Ok(registries) = fs::read_dir(cargo_home.join("registry/src")) {
        for registry in registries.map(|registry| registry.unwrap().path()) {
            directories.extend(packages.iter().map(|package| registry.join(package)));
        }
    }

    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    if let Ok(output) = Command::new(rustc).args(["--print", "sysroot"]).output() {
        let sysroot = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end());
        directories.push(sysroot.join("lib/rustlib/src/rust/library/core/src"));
    }

    let more = env::var_os(SOURCES).unwrap_or_default();
    directories.extend(env::split_paths(&more).filter(|path| !path.as_os_str().is_empty()));
    directories.retain(|directory| directory.is_dir());
    directories
}

pub(super) fn published_sources() -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for directory in directories_of_published_sources() {
        if let Ok(files) = SourceFiles::under(&directory) {
            paths.extend(files.iter().map(|file| file.path().to_owned()));
        }
    }
    paths
}
