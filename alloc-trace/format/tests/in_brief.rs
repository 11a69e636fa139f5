//! A pass in brief leaves the definitions of call-tree nodes out, and of all other records nothing but stack pointers.

#[path = "support/every_record.rs"]
mod every_record;
mod support;

use std::path::Path;

use alloc_trace_format::{
    Event, EventKind, Merged, NodeDefinition, NodeId, Record, Recording, RecordingWriter, Window,
};
use support::{event, header};

/// All records, without stack pointers.
fn all(mut merged: Merged<'_>) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some(mut record) = merged.next_record().expect("readable") {
        if let Record::Event(event) = &mut record {
            event.stack_pointer = 0;
        }
        records.push(record);
    }
    assert!(merged.skipped().is_empty());
    records
}

fn assert_that_nothing_else_is_left_out(path: &Path) {
    let recording = Recording::open(path).expect("readable");
    let mut others = all(recording.merged());
    let count = others.len();
    others.retain(|record| !matches!(record, Record::Node(_)));
    assert!(others.len() < count, "there are nodes");
    assert!(others == all(recording.merged_in_brief()));
}

#[test]
fn records_of_every_kind() {
    let directory = tempfile::tempdir().expect("a directory");
    for packed in [false, true] {
        let path = directory.path().join("a.trace");
        every_record::write(&path, packed);
        assert_that_nothing_else_is_left_out(&path);
    }
}

/// So many that chunks are read ahead, with nodes that come one by one, many at a time, and not at all.
#[test]
fn many_events_between_nodes() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.trace");
    let mut writer = RecordingWriter::create(&path, &header(), Window::default()).expect("created");
    writer.pack_chunks(1);
    let mut random = 1u64;
    let mut next = 2;
    for number in 0..400_000u64 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let stream = (random % 2) as u32;
        let nodes = if number > 300_000 { 0 } else { (random >> 8) % 40 };
        for _ in 0..nodes.saturating_sub(36) {
            let parent = NodeId((random >> 16) as u32 % next);
            let node = NodeDefinition { id: NodeId(next), parent, address: random >> 30 };
            writer.write(stream, &Record::Node(node)).expect("written");
            next += 1;
        }
        let kind = if number % 2 == 0 { EventKind::Alloc } else { EventKind::Free };
        let made = event(kind, stream + 1, 2_000 + number * 10, 0x1000 + number / 2 * 64, 24);
        let node = NodeId((random >> 40) as u32 % next);
        // Some events come from the site of the one before.
        let (align_log2, stack_pointer) =
            ((number / 3 % 5) as u8, 0x7000_0000 + number / 3 % 7 * 16);
        let made = Event { node, align_log2, stack_pointer, ..made };
        writer.write(stream, &Record::Event(made)).expect("written");
    }
    writer.finish(None).expect("finished");
    assert_that_nothing_else_is_left_out(&path);
}
