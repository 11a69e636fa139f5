//! Benchmarks against other people's allocators, programs and profilers.
//!
//! Everything here prints ratios of interleaved runs: absolute times of a shared machine prove
//! nothing. Each measured run is a process of its own.

pub mod allocator;
pub mod allocators;
pub mod budget;
pub mod burst;
pub mod child;
pub mod choice;
pub mod comparison;
pub mod fresh;
pub mod kept;
pub mod machine;
pub mod measured;
pub mod packages;
pub mod random;
pub mod statistics;
pub mod traced;
pub mod warm_up;
pub mod workloads;
