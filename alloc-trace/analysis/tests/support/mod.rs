//! Recordings written by hand.

#![allow(dead_code, reason = "each test uses a part")]

use std::path::PathBuf;

use alloc_trace_analysis::{Options, Recording, Summary};
use alloc_trace_format::{
    Anchor, EndReason, Event, EventKind, FileHeader, NodeDefinition, NodeId, Record,
    RecordingWriter, Span, SpanId, ThreadId, ThreadStart, Window,
};
use tempfile::TempDir;

/// A recording that is being written; stamps are nanoseconds, and the first is 1,000.
pub(crate) struct Script {
    _directory: TempDir,
    path: PathBuf,
    writer: RecordingWriter,
    pub(crate) now: u64,
    events: u64,
}

impl Script {
    pub(crate) fn new() -> Self {
        Self::with(FileHeader::of_nanoseconds(42, 1_000))
    }

    /// One whose stamps are thirds of nanoseconds.
    pub(crate) fn in_thirds() -> Self {
        let ready = Anchor { ticks: 1_000 + 3_000_000, monotonic_ns: 1_000 + 1_000_000 };
        Self::with(FileHeader { ready, ..FileHeader::of_nanoseconds(42, 1_000) })
    }

    fn with(header: FileHeader) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("script.trace");
        let header = FileHeader { start_realtime_ns: 5, ..header };
        let window = Window { slots: 8, chunk_bytes: 1024 };
        let writer = RecordingWriter::create(&path, &header, window).expect("created");
        Self { _directory: directory, path, writer, now: 1_000, events: 0 }
    }

    /// Writes a record to the stream of its thread.
    pub(crate) fn record(&mut self, thread: u32, record: Record) {
        self.writer.write(thread, &record).expect("written");
    }

    pub(crate) fn thread(&mut self, thread: u32, name: &str, internal: bool) {
        let start = ThreadStart {
            thread: ThreadId(thread),
            os_thread: 100 + thread,
            internal,
            stamp: self.now,
            name: name.into(),
        };
        self.record(thread, Record::ThreadStart(start));
    }

    /// Writes an event ten nanoseconds after the one before.
    pub(crate) fn event(&mut self, event: Event) {
        self.now += 10;
        self.events += 1;
        let event = Event { stamp: self.now, begin_stamp: self.now, ..event };
        self.record(event.thread.0, Record::Event(event));
    }

    pub(crate) fn node(&mut self, id: u32, parent: u32, address: u64) {
        let node = NodeDefinition { id: NodeId(id), parent: NodeId(parent), address };
        self.record(1, Record::Node(node));
    }

    pub(crate) fn span(&mut self, id: u64, parent: Option<u64>, name: &str, fields: &str) {
        let span = Span {
            id: SpanId(id),
            stamp: self.now,
            parent: parent.map(SpanId),
            again: false,
            level: 3,
            name: name.into(),
            target: "app".into(),
            fields: fields.into(),
        };
        self.record(1, Record::Span(Box::new(span)));
    }

    pub(crate) fn enter(&mut self, thread: u32, span: u64) {
        self.now += 1;
        let record =
            Record::SpanEnter { thread: ThreadId(thread), stamp: self.now, span: SpanId(span) };
        self.record(thread, record);
    }

    pub(crate) fn exit(&mut self, thread: u32, span: u64) {
        self.now += 1;
        let record =
            Record::SpanExit { thread: ThreadId(thread), stamp: self.now, span: SpanId(span) };
        self.record(thread, record);
    }

    pub(crate) fn close(&mut self, span: u64) {
        self.now += 1;
        self.record(1, Record::SpanClose { stamp: self.now, span: SpanId(span) });
    }

    /// Writes the closing record.
    pub(crate) fn end(&mut self) {
        let (stamp, events) = (self.now, self.events);
        self.record(1, Record::End { stamp, reason: EndReason::Exited, events });
    }

    /// The recording as far as it is written.
    pub(crate) fn recording(&mut self) -> Recording {
        self.writer.flush().expect("flushed");
        Recording::open(&self.path).expect("readable")
    }

    pub(crate) fn summary(&mut self) -> Summary {
        self.summary_with(Options::default())
    }

    pub(crate) fn summary_with(&mut self, options: Options) -> Summary {
        Summary::of(&self.recording(), options).expect("readable")
    }
}

/// An allocation by a thread, or with another kind whatever else.
pub(crate) fn alloc(thread: u32, address: u64, size: u64) -> Event {
    Event::new(EventKind::Alloc, ThreadId(thread), 0, address, size)
}

pub(crate) fn free(thread: u32, address: u64, size: u64) -> Event {
    Event { kind: EventKind::Free, ..alloc(thread, address, size) }
}

pub(crate) fn realloc(thread: u32, old: (u64, u64), new: (u64, u64)) -> Event {
    Event {
        kind: EventKind::Realloc,
        old_address: old.0,
        old_size: old.1,
        ..alloc(thread, new.0, new.1)
    }
}

pub(crate) fn failed(event: Event) -> Event {
    Event { failed: true, address: 0, ..event }
}

pub(crate) fn at(node: u32, event: Event) -> Event {
    Event { node: NodeId(node), ..event }
}
