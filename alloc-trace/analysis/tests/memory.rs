//! Reading takes memory for live blocks and places of the call tree, not for events.

use alloc_trace::TraceAlloc;
use alloc_trace_analysis::{Options, Recording, Summary};
use alloc_trace_format::{
    Anchor, Architecture, ClockKind, EndReason, Event, EventKind, FileHeader, NodeDefinition,
    NodeId, Record, RecordingWriter, ThreadId, Window,
};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: TraceAlloc<System> = TraceAlloc::new(System);

/// The most bytes that it takes to sum up a recording of so many events, of which so many blocks are
/// live at a time.
fn peak_bytes(events: u64, live: u64) -> u64 {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("long.trace");
    let start = Anchor { ticks: 1_000, monotonic_ns: 1_000 };
    let header = FileHeader {
        pid: 1,
        architecture: Architecture::X86_64,
        clock: ClockKind::Monotonic,
        start,
        ready: start,
        start_realtime_ns: 0,
        process_start_ticks: 0,
        end: None,
    };
    let window = Window { slots: 1, ..Window::default() };
    let mut writer = RecordingWriter::create(&path, &header, window).expect("created");
    writer.pack_chunks(1);
    for id in 2..66 {
        let address = 0x1000 + u64::from(id);
        let node = NodeDefinition { id: NodeId(id), parent: NodeId(0), address };
        writer.write(0, &Record::Node(node)).expect("written");
    }
    let mut stamp = start.ticks;
    for number in 0..events {
        stamp += 10;
        // The block that was obtained `live` requests ago goes, then the next one comes.
        let block = number / 2;
        let (kind, block) = match number % 2 {
            0 => (EventKind::Alloc, block),
            _ if block < live => continue,
            _ => (EventKind::Free, block - live),
        };
        let event = Event {
            kind,
            failed: false,
            thread: ThreadId(1),
            stamp,
            begin_stamp: stamp,
            address: 0x10_0000 + block * 64,
            size: 48,
            align_log2: 3,
            old_address: 0,
            old_size: 0,
            node: NodeId(2 + (block % 64) as u32),
            stack_pointer: 0,
            kept_frames: None,
        };
        writer.write(0, &Record::Event(event)).expect("written");
    }
    let end = Record::End { stamp, reason: EndReason::Exited, events: 0 };
    writer.write(0, &end).expect("written");
    writer.finish(Some(Anchor { ticks: stamp, monotonic_ns: stamp })).expect("written");
    let recording = Recording::open(&path).expect("readable");
    let options = Options::default().symbols(false);
    let (summary, heap) = alloc_trace::measure(|| Summary::of(&recording, options));
    let summary = summary.expect("readable");
    assert_eq!(summary.total.live_blocks_at_end, live);
    heap.peak_bytes
}

#[test]
fn memory_grows_with_live_blocks_and_not_with_events() {
    let few = peak_bytes(100_000, 1_000);
    let many = peak_bytes(400_000, 1_000);
    // The list of chunks grows a little.
    assert!(many < few + (64 << 10), "{few} bytes for 100,000 events, {many} for 400,000");
    let live = 100_000;
    let more = peak_bytes(400_000, live);
    // While the table grows, the old one is there too: at its fullest a half of the new one.
    let allowed = 48 * live + 24 * live;
    assert!(more < few + allowed, "{more} bytes for {live} live blocks, {few} for 1,000");
}
