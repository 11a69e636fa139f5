//! What the tests of recordings share.

use alloc_trace_format::{
    Anchor, Architecture, ClockKind, Event, EventKind, FileHeader, NodeId, ThreadId,
};

/// The header of a recording whose stamps are nanoseconds and begin at 1,000.
pub(crate) fn header() -> FileHeader {
    let start = Anchor { ticks: 1_000, monotonic_ns: 1_000 };
    FileHeader {
        pid: 42,
        architecture: Architecture::X86_64,
        clock: ClockKind::Monotonic,
        start,
        ready: start,
        start_realtime_ns: 0,
        process_start_ticks: 0,
        end: None,
    }
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
