//! What is said of blocks that were never freed, however they are grouped.

use crate::text::wrap;
use crate::units::{bytes, counted};

/// What is said where there is nothing to show.
pub(crate) const NOTHING: &str = "Every block of the program was freed.";

/// What Rust's runtime keeps, where it keeps anything, in lines of at most `columns`.
pub(crate) fn of_runtime(blocks: u64, total: u64, columns: usize) -> Option<String> {
    let held = || format!("{} in {}", bytes(total), counted(blocks, "block"));
    let line = || format!("Rust's runtime keeps {} of its own.", held());
    (blocks > 0).then(|| wrap(&line(), columns).join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runtime_keeps_is_told_in_lines_that_fit() {
        let told = |columns| of_runtime(1, 544, columns);
        let lines = "Rust's runtime keeps 544 B in 1 block of\nits own.";
        assert_eq!(told(40).as_deref(), Some(lines));
        assert_eq!(told(80), Some(lines.replace('\n', " ")));
        assert_eq!(of_runtime(0, 0, 80), None);
    }
}
