//! The recording format of alloc-trace: what a recorder writes and every reader reads.
//!
//! A recording is one file: a [`FileHeader`], then blocks. An *extent* block holds the window, the
//! fixed-size chunks that the recorded threads write through a shared mapping; a *chunk* block holds
//! one chunk that was full and has been moved to the log. `docs/trace-format.md` in this crate's
//! directory describes every byte.
//!
//! The crate has two halves. The writing half ([`Encoder`], [`FileHeader`], [`BlockHeader`], the
//! chunk layout) allocates nothing and never panics, because it runs inside the program's heap
//! requests. The reading half ([`Recording`], [`Merged`], [`Follower`], [`Decoder`]) trusts no byte
//! of its input: every failure is a typed error that carries the offset, and no input makes it
//! panic or allocate more than a chunk for each stream.
//!
//! Nothing here knows of allocators, `tracing` or symbols.

#![forbid(unsafe_code)]

mod ahead;
mod block;
mod carried;
mod chunk;
mod chunk_records;
mod clock;
mod columns;
mod compact;
mod decoder;
mod definitions;
mod encoder;
mod error;
mod exit_status;
mod fields;
mod follower;
mod header;
mod heap_snapshot;
mod input;
mod items;
mod merged;
mod output;
mod payload;
mod plain_event;
mod read_progress;
mod record;
mod recording;
mod ring;
mod scan;
mod varint;
mod writer;

pub use block::{BLOCK_ALIGN_BYTES, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Codec};
pub use chunk::{CHUNK_HEADER_BYTES, CHUNK_MAGIC, ChunkHeader, ChunkState};
pub use chunk_records::RunEvent;
pub use clock::{Anchor, Clock};
pub use columns::pack::{Effort, HeapSpace, Lent, Packer, PackerSpace};
pub use columns::unpack::{UnpackError, Unpacker};
pub use decoder::{DecodeState, Decoder};
pub use definitions::Definitions;
pub use encoder::{Encoder, MAX_EVENT_BYTES};
pub use error::{ReadError, RecordError};
pub use exit_status::append_exit_status;
pub use follower::{Follower, Polled};
pub use header::{
    Architecture, ClockKind, FILE_HEADER_BYTES, FILE_MAGIC, FORMAT_VERSION, FileHeader, HeaderError,
};
pub use heap_snapshot::{ClassFigures, HeapFigures, HeapSnapshot, SnapshotReason};
pub use items::{
    CarriedRecord, ChunkRow, HeldBlock, Item, ItemState, MAX_ITEM_BYTES, Rows, Subject,
};
pub use merged::{Merged, Run, Step};
pub use output::MAX_TEXT_BYTES;
pub use read_progress::ReadProgress;
pub use record::{
    Context, EndReason, Event, EventKind, ExitStatus, Module, ModuleUnload, NodeDefinition, NodeId,
    Process, Record, Span, SpanId, Stamp, ThreadId, ThreadStart,
};
pub use recording::{Recording, Skipped};
pub use ring::{Commit, RING_SEGMENTS};
pub use writer::{RecordingWriter, Window};
