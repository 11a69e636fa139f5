//! A general-purpose heap for Rust programs: CoreAlloc, a GlobalAlloc of its own over mmap.
