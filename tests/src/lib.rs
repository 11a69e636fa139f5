//! What the tests that cross crates share.
//!
//! A test that needs a whole process runs a *scenario*: a test program whose heap events are known
//! by construction. All scenarios are in one binary for each allocator below
//! [`TraceAlloc`](alloc_trace::TraceAlloc) (`over_core`, `over_system`, `over_pool`), chosen by the first
//! argument; the tests of `tests/recording` run them with a timeout, so that a hang is a failure.
//! `call_trees` and `merge_order` are binaries of their own, because they are also built optimised.

pub mod block;
#[cfg(feature = "scenarios")]
pub mod counting;
pub mod os;
pub mod other_stack;
pub mod pool;
#[cfg(feature = "scenarios")]
pub mod scenario;
pub mod steps;
