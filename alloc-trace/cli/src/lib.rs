//! What the `alloc-trace` command shares with programs that show figures the same way.

#![forbid(unsafe_code)]

pub mod units;
