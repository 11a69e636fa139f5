//! A small recording with every kind of record.

use std::path::Path;

use alloc_trace_format::{
    EndReason, Event, EventKind, Module, NodeDefinition, NodeId, Process, Record, RecordingWriter,
    Span, SpanId, ThreadId, ThreadStart, Window,
};

use crate::support::{event, header};

/// Writes a recording: some chunks in the log, packed or not, and some in the window.
pub(crate) fn write(path: &Path, packed: bool) {
    let window = Window { slots: 2, chunk_bytes: 512 };
    let mut writer = RecordingWriter::create(path, &header(), window).expect("created");
    if packed {
        writer.pack_chunks(1);
    }
    let mut write = |stream: u32, record: Record| writer.write(stream, &record).expect("written");
    write(
        0,
        Record::Process(Box::new(Process {
            pid: 1,
            parent_pid: 2,
            executable: "/app".into(),
            arguments: ["app".into()].into(),
        })),
    );
    write(
        0,
        Record::Module(Box::new(Module {
            stamp: 1_001,
            bias: 0x1000,
            start: 0x1000,
            end: 0x9000,
            build_id: [1, 2, 3].into(),
            path: "/app".into(),
        })),
    );
    let span = Span {
        id: SpanId(7),
        stamp: 1_002,
        parent: None,
        again: false,
        level: 3,
        name: "request".into(),
        target: "app".into(),
        fields: "id=1".into(),
    };
    write(0, Record::Span(Box::new(span)));
    let mut stamp = 1_010;
    for round in 0..120_u32 {
        let stream = round % 2;
        let thread = ThreadId(stream + 1);
        if round < 2 {
            let name = "worker".into();
            let os_thread = 100 + stream;
            let start = ThreadStart { thread, os_thread, internal: false, stamp, name };
            write(stream, Record::ThreadStart(start));
        }
        stamp += 10;
        let span = SpanId(7);
        write(stream, Record::SpanEnter { thread, stamp, span });
        if round == 1 {
            write(stream, Record::SpanFields { thread, stamp, span, fields: "user=anna".into() });
        }
        let id = NodeId(2 + round);
        let parent = NodeId(if round < 2 { 0 } else { 1 + round });
        let address = 0x2000 + u64::from(round) * 8;
        write(stream, Record::Node(NodeDefinition { id, parent, address }));
        let at = 0x10_0000 + u64::from(round / 4) * 64;
        let size = 40 + u64::from(round % 3);
        let node = Event { node: id, ..event(EventKind::Alloc, thread.0, stamp + 1, at, size) };
        match round % 4 {
            0 => write(stream, Record::Event(node)),
            1 => {
                let (kind, begin_stamp) = (EventKind::Realloc, stamp);
                let (old_address, old_size) = (at, 40);
                let event = Event { kind, begin_stamp, old_address, old_size, ..node };
                write(stream, Record::Event(event));
            }
            2 => {
                write(stream, Record::Event(Event { kind: EventKind::Free, ..node }));
                let failed = Event { failed: true, address: 0, kept_frames: Some(1), ..node };
                write(stream, Record::Event(failed));
            }
            _ => {
                let text = "a marker".into();
                write(stream, Record::Marker { thread, stamp: stamp + 1, text });
            }
        }
        stamp += 10;
        write(stream, Record::SpanExit { thread, stamp, span });
    }
    write(0, Record::Lost { thread: ThreadId(1), records: 3 });
    write(0, Record::End { stamp: stamp + 1, reason: EndReason::Exited, events: 90 });
    writer.flush().expect("flushed");
}
