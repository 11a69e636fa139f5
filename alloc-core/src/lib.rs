//! A general-purpose heap for Rust programs: [`CoreAlloc`], a [`GlobalAlloc`] of its own over
//! `mmap`.
//!
//! ```
//! use alloc_core::CoreAlloc;
//!
//! #[global_allocator]
//! static HEAP: CoreAlloc = CoreAlloc::new();
//!
//! let squares: Vec<u64> = (0..1000).map(|n| n * n).collect();
//! assert_eq!(squares[999], 998_001);
//! assert!(HEAP.stats().pages > 0);
//! ```
//!
//! # Features
//!
//! Both are off by default, and the ordinary build has not an instruction of either.
//!
//! - `hardened`: misuse ends the process where it happens: blocks freed twice, from inside, with the layout of
//!   another class, or written to after their free. A request takes three to thirteen times as long, one for a large
//!   block what it takes to clear it.
//! - `valgrind`: valgrind is told of blocks, so that memcheck finds in this heap what it finds in `malloc`'s.
//!
//! # How it is built
//!
//! Each module rests on those below it, but for `heap`, `pool`, `decay` and `purger`, which need each
//! other. What the feature `hardened` adds is told in the module of that name: its parts rest on `os` and
//! are rested on, but for `custody`, which rests on `page`.
//!
//! | module | responsible for |
//! |---|---|
//! | `core_alloc` | the handle: which way a request goes |
//! | [`c`] | the same for C: no layout is given, and the C library's rules |
//! | `stats`, [`walk`], `check` | figures; what lies where; whether it all fits together |
//! | `thread` | which heap a thread uses; signals, thread exit |
//! | `top` | the top of a class's cache, and whether an operation on it is under way |
//! | `place` | where a thread keeps that: thread-local memory |
//! | `unload` | keeping the library that the heap is in |
//! | `pool`, `idle` | heaps that wait for a thread, as a stack |
//! | `heap`, `slot` | a thread's caches and pages, moving blocks between them |
//! | `large` | blocks past the size classes |
//! | `spare` | mappings of huge blocks that were freed |
//! | `page` | the blocks of a page |
//! | `record` | what is recorded of slices, pages and their owners |
//! | `remote` | frees by threads that do not own the page |
//! | `class` | size classes |
//! | `grains` | clearing and copying a few bytes without a call |
//! | `decay` | when unused memory goes back to the OS |
//! | `purger`, `helper` | the thread that sees to it when no other comes by |
//! | `hold` | who may touch what lies behind a heap's caches |
//! | `arena` | metadata by address; address space |
//! | `window` | what a `free` without a layout asks first |
//! | `open` | which segments have free slices |
//! | `segment`, `unit` | which slices of a segment are free |
//! | `counters` | what is counted on slow paths |
//! | `striped` | figures that many threads change at once |
//! | `owner`, `sync` | cells of one owner; atomics |
//! | `tool` | telling valgrind of blocks, with the feature of that name |
//! | `os`, `syscall`, `fatal` | system calls; the abort |
//!
//! # What never happens
//!
//! - No lock is taken: all shared state is atomic, so neither a fork nor a signal handler can find
//!   one held.
//! - Nothing panics, and nothing from `std` is called that allocates. When memory is out, or the
//!   layout impossible, the answer is null; a damaged heap ends the process through `fatal`.
//! - Metadata is never unmapped, and blocks hold none: writing to a freed block cannot damage the
//!   heap.
//! - No thread is started through the C library; the one that gives memory back (see
//!   [`CoreAlloc::purge_in_background`]) runs nothing of it.
//!
//! [`GlobalAlloc`]: core::alloc::GlobalAlloc

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("alloc-core supports Linux on x86_64 and aarch64");

mod arena;
pub mod c;
mod check;
mod class;
mod core_alloc;
mod counters;
mod decay;
mod fatal;
mod grains;
mod hardened;
mod heap;
mod helper;
mod hold;
mod idle;
mod large;
mod open;
mod os;
mod owner;
mod page;
mod place;
mod pool;
mod purger;
mod record;
mod remote;
mod segment;
mod slot;
mod spare;
mod stats;
mod striped;
mod sync;
mod syscall;
mod thread;
#[cfg(not(feature = "valgrind"))]
#[path = "silent.rs"]
mod tool;
#[cfg(feature = "valgrind")]
#[path = "valgrind.rs"]
mod tool;
mod top;
mod unit;
mod unload;
pub mod walk;
mod window;

#[cfg(test)]
mod tests;

pub use core_alloc::{CoreAlloc, Damage};
pub use stats::{ClassStats, Stats};
