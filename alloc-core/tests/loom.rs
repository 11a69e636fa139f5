//! The lock-free parts, from the same source files, with loom's atomics: their tests run in every
//! interleaving that the memory model allows.

/// What `src/sync.rs` is in the crate.
mod sync {
    pub(crate) use loom::model;
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
    pub(crate) use loom::thread;
}

#[path = "../src/remote.rs"]
mod remote;
