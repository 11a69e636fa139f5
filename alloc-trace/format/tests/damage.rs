//! A recording with every kind of record, cut at every byte, with a bit of every byte of its headers and
//! bytes of its payloads turned, with lengths that lie: whatever is done to it, reading ends, tells no two
//! stories, and never panics. The fuzz target in `fuzz` asks the same of anything at all.

mod support;
#[path = "../fuzz/survey.rs"]
mod survey;

use std::fs;
use std::path::Path;

use alloc_trace_format::{
    BLOCK_HEADER_BYTES, BlockHeader, BlockKind, EndReason, Event, EventKind, FILE_HEADER_BYTES,
    Module, NodeDefinition, NodeId, Process, Record, RecordingWriter, Span, SpanId, ThreadId,
    ThreadStart, Window,
};
use proptest::prelude::*;
use support::{event, header};
use survey::survey;

/// Writes a recording: some chunks in the log, packed or not, and some in the window.
fn write(path: &Path, packed: bool) {
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

/// Where the blocks of a file stand, by their own statements.
fn blocks(bytes: &[u8]) -> Vec<(usize, BlockHeader)> {
    let mut blocks = Vec::new();
    let mut at = FILE_HEADER_BYTES;
    while let Some(header) = bytes.get(at..).and_then(BlockHeader::decode) {
        blocks.push((at, header));
        at += header.span_bytes() as usize;
    }
    blocks
}

struct Sample {
    directory: tempfile::TempDir,
    bytes: Vec<u8>,
}

impl Sample {
    fn new(packed: bool) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("whole.trace");
        write(&path, packed);
        let bytes = fs::read(&path).expect("readable");
        let chunks =
            blocks(&bytes).iter().filter(|(_, block)| block.kind == BlockKind::Chunk).count();
        assert!(chunks > 4, "both log and window have chunks");
        Self { directory, bytes }
    }

    fn survey(&self, bytes: &[u8]) {
        let path = self.directory.path().join("damaged.trace");
        fs::write(&path, bytes).expect("written");
        survey(&path);
    }
}

#[test]
fn a_whole_recording_has_one_story() {
    for packed in [false, true] {
        let sample = Sample::new(packed);
        sample.survey(&sample.bytes);
    }
}

#[test]
fn a_recording_cut_anywhere_is_read() {
    for packed in [false, true] {
        let sample = Sample::new(packed);
        // Records that are not packed are cut at every byte by the test of the file's ends.
        for length in
            (FILE_HEADER_BYTES - 70..sample.bytes.len()).step_by(if packed { 1 } else { 7 })
        {
            sample.survey(&sample.bytes[..length]);
        }
    }
}

#[test]
fn turned_bits_and_lengths_that_lie_are_survived() {
    for packed in [false, true] {
        let sample = Sample::new(packed);
        for (at, block) in blocks(&sample.bytes) {
            // What the header's own checksum tells, and what it does not.
            for byte in 0..BLOCK_HEADER_BYTES {
                let mut bytes = sample.bytes.clone();
                bytes[at + byte] ^= 1 << (byte % 8);
                sample.survey(&bytes);
            }
            for lie in [0, 1, 63, 64, 1 << 24, u32::MAX / 2, u32::MAX] {
                let lies = [
                    BlockHeader { raw_bytes: lie, ..block },
                    BlockHeader { stored_bytes: u64::from(lie) << 20, ..block },
                    BlockHeader { stored_bytes: u64::from(lie), ..block },
                    BlockHeader { sequence: lie, ..block },
                    BlockHeader { stream: lie, events: lie, ..block },
                    BlockHeader { first_stamp: u64::from(lie) << 32, last_stamp: 0, ..block },
                ];
                for lie in lies {
                    let mut bytes = sample.bytes.clone();
                    bytes[at..at + BLOCK_HEADER_BYTES].copy_from_slice(&lie.encode());
                    sample.survey(&bytes);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]
    /// Behind a checksum that is right anything may stand.
    #[test]
    fn payloads_that_contradict_themselves_are_survived(
        packed in any::<bool>(),
        turns in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 24),
    ) {
        let sample = Sample::new(packed);
        let chunks: Vec<_> =
            blocks(&sample.bytes).into_iter().filter(|(_, it)| it.kind == BlockKind::Chunk).collect();
        for (index, byte) in turns {
            for &(at, block) in &chunks {
                let begin = at + BLOCK_HEADER_BYTES;
                let payload = begin..begin + block.stored_bytes as usize;
                let mut bytes = sample.bytes.clone();
                let place = begin + index.index(payload.len());
                bytes[place] = byte;
                let whole = block.with_checksum(&bytes[payload]);
                bytes[at..begin].copy_from_slice(&whole.encode());
                sample.survey(&bytes);
            }
        }
    }
}
