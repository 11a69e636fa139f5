//! The alloc-trace command: record a program, read the recording.
fn main() {}
