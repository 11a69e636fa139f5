//! The workloads' program, built once for each allocator.

use std::path::{Path, PathBuf};

use super::Error;
use crate::allocator::Allocator;
use crate::packages;

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
    let mut failed = Vec::new();
    for allocator in allocators {
        if packages::build("workload", allocator.feature, &program(*allocator)).is_err() {
            failed.push(allocator.name);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("not built: {}", failed.join(", ")).into())
}
