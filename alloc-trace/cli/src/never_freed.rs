//! What is said of blocks that were never freed, however they are grouped.

use crate::units::{bytes, counted};

/// What is said where there is nothing to show.
pub(crate) const NOTHING: &str = "Every block of the program was freed.";

/// What Rust's runtime keeps, where it keeps anything.
pub(crate) fn of_runtime(blocks: u64, total: u64) -> Option<String> {
    let held = || format!("{} in {}", bytes(total), counted(blocks, "block"));
    (blocks > 0).then(|| format!("Rust's runtime keeps {} of its own.", held()))
}
