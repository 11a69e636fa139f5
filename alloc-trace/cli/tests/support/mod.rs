//! Runs the command, and writes the recordings that it reads.

use std::path::Path;
use std::process::Command;

use alloc_trace_format::{
    Anchor, Architecture, ClockKind, EndReason, Event, EventKind, FileHeader, NodeDefinition,
    NodeId, Process, Record, RecordingWriter, Span, SpanId, ThreadId, ThreadStart, Window,
};

/// The command, with an environment that changes nothing of its output.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alloc-trace"));
    command.env_remove("NO_COLOR").env_remove("ALLOC_TRACE").env("TERM", "xterm");
    command
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

pub(crate) fn header(pid: u32) -> FileHeader {
    let start = Anchor { ticks: 1_000, monotonic_ns: 1_000 };
    FileHeader {
        pid,
        architecture: Architecture::X86_64,
        clock: ClockKind::Monotonic,
        start,
        ready: start,
        start_realtime_ns: 0,
        process_start_ticks: 0,
        end: None,
    }
}

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
        node: NodeId(2),
        stack_pointer: 0,
        kept_frames: None,
    }
}

/// A recording with a little of everything, whose figures are known.
pub(crate) fn sample_records() -> Vec<(u32, Record)> {
    use EventKind::{Alloc, AllocZeroed, Free, Realloc};
    let start = |thread: u32, name: &str, internal| {
        Record::ThreadStart(ThreadStart {
            thread: ThreadId(thread),
            os_thread: 4_200 + thread,
            internal,
            stamp: 1_000,
            name: name.into(),
        })
    };
    let span = |id, parent: Option<u64>, name: &str| {
        Record::Span(Box::new(Span {
            id: SpanId(id),
            stamp: 1_100,
            parent: parent.map(SpanId),
            level: 3,
            name: name.into(),
            target: "app".into(),
            fields: format!("id={id}").into(),
        }))
    };
    let node = |id, parent, address| {
        Record::Node(NodeDefinition { id: NodeId(id), parent: NodeId(parent), address })
    };
    let (one, two) = (ThreadId(1), ThreadId(2));
    let enter = |thread, stamp, id| Record::SpanEnter { thread, stamp, span: SpanId(id) };
    let exit = |thread, stamp, id| Record::SpanExit { thread, stamp, span: SpanId(id) };
    let realloc = Event {
        old_address: 0x7f00_0000_0010,
        old_size: 100,
        begin_stamp: 2_950,
        node: NodeId(3),
        ..event(Realloc, 1, 3_000, 0x7f00_0000_1000, 5_000)
    };
    let failed = Event { failed: true, address: 0, ..event(Alloc, 2, 8_000, 0, 1 << 40) };
    vec![
        (
            0,
            Record::Process(Box::new(Process {
                pid: 42,
                parent_pid: 41,
                executable: "/usr/bin/app".into(),
                arguments: ["app", "--fast"].map(Box::from).into(),
            })),
        ),
        (0, start(1, "main", false)),
        (0, node(2, 0, 0x1000)),
        (0, node(3, 2, 0x2000)),
        (0, span(1, None, "server")),
        (0, span(2, Some(1), "request")),
        (0, Record::Event(event(Alloc, 1, 2_000, 0x7f00_0000_0010, 100))),
        (0, enter(one, 2_500, 1)),
        (0, Record::Event(realloc)),
        (1, start(2, "worker", false)),
        (1, enter(two, 4_000, 2)),
        (1, Record::Event(event(AllocZeroed, 2, 5_000, 0x7f00_0000_4000, 1 << 20))),
        (1, Record::Event(event(Free, 2, 6_000, 0x7f00_0000_4000, 1 << 20))),
        (1, Record::Event(event(Free, 2, 7_000, 0x7f00_0000_9000, 64))),
        (1, Record::Event(failed)),
        (1, exit(two, 9_000, 2)),
        (2, start(3, "alloc-trace", true)),
        (2, Record::Event(event(Alloc, 3, 9_500, 0x7f00_0000_b000, 9_999))),
        (0, exit(one, 1_000_000, 1)),
        (0, Record::Event(event(Alloc, 1, 2_000_000, 0x7f00_0000_c000, 24))),
    ]
}

/// Writes the sample; `closed` with its closing record.
pub(crate) fn write_sample(path: &Path, pid: u32, closed: bool) {
    let window = Window { slots: 3, chunk_bytes: 512 };
    let mut writer = RecordingWriter::create(path, &header(pid), window).expect("created");
    for (stream, record) in sample_records() {
        writer.write(stream, &record).expect("written");
    }
    // One stream is in the log, the others in the window.
    writer.drain(1).expect("drained");
    let end = Anchor { ticks: 3_000_000, monotonic_ns: 3_000_000 };
    if closed {
        let record = Record::End { stamp: end.ticks, reason: EndReason::Exited, events: 8 };
        writer.write(0, &record).expect("written");
    }
    writer.finish(closed.then_some(end)).expect("finished");
}
