//! The same jobs done on the stack only and heap-heavy, side by side.
fn main() {}
