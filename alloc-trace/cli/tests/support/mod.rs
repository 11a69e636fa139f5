//! Runs the command, and writes the recordings that it reads.

#![allow(dead_code, reason = "each test uses a part")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use alloc_trace_format::{
    Anchor, ClassFigures, EndReason, Event, EventKind, FileHeader, HeapFigures, HeapSnapshot,
    NodeDefinition, NodeId, Process, Record, RecordingWriter, SnapshotReason, Span, SpanId,
    ThreadId, ThreadStart, Window,
};
use serde_json::Value;
use tempfile::TempDir;

/// The command, with an environment that changes nothing of its output.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alloc-trace"));
    command.env_remove("NO_COLOR").env_remove("ALLOC_TRACE").env("TERM", "xterm");
    command
}

/// What a command with these arguments comes to.
pub(crate) fn run(arguments: &[&dyn AsRef<OsStr>]) -> Output {
    command().args(arguments.iter().map(|argument| argument.as_ref())).output().expect("run")
}

/// The object that a command with these arguments writes.
pub(crate) fn json(arguments: &[&dyn AsRef<OsStr>]) -> Value {
    let output = run(arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// The objects that a command with these arguments writes, a line each.
pub(crate) fn json_lines(arguments: &[&dyn AsRef<OsStr>]) -> Vec<Value> {
    let output = run(arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = text(&output.stdout).lines();
    lines.map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

/// What `check` prints, and its exit code.
pub(crate) fn check(path: &Path, limits: &[&str]) -> (String, Option<i32>) {
    let output = command().arg("check").arg(path).args(limits).output().expect("run");
    (text(&output.stdout).to_owned(), output.status.code())
}

/// The sample, in a directory of its own.
pub(crate) fn sample(closed: bool) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sample.trace");
    write_sample(&path, 42, closed);
    (directory, path)
}

/// A recording of a program with many faults, in a directory of its own.
pub(crate) fn faults(backtraces: bool) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("faults.trace");
    write_faults(&path, backtraces);
    (directory, path)
}

/// A recording of so many events, each an allocation of eight bytes.
pub(crate) fn write_long(path: &Path, events: u64) {
    let mut writer = RecordingWriter::create(path, &header(1), Window::default()).expect("created");
    for number in 0..events {
        let (stamp, address) = (1_000 + number, 0x10 * (number + 1));
        let event = Event { node: NodeId::ROOT, ..event(EventKind::Alloc, 1, stamp, address, 8) };
        writer.write(0, &Record::Event(event)).expect("written");
    }
    let stamp = 1_000 + events;
    writer.write(0, &Record::End { stamp, reason: EndReason::Exited, events }).expect("written");
    writer.finish(Some(Anchor { ticks: stamp, monotonic_ns: stamp })).expect("finished");
}

/// Every command.
pub(crate) const COMMANDS: [&str; 14] = [
    "record",
    "report",
    "events",
    "tree",
    "leaks",
    "advise",
    "diff",
    "check",
    "flame",
    "timeline",
    "html",
    "export",
    "completions",
    "man",
];

/// Compares with a file in `tests/golden`; `BLESS=1` writes it instead.
pub(crate) fn assert_golden(name: &str, printed: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, printed).expect("written");
    }
    let golden = fs::read_to_string(&path).expect("readable");
    assert_eq!(printed, golden, "{name}");
    for line in printed.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
    }
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

pub(crate) fn header(pid: u32) -> FileHeader {
    FileHeader::of_nanoseconds(pid, 1_000)
}

pub(crate) fn event(kind: EventKind, thread: u32, stamp: u64, address: u64, size: u64) -> Event {
    Event { node: NodeId(2), ..Event::new(kind, ThreadId(thread), stamp, address, size) }
}

/// The start of a thread, at the recording's beginning.
pub(crate) fn start(thread: u32, name: &str, internal: bool) -> Record {
    Record::ThreadStart(ThreadStart {
        thread: ThreadId(thread),
        os_thread: 4_200 + thread,
        internal,
        stamp: 1_000,
        name: name.into(),
    })
}

/// A recording with a little of everything, whose figures are known.
pub(crate) fn sample_records() -> Vec<(u32, Record)> {
    use EventKind::{Alloc, AllocZeroed, Free, Realloc};
    let span = |id, parent: Option<u64>, name: &str| {
        Record::Span(Box::new(Span {
            id: SpanId(id),
            stamp: 1_100,
            parent: parent.map(SpanId),
            again: false,
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

/// Writes a recording of a program that has every fault that `advise` knows, and leaks.
pub(crate) fn write_faults(path: &Path, backtraces: bool) {
    use EventKind::{Alloc, Free, Realloc};
    const MAIN: u64 = 0x1000;
    // The call sites, all of them called by the first.
    const SITES: u32 = 9;
    let mut writer =
        RecordingWriter::create(path, &header(42), Window::default()).expect("created");
    let mut write = |stream, record| writer.write(stream, &record).expect("written");
    for thread in 1..=2 {
        write(thread, start(thread, ["main", "worker"][thread as usize - 1], false));
    }
    for id in 2..2 + SITES {
        let parent = if id == 2 { NodeId::ROOT } else { NodeId(2) };
        let address = MAIN * u64::from(id);
        write(1, Record::Node(NodeDefinition { id: NodeId(id), parent, address }));
    }
    write(1, Record::Resident { stamp: 1_000, bytes: 5 << 20 });
    write(1, Record::HeapSnapshot(Box::new(heap_snapshot())));
    let mut stamp = 1_000;
    let mut happen = |kind, thread: u32, site: u32, address: u64, size, old: (u64, u64)| {
        stamp += 100;
        let node = if backtraces { NodeId(2 + site) } else { NodeId::ROOT };
        let (old_address, old_size) = old;
        let event =
            Event { node, old_address, old_size, ..event(kind, thread, stamp, address, size) };
        write(thread, Record::Event(event));
    };
    happen(Alloc, 1, 8, 0x500, 40_000, (0, 0));
    for round in 0..200 {
        let leaked = 0x10_0000 + 0x1000 * round;
        happen(Alloc, 1, 1, 0x1000, 32, (0, 0));
        happen(Alloc, 1, 2, 0x2000, 64, (0, 0));
        happen(Realloc, 1, 2, 0x3000, 1_500, (0x2000, 64));
        happen(Free, 1, 7, 0x3000, 1_500, (0, 0));
        happen(Free, 1, 7, 0x1000, 32, (0, 0));
        happen(Alloc, 1, 3, 0x4000, 65_536, (0, 0));
        happen(Free, 1, 7, 0x4000, 65_536, (0, 0));
        happen(Alloc, 1, 4, leaked, 100 + round % 3, (0, 0));
        happen(Alloc, 1, 5, 0x5000, 2_000, (0, 0));
        happen(Free, 2, 7, 0x5000, 2_000, (0, 0));
    }
    for phase in [Alloc, Free] {
        for number in 0..1_200 {
            happen(phase, 1, 6, 0x100_0000 + 0x20 * number, 24, (0, 0));
        }
    }
    happen(Free, 1, 7, 0x500, 40_000, (0, 0));
    let events = 1 + 200 * 10 + 2 * 1_200 + 1;
    stamp += 100;
    writer.write(1, &Record::End { stamp, reason: EndReason::Exited, events }).expect("written");
    writer.finish(Some(Anchor { ticks: stamp, monotonic_ns: stamp })).expect("finished");
}

/// A heap of 4 MiB with one size class: 2,048 blocks of 32 bytes, of which 500 are live.
fn heap_snapshot() -> HeapSnapshot {
    let class = ClassFigures {
        block_bytes: 32,
        pages: 1,
        capacity: 2_048,
        live: 500,
        cached: 12,
        pages_by_fill: [1, 0, 0, 0],
    };
    HeapSnapshot {
        stamp: 1_000,
        reason: SnapshotReason::Start,
        figures: HeapFigures {
            mapped_bytes: 4 << 20,
            metadata_bytes: 10 << 10,
            segments: 1,
            touched_bytes: 64 << 10,
            pages: 1,
            page_bytes: 64 << 10,
            heaps: 1,
            ..HeapFigures::default()
        },
        classes: [class].into(),
    }
}
