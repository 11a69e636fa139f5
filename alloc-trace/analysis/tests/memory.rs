//! Reading takes memory for live blocks and places of the call tree, not for events.

use alloc_trace::TraceAlloc;
use alloc_trace_analysis::{
    Advice, Blocks, By, CallTreeWeights, Filter, Grouped, Intervals, Leaks, Moment, Options,
    Recording, Resolution, Summary, Thresholds,
};
use alloc_trace_format::{
    Anchor, EndReason, Event, EventKind, FileHeader, NodeDefinition, NodeId, Record,
    RecordingWriter, ThreadId, Window,
};
use std::alloc::System;
use std::path::Path;

#[global_allocator]
static ALLOCATOR: TraceAlloc<System> = TraceAlloc::new(System);

/// What a thread does with a block of 48 bytes.
fn event(kind: EventKind, stamp: u64, address: u64, node: NodeId) -> Event {
    Event { node, ..Event::new(kind, ThreadId(1), stamp, address, 48) }
}

/// A recording of so many events, of which so many blocks are live at a time.
fn recording(directory: &Path, events: u64, live: u64) -> Recording {
    recording_in_chunks(directory, events, live, Window::default().chunk_bytes)
}

/// One in chunks of so many bytes.
fn recording_in_chunks(directory: &Path, events: u64, live: u64, chunk_bytes: u32) -> Recording {
    let path = directory.join(format!("{events}-{live}.trace"));
    let header = FileHeader::of_nanoseconds(1, 1_000);
    let window = Window { slots: 1, chunk_bytes };
    let mut writer = RecordingWriter::create(&path, &header, window).expect("created");
    writer.pack_chunks(1);
    for id in 2..66 {
        let address = 0x1000 + u64::from(id);
        let node = NodeDefinition { id: NodeId(id), parent: NodeId(0), address };
        writer.write(0, &Record::Node(node)).expect("written");
    }
    let mut stamp = header.start.ticks;
    for number in 0..events {
        stamp += 10;
        // The block that was obtained `live` requests ago goes, then the next one comes.
        let block = number / 2;
        let (kind, block) = match number % 2 {
            0 => (EventKind::Alloc, block),
            _ if block < live => continue,
            _ => (EventKind::Free, block - live),
        };
        let event = event(kind, stamp, 0x10_0000 + block * 64, NodeId(2 + (block % 64) as u32));
        writer.write(0, &Record::Event(event)).expect("written");
    }
    let end = Record::End { stamp, reason: EndReason::Exited, events: 0 };
    writer.write(0, &end).expect("written");
    writer.finish(Some(Anchor { ticks: stamp, monotonic_ns: stamp })).expect("written");
    Recording::open(&path).expect("readable")
}

/// The most bytes that it takes to read a recording.
fn peak_bytes(recording: &Recording, read: Reading) -> u64 {
    let ((), heap) = alloc_trace::measure(|| read(recording));
    heap.peak_bytes
}

type Reading = fn(&Recording);

fn options() -> Options {
    Options::default().symbols(false)
}

/// Everything that follows blocks.
const READINGS: [(&str, Reading); 11] = [
    ("summary", |recording| drop(Summary::of(recording, options()).expect("readable"))),
    ("summary of a size", |recording| {
        let options = options().filter(Filter::default().sizes(1..));
        assert!(Summary::of(recording, options).expect("readable").total.live_blocks_at_end > 0);
    }),
    ("summary of lifetimes", |recording| {
        let options = options().filter(Filter::default().lifetimes(1..));
        assert!(Summary::of(recording, options).expect("readable").total.live_blocks_at_end > 0);
    }),
    ("advice of a size", |recording| {
        let options = options().filter(Filter::default().sizes(1..));
        drop(Advice::of(recording, options, Thresholds::default()).expect("readable"));
    }),
    ("leaks", |recording| drop(Leaks::of(recording, options()).expect("readable"))),
    ("by function", |recording| {
        drop(Grouped::of(recording, options(), By::Function).expect("readable"));
    }),
    ("by lifetime", |recording| {
        drop(Grouped::of(recording, options(), By::Lifetime).expect("readable"));
    }),
    ("call tree", |recording| drop(CallTreeWeights::of(recording, options()).expect("readable"))),
    ("intervals", |recording| {
        drop(Intervals::of(recording, options(), Resolution::default()).expect("readable"));
    }),
    ("blocks", |recording| {
        let mut blocks = Blocks::of(recording, options()).expect("readable");
        while blocks.next_row().expect("readable").is_some() {}
    }),
    ("advice", |recording| {
        drop(Advice::of(recording, options(), Thresholds::default()).expect("readable"));
    }),
];

#[test]
fn memory_grows_with_live_blocks_and_not_with_events() {
    let directory = tempfile::tempdir().expect("a directory");
    let few = recording(directory.path(), 40_000, 1_000);
    let many = recording(directory.path(), 120_000, 1_000);
    for (name, read) in READINGS {
        let (few, many) = (peak_bytes(&few, read), peak_bytes(&many, read));
        // The list of chunks grows a little.
        assert!(many < few + (64 << 10), "{name}: {few} of 40,000 events, {many} of 120,000");
    }
}

/// A bit a request would be 750 KB here, or more: what holds them grows by doubling.
#[test]
fn what_becomes_of_blocks_takes_no_memory_for_each_request() {
    let directory = tempfile::tempdir().expect("a directory");
    let events = 12_000_000;
    // How many chunks are unpacked on this thread depends on how far ahead of it the other one is.
    let recording = recording_in_chunks(directory.path(), events, 1_000, 4 << 10);
    let peak_bytes = |filter: Filter, blocks: u64| {
        let options = options().filter(filter);
        let (total, heap) =
            alloc_trace::measure(|| Summary::of(&recording, options).expect("readable").total);
        assert_eq!(total.obtained_blocks(), blocks);
        heap.peak_bytes
    };
    // How many chunks were read ahead is another matter at each reading: what is needed is the least of some.
    let least_below = |filter: &Filter, blocks: u64, limit: u64| {
        (0..8).map(|_| peak_bytes(filter.clone(), blocks)).find(|&peak| peak < limit)
    };
    let live_at = |ns| Filter::default().live_at(Moment::Ns(ns));
    let of_none = peak_bytes(live_at(0), 0).min(peak_bytes(live_at(0), 0));
    let of_live = least_below(&live_at(10 * events - 100), 1_000, of_none + (256 << 10));
    assert!(of_live.is_some(), "far more than {of_none}, of nothing, of what was live");
    let of_long = least_below(&Filter::default().lifetimes(1..), events / 2, of_none + (768 << 10));
    assert!(of_long.is_some(), "far more than {of_none}, of nothing, of what lived long");
}

/// A recording of events that each have a backtrace of their own.
fn recording_of_backtraces(directory: &Path, backtraces: u32) -> Recording {
    let path = directory.join("backtraces.trace");
    let header = FileHeader::of_nanoseconds(1, 1_000);
    let mut writer = RecordingWriter::create(&path, &header, Window::default()).expect("created");
    let mut stamp = header.start.ticks;
    for number in 0..backtraces {
        let (id, address) = (NodeId(2 + number), 0x1000 + u64::from(number));
        let node = NodeDefinition { id, parent: NodeId(0), address };
        writer.write(0, &Record::Node(node)).expect("written");
        stamp += 10;
        let kind = if number % 2 == 0 { EventKind::Alloc } else { EventKind::Free };
        let event = event(kind, stamp, 0x10_0000, id);
        writer.write(0, &Record::Event(event)).expect("written");
    }
    writer.finish(Some(Anchor { ticks: stamp, monotonic_ns: stamp })).expect("written");
    Recording::open(&path).expect("readable")
}

#[test]
fn what_is_told_over_time_takes_no_memory_for_each_call_site() {
    let directory = tempfile::tempdir().expect("a directory");
    let backtraces = 50_000;
    let recording = recording_of_backtraces(directory.path(), backtraces);
    let [of_sites, over_time, of_all]: [u64; 3] = [
        peak_bytes(&recording, |recording| {
            drop(Summary::of(recording, options()).expect("readable"));
        }),
        peak_bytes(&recording, |recording| {
            let resolution = Resolution::default();
            drop(Intervals::over_time(recording, options(), resolution).expect("readable"));
        }),
        peak_bytes(&recording, |recording| {
            drop(Intervals::of(recording, options(), Resolution::default()).expect("readable"));
        }),
    ];
    // A summary has figures of each site; a page has those of each in each bin, and the call tree.
    assert!(over_time < of_sites, "{over_time} over time, {of_sites} in a summary");
    assert!(of_all > 3 * over_time, "{over_time} over time, {of_all} of all");
}

/// A recording of one event and of so many backtraces, a tree of few return addresses.
fn recording_of_a_tree(directory: &Path, backtraces: u32) -> Recording {
    let path = directory.join(format!("tree of {backtraces}.trace"));
    let header = FileHeader::of_nanoseconds(1, 1_000);
    let mut writer = RecordingWriter::create(&path, &header, Window::default()).expect("created");
    for id in 2..backtraces {
        let parent = NodeId(if id < 8 { 0 } else { id / 4 });
        let node = NodeDefinition { id: NodeId(id), parent, address: 0x1000 + u64::from(id % 128) };
        writer.write(0, &Record::Node(node)).expect("written");
    }
    let stamp = header.start.ticks + 10;
    let event = event(EventKind::Alloc, stamp, 0x10_0000, NodeId(backtraces - 1));
    writer.write(0, &Record::Event(event)).expect("written");
    writer.finish(Some(Anchor { ticks: stamp, monotonic_ns: stamp })).expect("written");
    Recording::open(&path).expect("readable")
}

#[test]
fn a_backtrace_takes_no_more_bytes_than_its_parts() {
    let directory = tempfile::tempdir().expect("a directory");
    // A little less than powers of two, which tables of numbers grow by.
    let (fewer, more) = (65_000, 130_000);
    let recordings =
        [fewer, more].map(|backtraces| recording_of_a_tree(directory.path(), backtraces));
    // What it is and its number in the recorder are 16; the definition is 12 until the tree is whole, its call site 12.
    for (name, most) in [("summary", 30), ("advice", 48)] {
        let (_, read) = READINGS.into_iter().find(|(known, _)| *known == name).expect("known");
        let [few, many] = recordings.each_ref().map(|recording| peak_bytes(recording, read));
        let each = (many - few) / u64::from(more - fewer);
        assert!(each <= most, "{name}: {few} bytes, {many} with 65,000 more: {each} each");
    }
}

#[test]
fn no_reading_takes_more_than_forty_eight_bytes_a_live_block() {
    let directory = tempfile::tempdir().expect("a directory");
    let (fewer, more) = (10_000, 50_000);
    let recordings = [fewer, more].map(|live| recording(directory.path(), 110_000, live));
    for (name, read) in READINGS {
        let [few, many] = recordings.each_ref().map(|recording| peak_bytes(recording, read));
        let each = (many - few) / (more - fewer);
        assert!(each <= 48, "{name}: {few} bytes, {many} with 40,000 more blocks: {each} each");
    }
}
