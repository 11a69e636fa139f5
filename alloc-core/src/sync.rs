//! The atomics that the lock-free parts are built on.
//!
//! Those parts name them through this module, so that `tests/loom.rs` can include the same source
//! files with loom's atomics in this place, and run the same tests in every interleaving.

pub(crate) use core::sync::atomic::{
    AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering,
};

#[cfg(test)]
pub(crate) use std::{sync::Arc, sync::atomic::AtomicBool, thread};

/// Runs a concurrent test often, where loom would run it in every way.
#[cfg(test)]
pub(crate) fn model(test: impl Fn()) {
    for _ in 0..3000 {
        test();
    }
}
