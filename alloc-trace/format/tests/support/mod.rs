//! What the tests of recordings share.

use alloc_trace_format::{Event, EventKind, FileHeader, NodeId, ThreadId};

/// The header of a recording whose stamps are nanoseconds and begin at 1,000.
pub(crate) fn header() -> FileHeader {
    FileHeader::of_nanoseconds(42, 1_000)
}

/// An event without a backtrace.
pub(crate) fn event(kind: EventKind, thread: u32, stamp: u64, address: u64, size: u64) -> Event {
    Event {
        kind,
        failed: false,
        thread: ThreadId(thread),
        stamp,
        begin_stamp: stamp,
        address,
        size,
        align_log2: 3,
        old_address: 0,
        old_size: 0,
        node: NodeId::ROOT,
        stack_pointer: 0,
        kept_frames: None,
    }
}
