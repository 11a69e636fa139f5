//! The workloads' program, built once for each allocator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Error;
use crate::allocator::Allocator;

/// Where the build under an allocator lies.
#[must_use]
pub fn program(allocator: Allocator) -> PathBuf {
    let name = allocator.feature.unwrap_or("system");
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/workloads").join(name)
}

/// Builds the workloads under each of some allocators.
///
/// # Errors
///
/// If one cannot be built, after having tried the others; its compiler said why.
pub fn build(allocators: &[Allocator]) -> Result<(), Error> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut failed = Vec::new();
    for allocator in allocators {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(root).args(["build", "--release", "--locked", "--bin", "workload"]);
        cargo.args(["--target-dir", "target"]);
        if let Some(feature) = allocator.feature {
            cargo.args(["--features", feature]);
        }
        if cargo.status()?.success() {
            let program = program(*allocator);
            fs::create_dir_all(program.parent().expect("a path below the package"))?;
            fs::copy(root.join("target/release/workload"), program)?;
        } else {
            failed.push(allocator.name);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("not built: {}", failed.join(", ")).into())
}
