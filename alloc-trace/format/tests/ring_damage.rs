//! A small ring with two commits, cut at every byte, with bits of its headers, commits and checkpoints turned and
//! with commits that lie: a reader refuses it or tells what is missing, and neither panics nor hangs.

mod support;
#[path = "../fuzz/survey.rs"]
mod survey;

use std::fs;
use std::path::Path;

use alloc_trace_format::{
    BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Commit, EventKind, FILE_HEADER_BYTES, HeldBlock,
    Item, ItemState, NodeDefinition, NodeId, Record, Recording, RecordingWriter, ThreadId,
    ThreadStart, Window,
};
use support::{event, header};
use survey::survey;

/// No event behind this is missing.
const HORIZON: u64 = 1_500;
/// What the checkpoint carries on.
const HELD: u64 = 0x90_0000;

/// The chunks of a recording without a ring: 40 requests of two threads, everything in the log.
fn chunks(directory: &Path) -> (Vec<u8>, Vec<Vec<u8>>) {
    let path = directory.join("plain.trace");
    let window = Window { slots: 2, chunk_bytes: 512 };
    let mut writer = RecordingWriter::create(&path, &header(), window).expect("created");
    for number in 0..40 {
        let (stream, stamp) = (number % 2, 2_000 + u64::from(number) * 10);
        let thread = ThreadId(stream + 1);
        if number < 2 {
            let name = "worker".into();
            let start = ThreadStart { thread, os_thread: 7, internal: false, stamp, name };
            writer.write(stream, &Record::ThreadStart(start)).expect("written");
        }
        let address = 0x10_0000 + u64::from(number) * 64;
        let event = event(EventKind::Alloc, thread.0, stamp + 1, address, 40);
        writer.write(stream, &Record::Event(event)).expect("written");
        if number % 10 > 7 {
            writer.drain(stream).expect("drained");
        }
    }
    writer.flush().expect("flushed");
    drop(writer);
    let bytes = fs::read(&path).expect("readable");
    let (mut front, mut chunks) = (FILE_HEADER_BYTES, Vec::new());
    let mut at = front;
    while let Some(block) = bytes.get(at..).and_then(BlockHeader::decode) {
        let end = at + block.span_bytes() as usize;
        match block.kind {
            BlockKind::Chunk => chunks.push(bytes[at..end.min(bytes.len())].to_vec()),
            _ => front = end,
        }
        at = end;
    }
    assert!(chunks.len() > 4, "{}", chunks.len());
    (bytes[..front].to_vec(), chunks)
}

/// A block that states its place.
fn placed(header: BlockHeader, place: usize, payload: &[u8]) -> Vec<u8> {
    let header = BlockHeader { place: place as u64, ..header };
    let mut bytes = header.with_checksum(payload).encode().to_vec();
    bytes.extend_from_slice(payload);
    bytes.resize(header.span_bytes() as usize, 0);
    bytes
}

fn checkpoint(number: u32) -> (BlockHeader, Vec<u8>) {
    let held = HeldBlock {
        address: HELD,
        stamp: 1_200,
        size: 77,
        align_log2: 4,
        node: NodeId(5),
        thread: ThreadId(1),
    };
    let node = NodeDefinition { id: NodeId(5), parent: NodeId::ROOT, address: 0x4000 };
    let items =
        [Item::Held(held), Item::Released { address: HELD + 64, stamp: 1_300 }, Item::Node(node)];
    let mut payload = vec![0; 256];
    let (mut state, mut length) = (ItemState::START, 0);
    for item in items {
        length += state.write(&mut payload[length..], &item).expect("room");
    }
    payload.truncate(length);
    let stored_bytes = length as u64;
    let header = BlockHeader {
        stored_bytes,
        raw_bytes: length as u32,
        stream: number,
        ..BlockHeader::empty(BlockKind::Checkpoint)
    };
    (header, payload)
}

struct Sample {
    directory: tempfile::TempDir,
    bytes: Vec<u8>,
    /// Where the ring's header is, and the blocks in it.
    ring: usize,
    blocks: Vec<(usize, BlockHeader)>,
    commit: Commit,
}

impl Sample {
    /// The ring is in its second round: the front of its tail's segment is a block that was left.
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut bytes, chunks) = chunks(directory.path());
        let fixed = header().encode();
        bytes[..fixed.len()].copy_from_slice(&fixed);
        let ring = bytes.len();
        let ring_bytes = 8 << 10;
        let (mut log, mut blocks) = (Vec::new(), Vec::new());
        for number in [1, 2] {
            let (header, payload) = checkpoint(number);
            blocks.push((ring + BLOCK_HEADER_BYTES + log.len(), header));
            let place = ring_bytes + log.len();
            log.extend(placed(header, place, &payload));
        }
        for chunk in &chunks {
            let header = BlockHeader::decode(chunk).expect("a block");
            let end = BLOCK_HEADER_BYTES + header.stored_bytes as usize;
            blocks.push((ring + BLOCK_HEADER_BYTES + log.len(), header));
            let place = ring_bytes + log.len();
            log.extend(placed(header, place, &chunk[BLOCK_HEADER_BYTES..end]));
        }
        assert!(log.len() < ring_bytes, "{}", log.len());
        log.resize(ring_bytes, 0x5a);
        let stored_bytes = ring_bytes as u64;
        let outer = BlockHeader { stored_bytes, ..BlockHeader::empty(BlockKind::Ring) };
        bytes.extend(outer.encode());
        bytes.extend(log);
        let place = ring_bytes as u64;
        let commit =
            Commit { number: 2, blocks: 1, tail: place, checkpoint: place, horizon: HORIZON };
        let mut sample = Self { directory, bytes, ring, blocks, commit };
        for commit in [Commit { number: 1, ..commit }, commit] {
            sample.bytes = sample.committed(commit);
        }
        sample
    }

    fn committed(&self, commit: Commit) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let (offset, encoded) = commit.encode();
        bytes[offset as usize..][..encoded.len()].copy_from_slice(&encoded);
        bytes
    }

    /// Reads a file in every way; answers how many events it has and whether the reader takes it for
    /// complete, or nothing where it refuses it.
    fn read(&self, bytes: &[u8]) -> Option<(Vec<u64>, bool)> {
        let path = self.directory.path().join("damaged.trace");
        fs::write(&path, bytes).expect("written");
        survey(&path);
        let recording = Recording::open(&path).ok()?;
        let mut merged = recording.merged();
        let mut addresses = Vec::new();
        while let Some(record) = merged.next_record().expect("readable") {
            if let Record::Event(event) = record {
                addresses.push(event.address);
            }
        }
        let whole = recording.skipped().is_empty() && merged.skipped().is_empty();
        Some((addresses, whole))
    }
}

#[test]
fn a_whole_ring_has_what_it_carries_and_everything_later() {
    let sample = Sample::new();
    let (addresses, whole) = sample.read(&sample.bytes).expect("a recording");
    assert!(whole);
    assert_eq!(addresses[0], HELD);
    assert_eq!(addresses.len(), 41);
}

#[test]
fn a_torn_commit_leaves_the_one_before() {
    let sample = Sample::new();
    let (offset, encoded) = sample.commit.encode();
    for byte in 0..encoded.len() {
        let mut bytes = sample.bytes.clone();
        bytes[offset as usize + byte] ^= 1 << (byte % 8);
        let (addresses, whole) = sample.read(&bytes).expect("a recording");
        assert_eq!((addresses.len(), whole), (41, true), "byte {byte}");
    }
}

#[test]
fn a_ring_cut_anywhere_is_read() {
    let sample = Sample::new();
    for length in 0..sample.bytes.len() {
        // The padding behind the last block changes nothing.
        let is_near = |&(at, header): &(usize, BlockHeader)| {
            (at..at + header.span_bytes() as usize).contains(&length)
        };
        if length > sample.ring + BLOCK_HEADER_BYTES && !sample.blocks.iter().any(is_near) {
            continue;
        }
        if length % 3 == 0 || length > sample.ring {
            sample.read(&sample.bytes[..length]);
        }
    }
}

#[test]
fn what_is_lost_of_a_ring_is_told() {
    let sample = Sample::new();
    // A checkpoint that is damaged anywhere is missed.
    let (at, header) = sample.blocks[1];
    assert_eq!((header.kind, header.stream), (BlockKind::Checkpoint, 2));
    for byte in 0..BLOCK_HEADER_BYTES + header.stored_bytes as usize {
        let mut bytes = sample.bytes.clone();
        bytes[at + byte] ^= 1 << (byte % 8);
        let (_, whole) = sample.read(&bytes).expect("a recording");
        assert!(!whole, "byte {byte} of the checkpoint");
    }
    // Every header in the file, and the payloads of the chunks.
    let fronts = [0, sample.ring].map(|at| (at, FILE_HEADER_BYTES.min(sample.ring - at + 64)));
    let inner = sample.blocks.iter().map(|&(at, header)| (at, header.span_bytes() as usize));
    for (at, length) in fronts.into_iter().chain(inner) {
        for byte in 0..length.min(sample.bytes.len() - at) {
            let mut bytes = sample.bytes.clone();
            bytes[at + byte] ^= 1 << (byte % 8);
            sample.read(&bytes);
        }
    }
}

#[test]
fn commits_and_headers_that_lie_are_survived() {
    let sample = Sample::new();
    for lie in [0, 1, 64, 8 << 10, 1 << 20, u64::MAX / 2, u64::MAX - 64, u64::MAX - 63, u64::MAX] {
        let commit = sample.commit;
        for commit in [
            Commit { tail: lie, ..commit },
            Commit { checkpoint: lie, ..commit },
            Commit { horizon: lie, ..commit },
            Commit { blocks: lie as u32, ..commit },
            Commit { number: (lie as u32).max(2) & !1, ..commit },
        ] {
            sample.read(&sample.committed(commit));
        }
        for &(at, header) in
            sample.blocks.iter().chain([&(sample.ring, BlockHeader::empty(BlockKind::Ring))])
        {
            for lying in [
                BlockHeader { stored_bytes: lie, ..header },
                BlockHeader { raw_bytes: lie as u32, ..header },
                BlockHeader { place: lie, ..header },
                BlockHeader { stream: lie as u32, ..header },
                BlockHeader { sequence: lie as u32, ..header },
            ] {
                let mut bytes = sample.bytes.clone();
                bytes[at..at + BLOCK_HEADER_BYTES].copy_from_slice(&lying.encode());
                sample.read(&bytes);
            }
        }
    }
}

#[test]
fn items_that_contradict_themselves_behind_a_right_checksum_are_survived() {
    let sample = Sample::new();
    let (at, header) = sample.blocks[1];
    let payload = at + BLOCK_HEADER_BYTES..at + BLOCK_HEADER_BYTES + header.stored_bytes as usize;
    for place in payload.clone() {
        for byte in (0..=u8::MAX).step_by(7) {
            let mut bytes = sample.bytes.clone();
            bytes[place] = byte;
            let old = BlockHeader::decode(&bytes[at..]).expect("a block");
            let whole = old.with_checksum(&bytes[payload.clone()]);
            bytes[at..at + BLOCK_HEADER_BYTES].copy_from_slice(&whole.encode());
            sample.read(&bytes);
        }
    }
}
