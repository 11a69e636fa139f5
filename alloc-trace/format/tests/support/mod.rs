//! What the tests of recordings share.

use alloc_trace_format::{Event, EventKind, FileHeader, ThreadId};

/// The header of a recording whose stamps are nanoseconds and begin at 1,000.
pub(crate) fn header() -> FileHeader {
    FileHeader::of_nanoseconds(42, 1_000)
}

/// An event without a backtrace.
pub(crate) fn event(kind: EventKind, thread: u32, stamp: u64, address: u64, size: u64) -> Event {
    Event::new(kind, ThreadId(thread), stamp, address, size)
}
