//! A global allocator that records every heap request and free: with address, requested size,
//! alignment, thread, time, backtrace and `tracing` span.
//!
//! [`TraceAlloc`] wraps any [`GlobalAlloc`](std::alloc::GlobalAlloc): the heap of `alloc-core`, the
//! system's, anybody's. As long as nobody asks it costs one relaxed load a request. It records when
//! the environment says so,
//!
//! ```text
//! ALLOC_TRACE=app.trace ./app
//! ```
//!
//! or when the program does:
//!
//! ```
//! use alloc_trace::{Recording, TraceAlloc};
//! use std::alloc::System;
//!
//! #[global_allocator]
//! static ALLOCATOR: TraceAlloc<System> = TraceAlloc::new(System);
//!
//! fn main() -> Result<(), alloc_trace::StartError> {
//!     # let path = std::env::temp_dir().join(format!("alloc-trace-doc-{}", std::process::id()));
//!     let recording = Recording::builder().output(&path).start()?;
//!     let squares: Vec<u64> = (0..1000).map(|n| n * n).collect();
//!     assert_eq!(squares[31], 961);
//!     recording.stop();
//!     # std::fs::remove_file(&path).unwrap();
//!     Ok(())
//! }
//! ```
//!
//! The recording is a file that the `alloc-trace` command reads. It is whole at every moment:
//! whatever ends the process, `kill -9` included, every event recorded before is in it.
//!
//! With [`RecordingBuilder::tracing_events`] the same records come as `tracing` events through
//! whatever subscriber the program has, and a [`SpanLayer`] in that subscriber attributes each event
//! to the span that its thread was in. [`measure`] counts a closure's own heap use without any file.
//!
//! # Features
//!
//! - `tracing-events` (default): records as `tracing` events. Adds `tracing`.
//! - `span-layer` (default): [`SpanLayer`]. Adds `tracing-subscriber`.
//! - `heap-snapshots` (default): what the heap of `alloc-core` holds, now and then and on request (see
//!   [`heap_snapshot`]). Adds `alloc-core`, which depends on nothing but `libc`.
//!
//! # Where it works
//!
//! On x86-64 and aarch64 Linux. Elsewhere [`TraceAlloc`] passes every request through, and a
//! recording cannot be started.

#[cfg(all(feature = "tracing-events", feature = "span-layer"))]
mod held_spans;
mod hook;
#[cfg(feature = "tracing-events")]
mod live_events;
mod measure;
mod mode;
#[cfg_attr(
    any(
        alloc_trace_passthrough,
        not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))
    ),
    path = "unsupported.rs"
)]
mod recorder;
mod recording;
mod request;
#[cfg(feature = "span-layer")]
mod span_layer;
#[cfg(all(feature = "tracing-events", feature = "span-layer"))]
mod stand_in;
mod trace_alloc;

pub use measure::{HeapUse, measure};
pub use recording::{
    Compression, Recording, RecordingBuilder, Stacks, StartError, heap_snapshot, is_recording,
    mark, pause, resume,
};
#[cfg(feature = "span-layer")]
pub use span_layer::SpanLayer;
pub use trace_alloc::TraceAlloc;
