//! Chunks into columns and back, on sequences such as programs make, and on anything at all.

#[path = "support/harsh_rows.rs"]
mod harsh_rows;
#[path = "support/soak.rs"]
mod soak;
mod support;

use alloc_trace_format::{
    Anchor, BLOCK_ALIGN_BYTES, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Codec, Context, Decoder,
    Effort, Encoder, Event, EventKind, FILE_HEADER_BYTES, HeapSpace, NodeDefinition, NodeId,
    Packer, Record, Recording, RecordingWriter, Skipped, ThreadId, Unpacker, Window,
};
use proptest::collection::vec;
use proptest::prelude::*;
use soak::soak;
use support::{event, header};

/// A program that obtains and frees: what is freed was obtained before, sites and sizes repeat.
#[derive(Debug, Clone)]
enum Step {
    Obtain { site: u8, size: u16, reuse: bool },
    Free { site: u8, which: u16 },
    Grow { which: u16, moves: bool },
    Fail { size: u32 },
    Mark,
    Define { parent: u8 },
}

/// Few that come again and again, or so many that what follows them meets in the same places.
fn site() -> impl Strategy<Value = u8> {
    prop_oneof![3 => 0..6u8, 1 => any::<u8>()]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (site(), prop_oneof![Just(24), 0..64u16, any::<u16>()], any::<bool>())
            .prop_map(|(site, size, reuse)| Step::Obtain { site, size, reuse }),
        5 => (prop_oneof![Just(1), site()], any::<u16>())
            .prop_map(|(site, which)| Step::Free { site, which }),
        2 => (any::<u16>(), any::<bool>()).prop_map(|(which, moves)| Step::Grow { which, moves }),
        1 => any::<u32>().prop_map(|size| Step::Fail { size }),
        1 => Just(Step::Mark),
        1 => (0..6u8).prop_map(|parent| Step::Define { parent }),
    ]
}

/// The payload of a chunk that records the steps.
fn payload(steps: &[Step], ticks: &[u16]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let mut payload = vec![0; 64 + steps.len() * 128];
    let anchor = Anchor { ticks: 1_000, monotonic_ns: 1_000 };
    let context = Context { thread: ThreadId(3), stamp: 1_000, anchor };
    let mut length = encoder.context(&mut payload, &context).expect("room");
    let (mut live, mut freed): (Vec<(u64, u64)>, Vec<u64>) = Default::default();
    let (mut fresh, mut stamp, mut node) = (0x7f00_0000_1000u64, 1_000u64, 2u32);
    for (step, &ticks) in steps.iter().zip(ticks.iter().cycle()) {
        stamp += u64::from(ticks);
        let mut address = |size: u64, reuse: bool| match freed.pop().filter(|_| reuse) {
            Some(address) => address,
            None => {
                fresh += size.next_multiple_of(16);
                fresh
            }
        };
        let out = &mut payload[length..];
        let placed = |made: Event, site: u8| Event {
            node: NodeId(2 + u32::from(site)),
            stack_pointer: 0x7ffc_0000_0000 - u64::from(site) * 64,
            kept_frames: (site % 64 > 60).then_some(u32::from(site)),
            align_log2: site % 5,
            ..made
        };
        let written = match *step {
            Step::Obtain { site, size, reuse } => {
                let size = u64::from(size);
                let address = address(size, reuse);
                live.push((address, size));
                let kind = if site == 5 { EventKind::AllocZeroed } else { EventKind::Alloc };
                encoder.event(out, &placed(event(kind, 3, stamp, address, size), site))
            }
            Step::Free { site, which } => {
                // One that was obtained before this chunk, where none is live.
                let (address, size) = match live.len() {
                    0 => (0x5500_0000_0000 + u64::from(which), u64::from(which)),
                    count => live.swap_remove(usize::from(which) % count),
                };
                freed.push(address);
                encoder.event(out, &placed(event(EventKind::Free, 3, stamp, address, size), site))
            }
            Step::Grow { which, moves } => {
                let Some(index) = usize::from(which).checked_rem(live.len()) else { continue };
                let (old_address, old_size) = live[index];
                let size = old_size * 2;
                let address = if moves { address(size, false) } else { old_address };
                live[index] = (address, size);
                let made = event(EventKind::Realloc, 3, stamp, address, size);
                let begin_stamp = stamp - u64::from(ticks) / 2;
                encoder.event(out, &Event { old_address, old_size, begin_stamp, ..made })
            }
            Step::Fail { size } => {
                let made = event(EventKind::Alloc, 3, stamp, 0, u64::from(size) << 20);
                encoder.event(out, &Event { failed: true, ..made })
            }
            Step::Mark => encoder.marker(out, stamp, b"here"),
            Step::Define { parent } => {
                node += 1;
                let parent = NodeId(if parent == 0 { node - 1 } else { u32::from(parent) });
                let address = 0x5555_0000_0000 + u64::from(node % 7) * 64;
                encoder.node(out, &NodeDefinition { id: NodeId(node), parent, address })
            }
        };
        length += written.expect("room");
    }
    payload.truncate(length);
    payload
}

fn plain(_effort: Effort, _column: &[u8], _out: &mut [u8]) -> Option<usize> {
    None
}

fn zstd(_effort: Effort, column: &[u8], out: &mut [u8]) -> Option<usize> {
    zstd_safe::compress(out, column, 1).ok()
}

proptest! {
    #[test]
    fn packed_chunks_give_the_records_that_rows_give(
        steps in vec(step(), 0..600),
        ticks in vec(0..700u16, 1..50),
    ) {
        let payload = payload(&steps, &ticks);
        let mut decoder = Decoder::new(&payload);
        let mut written = Vec::new();
        while let Some(record) = decoder.next_record().expect("sound rows") {
            written.push(record);
        }
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("either");
        for packed in [false, true] {
            let window = Window { slots: 1, chunk_bytes: 4_096 };
            let mut writer = RecordingWriter::create(&path, &header(), window).expect("creates");
            if packed {
                writer.pack_chunks(1);
            }
            for record in written.iter().filter(|record| !is_context(record)) {
                writer.write(0, record).expect("writes");
            }
            writer.finish(None).expect("finishes");
            let (mut records, skipped) = records(&path);
            records.retain(|record| !is_context(record));
            prop_assert!(skipped.is_empty());
            prop_assert!(records == written[1..], "packed: {}", packed);
        }
    }

    #[test]
    fn no_bytes_make_unpacking_panic_or_grow_beyond_bounds(
        steps in vec(step(), 1..200),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let payload = payload(&steps, &[7]);
        let mut out = vec![0; payload.len() * 4 + 1_000];
        let length = Packer::new().pack(HeapSpace::default().lend(), &payload, &mut out, plain).expect("packs");
        out.truncate(length);
        for (index, byte) in changes {
            out[index.index(length)] = byte;
        }
        if cuts {
            out.truncate(cut.index(length));
        }
        let mut rows = Vec::new();
        let _ = Unpacker::default().unpack(&out, payload.len() as u32, &mut rows);
        // A column's byte makes a record of a few dozen at most.
        prop_assert!(rows.len() <= payload.len() * 4 * 64);
    }

    #[test]
    fn anything_at_all_is_refused_or_unpacked(
        bytes in vec(any::<u8>(), 0..600),
        raw_bytes in any::<u32>(),
    ) {
        let _ = Unpacker::default().unpack(&bytes, raw_bytes % 100_000, &mut Vec::new());
    }
}

#[test]
fn chunks_that_mislead_come_back_byte_for_byte_and_record_for_record() {
    // The same packer and unpacker for all: nothing of a chunk may count in the next.
    let (mut packer, mut unpacker) = (Packer::new(), Unpacker::default());
    let mut space = HeapSpace::default();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("chunk");
    let (mut out, mut back) = (Vec::new(), Vec::new());
    let mut roundings = [0; 256];
    for seed in 0..1_000 * soak() {
        let rows = harsh_rows::rows(seed);
        out.resize(rows.len() * 4 + 1_000, 0);
        let compress = if seed.is_multiple_of(8) { plain } else { zstd };
        let Some(length) = packer.pack(space.lend(), &rows, &mut out, compress) else {
            // Only a column that is too long for it.
            assert!(rows.len() > 128 << 10, "seed {seed}");
            continue;
        };
        roundings[usize::from(out[1])] += 1;
        back.clear();
        let unpacked = unpacker.unpack(&out[..length], rows.len() as u32, &mut back);
        assert_eq!(unpacked, Ok(()), "seed {seed}");
        assert!(back == rows, "seed {seed}");
        if length < rows.len() {
            assert_read(&path, &out[..length], &rows, seed);
        }
    }
    assert!(roundings[15] > 0 && roundings[7] > 0, "one of the two was never tried");
}

/// A recording of one packed chunk gives the records that its rows have.
fn assert_read(path: &std::path::Path, packed: &[u8], rows: &[u8], seed: u64) {
    let mut decoder = Decoder::new(rows);
    let (mut written, mut events) = (Vec::new(), 0);
    while let Some(record) = decoder.next_record().expect("sound rows") {
        events += u32::from(matches!(record, Record::Event(_)));
        written.push(record);
    }
    let header = BlockHeader {
        codec: Codec::Columns,
        raw_bytes: rows.len() as u32,
        stored_bytes: packed.len() as u64,
        events,
        first_stamp: written.first().and_then(Record::stamp).expect("a context"),
        last_stamp: decoder.position().1.stamp(),
        ..BlockHeader::empty(BlockKind::Chunk)
    };
    let mut bytes = header_bytes();
    bytes.extend_from_slice(&header.with_checksum(packed).encode());
    bytes.extend_from_slice(packed);
    bytes.resize(bytes.len().next_multiple_of(BLOCK_ALIGN_BYTES as usize), 0);
    std::fs::write(path, bytes).expect("written");
    let (records, skipped) = records(path);
    assert_eq!(skipped, [], "seed {seed}");
    assert!(records == written, "seed {seed}");
    let recording = Recording::open(path).expect("opens");
    let mut definitions = recording.definitions();
    let mut defined = Vec::new();
    while let Some(record) = definitions.next_record().expect("reads") {
        defined.push(record);
    }
    written.retain(|record| !matches!(record, Record::Event(_)));
    assert!(defined == written, "seed {seed}: definitions");
    assert_eq!(definitions.events(), u64::from(events), "seed {seed}");
}

/// What stands in front of a recording's blocks.
fn header_bytes() -> Vec<u8> {
    let mut bytes = header().encode().to_vec();
    bytes.resize(FILE_HEADER_BYTES, 0);
    bytes
}

/// Packs a chunk of these events, one thread's in order, and unpacks it.
fn assert_events_come_back(events: impl IntoIterator<Item = Event>) {
    let mut encoder = Encoder::new();
    let mut payload = vec![0; 256 << 10];
    let anchor = Anchor { ticks: 1_000, monotonic_ns: 1_000 };
    let context = Context { thread: ThreadId(3), stamp: 1_000, anchor };
    let mut length = encoder.context(&mut payload, &context).expect("room");
    for event in events {
        length += encoder.event(&mut payload[length..], &event).expect("room");
    }
    payload.truncate(length);
    let mut out = vec![0; payload.len() * 4 + 1_000];
    let mut space = HeapSpace::default();
    let length = Packer::new().pack(space.lend(), &payload, &mut out, plain).expect("packs");
    let mut rows = Vec::new();
    let unpacked = Unpacker::default().unpack(&out[..length], payload.len() as u32, &mut rows);
    assert_eq!(unpacked, Ok(()));
    assert!(rows == payload);
}

#[test]
fn blocks_come_back_where_allocations_and_frees_have_sites_in_common() {
    // What follows a site is kept by a hash, so that allocations meet what frees left there.
    let mut stamp = 1_000;
    let mut made = |kind, block: u64, node: u64| {
        stamp += 5;
        let (address, size) = (0x7f00_0000_0000 + block * 256, 16 * (1 + block % 12 * block % 5));
        let node = NodeId(node as u32);
        let plain = event(kind, 3, stamp, address, size);
        Event { node, stack_pointer: 0x7ffc_0000_0000, align_log2: 3, ..plain }
    };
    let mut events = Vec::new();
    for block in 0..1_000 {
        // Each from a place that is met once, and from one where all come together.
        events.push(made(EventKind::Alloc, block, 2 + block));
        events.push(made(EventKind::Free, block, 1));
        events.push(made(EventKind::Alloc, block + 12, 2_000 + block));
        events.push(made(EventKind::Alloc, block, 1));
        events.push(made(EventKind::Free, block + 12, 5_000 + block));
    }
    assert_events_come_back(events);
}

#[test]
fn events_come_back_whose_numbers_are_just_short_enough_for_a_run_or_just_too_long() {
    // As many of each as have no divisor in common: all come together with all.
    let heaps = [0x5555_0000_0000u64, 0x7f00_0000_0000];
    let ticks = [3, 0xff, 0x100, 0xfeff, 0xff00, 0xffff, 0x1_0000, 1 << 33, 0];
    let sizes = [24, 0x1fff, 0x2000, 0xffff, 0x1_0000];
    let aligns = [3, 7, 8, 14, 15, 40, 0];
    let kinds = [EventKind::Alloc, EventKind::Free, EventKind::AllocZeroed];
    let mut stamp = 1_000;
    assert_events_come_back((0..4_000usize).map(|number| {
        // The last few thousand differ by their heaps alone, and are one run.
        let rare = number < 2_000;
        let pick = |count: usize| if rare { number % count } else { 0 };
        stamp += ticks[pick(ticks.len())];
        let address = heaps[number / 3 % 2] + (number as u64 % 97) * 64;
        let plain = event(kinds[number % 3], 3, stamp, address, sizes[pick(sizes.len())]);
        let node = NodeId(2 + if rare { number as u32 / 16 % 11 } else { 0 });
        let align_log2 = aligns[pick(aligns.len())];
        Event { node, stack_pointer: 0x7ffc_0000_0000, align_log2, ..plain }
    }));
}

#[test]
fn a_packed_chunk_is_much_shorter_where_a_program_repeats_itself() {
    let steps: Vec<Step> = (0..4_000u16)
        .map(|n| match n % 2 {
            0 => Step::Obtain { site: (n % 6) as u8, size: n % 7 * 24, reuse: true },
            _ => Step::Free { site: 1, which: 0 },
        })
        .collect();
    let payload = payload(&steps, &[40, 55, 41]);
    let mut out = vec![0; payload.len()];
    let length =
        Packer::new().pack(HeapSpace::default().lend(), &payload, &mut out, zstd).expect("packs");
    assert!(length * 10 < payload.len(), "{length} of {} bytes", payload.len());
}

#[test]
fn matches_are_looked_for_only_where_that_pays() {
    let steps: Vec<Step> = (0..20_000u16)
        .map(|n| match n % 2 {
            0 => Step::Obtain { site: (n % 6) as u8, size: n % 7 * 24, reuse: true },
            _ => Step::Free { site: 1, which: 0 },
        })
        .collect();
    let payload = payload(&steps, &[40]);
    let (mut space, mut out) = (HeapSpace::default(), vec![0; payload.len() * 8]);
    // What is tried in nine chunks of the column of control bytes, known by its length, of whose bytes
    // either effort saves some hundredths.
    let mut efforts = |by_matches: usize, by_bytes: usize| {
        let (mut packer, mut efforts) = (Packer::new(), Vec::new());
        for _ in 0..9 {
            let compress = |effort, column: &[u8], _: &mut [u8]| {
                if column.len() != steps.len() + 1 {
                    return None;
                }
                efforts.push(effort);
                let saved = if effort == Effort::Matches { by_matches } else { by_bytes };
                (saved > 0).then(|| column.len() * (100 - saved) / 100)
            };
            packer.pack(space.lend(), &payload, &mut out, compress).expect("packs");
        }
        efforts
    };
    let tried = [Effort::Matches, Effort::Bytes];
    let expected = |seven: &[Effort]| [&tried, seven, &tried].concat();
    assert_eq!(efforts(50, 20), expected(&[Effort::Matches; 7]));
    assert_eq!(efforts(50, 49), expected(&[Effort::Bytes; 7]), "matches save next to nothing more");
    assert_eq!(efforts(1, 0), expected(&[]), "it stays as it is");
}

#[test]
fn an_allocators_size_classes_are_found_out_by_the_third_chunk() {
    // glibc gives 24 bytes and 16 bytes the same blocks, but not 25 bytes.
    let mut encoder = Encoder::new();
    let mut payload = vec![0; 100_000];
    let anchor = Anchor { ticks: 1_000, monotonic_ns: 1_000 };
    let context = Context { thread: ThreadId(3), stamp: 1_000, anchor };
    let mut length = encoder.context(&mut payload, &context).expect("room");
    for n in 0..1_000u64 {
        // An allocation gets what was freed before it.
        let (stamp, address) = (1_000 + n, 0x7f00_0000_0010 + n / 2 % 7 * 0x1000);
        let (kind, size) = match n % 4 {
            0 => (EventKind::Free, 24),
            1 => (EventKind::Alloc, 16),
            2 => (EventKind::Free, 32),
            _ => (EventKind::Alloc, 25),
        };
        let made = event(kind, 3, stamp, address, size);
        length += encoder.event(&mut payload[length..], &made).expect("room");
    }
    payload.truncate(length);
    let (mut packer, mut space) = (Packer::new(), HeapSpace::default());
    let mut out = vec![0; payload.len() * 4];
    let mut roundings = [0; 4];
    for rounding in &mut roundings {
        packer.pack(space.lend(), &payload, &mut out, plain).expect("packs");
        *rounding = out[1];
    }
    assert_eq!(roundings, [15, 7, 7, 7]);
}

#[test]
fn a_payload_that_is_no_row_of_records_is_not_packed() {
    let (mut packer, mut space) = (Packer::new(), HeapSpace::default());
    let mut out = vec![0; 10_000];
    assert_eq!(packer.pack(space.lend(), &[0xff; 100], &mut out, plain), None);
    let payload = payload(&[Step::Mark, Step::Free { site: 1, which: 1 }], &[5]);
    assert_eq!(
        packer.pack(space.lend(), &payload[..payload.len() - 1], &mut out, plain),
        None,
        "cut"
    );
    assert_eq!(packer.pack(space.lend(), &payload, &mut [0; 100], plain), None, "no room");
    assert!(packer.pack(space.lend(), &payload, &mut out, plain).is_some());
}

/// A recording of two hundred thousand events, its chunks packed or not.
fn recorded(path: &std::path::Path, packed: bool) -> Vec<Record> {
    let mut writer = RecordingWriter::create(path, &header(), Window::default()).expect("creates");
    if packed {
        writer.pack_chunks(1);
    }
    for n in 0..50_000u64 {
        let stream = (n % 3) as u32;
        for kind in [EventKind::Alloc, EventKind::Free] {
            let made = event(kind, stream + 1, 2_000 + n * 10, 0x1000 + n * 64, n % 300);
            writer.write(stream, &Record::Event(made)).expect("writes");
        }
    }
    writer.finish(None).expect("finishes");
    records(path).0
}

fn is_context(record: &Record) -> bool {
    matches!(record, Record::Context(_))
}

fn records(path: &std::path::Path) -> (Vec<Record>, Vec<Skipped>) {
    let recording = Recording::open(path).expect("opens");
    let mut merged = recording.merged();
    let mut records = Vec::new();
    while let Some(record) = merged.next_record().expect("reads") {
        records.push(record);
    }
    let skipped = recording.skipped().iter().chain(merged.skipped()).cloned().collect();
    (records, skipped)
}

#[test]
fn a_recording_with_packed_chunks_is_the_same_recording_in_fewer_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let (plain, packed) = (directory.path().join("plain"), directory.path().join("packed"));
    let records = recorded(&plain, false);
    assert!(records == recorded(&packed, true));
    let length = |path| std::fs::metadata(path).expect("exists").len();
    let window = 64 * (64 << 10);
    assert!((length(&packed) - window) * 3 < length(&plain) - window);
}

#[test]
fn what_packed_chunks_define_is_what_their_records_say() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("packed");
    let mut writer = RecordingWriter::create(&path, &header(), Window::default()).expect("creates");
    writer.pack_chunks(1);
    // Most chunks are nothing but events, some have a mark besides, some a node.
    for n in 0..200_000u64 {
        let stamp = 2_000 + n * 10;
        writer
            .write(0, &Record::Event(event(EventKind::Alloc, 1, stamp, n * 64, 8)))
            .expect("writes");
        if n % 70_000 == 69_999 {
            let text = format!("mark {n}").into();
            let mark = Record::Marker { thread: ThreadId(1), stamp: stamp + 1, text };
            writer.write(0, &mark).expect("writes");
        }
        if n % 90_000 == 89_999 {
            let node = NodeDefinition { id: NodeId(n as u32), parent: NodeId::ROOT, address: n };
            writer.write(0, &Record::Node(node)).expect("writes");
        }
    }
    writer.finish(None).expect("finishes");
    let (all, skipped) = records(&path);
    assert!(skipped.is_empty());
    let (events, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|record| matches!(record, Record::Event(_)));
    let recording = Recording::open(&path).expect("opens");
    let mut definitions = recording.definitions();
    let mut found = Vec::new();
    while let Some(record) = definitions.next_record().expect("reads") {
        found.push(record);
    }
    assert_eq!(found, others);
    assert!(found.iter().filter(|record| is_context(record)).count() > 9, "chunks of each sort");
    assert_eq!(definitions.events(), events.len() as u64);
    let Some(Record::Event(last)) = events.last() else { panic!("events are events") };
    assert_eq!(definitions.last_stamp(), last.stamp);
}

#[test]
fn a_packed_chunk_that_lies_is_skipped_and_the_rest_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("packed");
    let whole = recorded(&path, true).len();
    let mut bytes = std::fs::read(&path).expect("reads");
    // The first chunk of the log: its columns' number and lengths, under a checksum that is right.
    let log = FILE_HEADER_BYTES + BLOCK_HEADER_BYTES + 64 * (64 << 10);
    for (offset, value) in [(0, 0xff), (4, 0x7f), (7, 0xff), (12, 1)] {
        let saved = bytes.clone();
        bytes[log + BLOCK_HEADER_BYTES + offset] ^= value;
        confirm(&mut bytes, log);
        std::fs::write(&path, &bytes).expect("writes");
        let (records, skipped) = records(&path);
        assert!(records.len() < whole && records.len() > whole / 2);
        assert_eq!(skipped.len(), 1, "{skipped:?}");
        assert_eq!(skipped[0].offset, (log + BLOCK_HEADER_BYTES) as u64);
        bytes = saved;
    }
}

/// Makes the checksums of a block right.
fn confirm(bytes: &mut [u8], block: usize) {
    let stored = u64::from_le_bytes(bytes[block + 8..][..8].try_into().expect("8 bytes")) as usize;
    let payload = crc32fast::hash(&bytes[block + BLOCK_HEADER_BYTES..][..stored]);
    bytes[block + 56..][..4].copy_from_slice(&payload.to_le_bytes());
    let head = crc32fast::hash(&bytes[block..][..60]);
    bytes[block + 60..][..4].copy_from_slice(&head.to_le_bytes());
}
