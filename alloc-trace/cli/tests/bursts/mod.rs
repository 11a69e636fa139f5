//! A recording of a program that asks for memory in bursts, the page made of it, and what the command line
//! says of it.

#![allow(dead_code, reason = "each test uses a part")]

use std::path::{Path, PathBuf};

use alloc_trace_format::{
    Anchor, EndReason, Event, EventKind, NodeDefinition, NodeId, Process, Record, RecordingWriter,
    Span, SpanId, ThreadId, Window,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::browser::Page;
use crate::support::{command, event, header, start, text};

pub(crate) const CALLEES: u32 = 24;

/// Writes a recording of two threads that ask for memory in bursts, from two dozen places.
pub(crate) fn write_bursts(path: &Path, names: &dyn Fn(&str) -> String) {
    let mut writer =
        RecordingWriter::create(path, &header(42), Window::default()).expect("created");
    let mut write = |stream, record: Record| writer.write(stream, &record).expect("written");
    let process = Process {
        pid: 42,
        parent_pid: 41,
        executable: names("/usr/bin/bursts").into(),
        arguments: [names("bursts"), "--fast".into()].map(Box::from).into(),
    };
    write(0, Record::Process(Box::new(process)));
    for thread in 1..=2 {
        write(thread, start(thread, &names(["main", "worker"][thread as usize - 1]), false));
    }
    // The first calls four others, and each of those five.
    for number in 0..CALLEES {
        let parent = if number == 0 { 0 } else { 2 + (number - 1) / 5 };
        let address = 0x1000 * u64::from(number + 1);
        let id = NodeId(2 + number);
        write(1, Record::Node(NodeDefinition { id, parent: NodeId(parent), address }));
    }
    for (id, name) in [(1, "load"), (2, "serve")] {
        let span = Span {
            id: SpanId(id),
            stamp: 1_100,
            parent: None,
            again: false,
            level: 3,
            name: names(name).into(),
            target: "bursts".into(),
            fields: "".into(),
        };
        write(1, Record::Span(Box::new(span)));
    }
    let mut random = 1_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut stamp = 2_000_u64;
    let mut live: Vec<(u64, u64)> = Vec::new();
    let mut events = 0;
    for round in 0..6_000_u64 {
        let thread = 1 + u32::from(round % 3 == 2);
        // A pause between bursts, longer than a bin.
        stamp += if round % 500 == 0 { 300_000 } else { 50 + next() % 100 };
        if round == 1_500 {
            let text = names("warm").into();
            write(1, Record::Marker { thread: ThreadId(1), stamp, text });
        }
        if round % 400 == 0 {
            write(1, Record::Resident { stamp, bytes: (4 << 20) + 1_000 * round });
        }
        if round % 500 == 10 {
            let span = SpanId(1 + u64::from(round > 3_000));
            write(1, Record::SpanEnter { thread: ThreadId(1), stamp, span });
        }
        if round % 500 == 400 {
            let span = SpanId(1 + u64::from(round > 3_000));
            write(1, Record::SpanExit { thread: ThreadId(1), stamp, span });
        }
        let growing = round % 1_000 < 600;
        let choice = next() % 10;
        let node = NodeId(2 + (next() % u64::from(CALLEES)) as u32);
        let size = 1 + next() % (1 << (next() % 14));
        let address = 0x10_0000 + 0x1_0000 * round;
        let mut made = Event { node, ..event(EventKind::Alloc, thread, stamp, address, size) };
        let index = next() as usize % live.len().max(1);
        if live.is_empty() || (choice < if growing { 6 } else { 3 }) {
            live.push((address, size));
        } else if choice == 9 {
            (made.old_address, made.old_size) = live[index];
            made.kind = EventKind::Realloc;
            live[index] = (address, size);
        } else {
            made.kind = EventKind::Free;
            (made.address, made.size) = live.swap_remove(index);
        }
        write(thread, Record::Event(made));
        events += 1;
    }
    stamp += 100;
    write(1, Record::End { stamp, reason: EndReason::Exited, events });
    writer.finish(Some(Anchor { ticks: stamp, monotonic_ns: stamp })).expect("finished");
}

pub(crate) struct Made {
    _directory: TempDir,
    pub(crate) recording: PathBuf,
    pub(crate) page: PathBuf,
}

/// A recording, and the page made of it.
pub(crate) fn make(names: &dyn Fn(&str) -> String, arguments: &[&str]) -> Made {
    let directory = tempfile::tempdir().expect("a directory");
    let recording = directory.path().join("bursts.trace");
    let page = directory.path().join("page.html");
    write_bursts(&recording, names);
    let output = command()
        .arg("html")
        .arg(&recording)
        .arg("-o")
        .arg(&page)
        .args(arguments)
        .output()
        .expect("run");
    assert!(output.status.success(), "{}", text(&output.stderr));
    Made { _directory: directory, recording, page }
}

/// What `alloc-trace report --json` says, with these arguments.
pub(crate) fn report(recording: &Path, arguments: &[&str]) -> Value {
    let output =
        command().args(["report", "--json"]).arg(recording).args(arguments).output().expect("run");
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

pub(crate) fn requests(figures: &Value) -> u64 {
    ["allocations", "zeroed_allocations", "reallocations"]
        .iter()
        .map(|key| figures[key].as_u64().expect("a figure"))
        .sum()
}

pub(crate) fn assert_no_complaints(page: &mut Page) {
    page.settle();
    assert_eq!(page.errors, Vec::<String>::new());
    assert_eq!(page.requests, Vec::<String>::new(), "no network");
}
