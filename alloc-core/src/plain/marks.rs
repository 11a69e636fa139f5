//! No marks: what `hardened/marks.rs` is in the ordinary build.

/// Which blocks of a page the program has.
#[derive(Debug)]
pub(crate) struct Marks;
