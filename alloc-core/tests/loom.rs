//! The lock-free parts, from the same source files, with loom's atomics: their tests, and the models
//! of `tests/loom`, run in every interleaving that the memory model allows.

/// What `src/sync.rs` is in the crate.
mod sync {
    pub(crate) use loom::model;
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering,
    };
    pub(crate) use loom::thread;
}

/// What the parts ask for beside atomics.
#[path = "loom/world.rs"]
mod world;

use heap::pool;
use page::record;
use world::{arena, class, counters, decay, fatal, hardened, os, owner, purger};

#[path = "../src/purger/gate.rs"]
mod gate;
#[path = "../src/hold.rs"]
mod hold;
#[path = "../src/idle.rs"]
#[expect(dead_code, reason = "the heap's check uses the rest")]
mod idle;
#[path = "../src/spare/mappings.rs"]
#[expect(dead_code, reason = "what is kept of huge blocks uses the rest")]
mod mappings;
#[path = "../src/open.rs"]
mod open;
#[path = "../src/purger/post.rs"]
#[expect(dead_code, reason = "a thread is started with the rest")]
mod post;
#[path = "../src/remote.rs"]
mod remote;
#[path = "../src/segment.rs"]
#[expect(dead_code, reason = "walks use the rest")]
mod segment;
#[path = "../src/arena/segments.rs"]
#[expect(dead_code, reason = "large blocks and walks use the rest")]
mod segments;
#[path = "../src/silent.rs"]
#[expect(dead_code, reason = "the rest is for other parts")]
mod tool;
#[path = "../src/unit.rs"]
mod unit;

#[path = "loom/heap.rs"]
mod heap;
#[path = "loom/page.rs"]
mod page;

#[path = "loom/adoption.rs"]
mod adoption;
#[path = "loom/claims.rs"]
mod claims;
#[path = "loom/handshake.rs"]
mod handshake;
#[path = "loom/takeover.rs"]
mod takeover;
#[path = "loom/tending.rs"]
mod tending;
