//! What any bytes are taken for by the fuzz target and by the test that does without a fuzzer: the first
//! says what the rest is, so that the checksums, which no mutation hits, are no wall before what they guard.

use std::fs;
use std::path::Path;

use alloc_trace_format::{
    BLOCK_ALIGN_BYTES, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, CHUNK_HEADER_BYTES, CHUNK_MAGIC,
    ChunkHeader, ChunkRow, ChunkState, Codec, Commit, Decoder, Effort, FILE_HEADER_BYTES,
    FileHeader, HeapSpace, ItemState, Packer, RING_SEGMENTS, Record, Rows, Unpacker,
};

use crate::survey::survey;

/// How many ways there are to take an input.
pub(crate) const WAYS: u8 = 7;

/// Where a ring's commit says that nothing before is whole.
const HORIZON: u64 = 1_500;

/// Takes an input as its first byte says; answers whether it is a whole one. Panics where two ways to read
/// the same contradict each other.
pub(crate) fn take(input: &[u8], directory: &Path) -> bool {
    let Some((&way, rest)) = input.split_first() else { return false };
    let read = |bytes: &[u8]| {
        let path = directory.join("any.trace");
        fs::write(&path, bytes).expect("written");
        survey(&path)
    };
    match way % WAYS {
        0 => read(rest),
        1 => read(&with_chunk(rest, Codec::Plain)),
        2 => read(&with_chunk(rest, Codec::Columns)),
        3 => read(&with_ring(rest)),
        4 => read(&with_window(rest)),
        5 => rows_are_records(rest),
        _ => columns_are_rows(rest),
    }
}

/// The number in front of an input, and what is behind it.
fn number(input: &[u8]) -> (usize, &[u8]) {
    match input.split_first_chunk() {
        Some((number, rest)) => (usize::from(u16::from_le_bytes(*number)), rest),
        None => (0, &[]),
    }
}

/// A chunk's block: packed, numbers in front say how long it is unpacked and how many events it has.
fn chunk(input: &[u8], codec: Codec, place: u64) -> Vec<u8> {
    let (raw_bytes, events, payload) = match codec {
        Codec::Plain => (input.len(), 0, input),
        _ => {
            let (raw_bytes, rest) = number(input);
            let (events, payload) = number(rest);
            (raw_bytes, events, payload)
        }
    };
    let header = BlockHeader {
        codec,
        raw_bytes: raw_bytes as u32,
        events: events as u32,
        place,
        first_stamp: 1_000,
        last_stamp: 9_000,
        ..BlockHeader::empty(BlockKind::Chunk)
    };
    block(header, payload)
}

/// A block with a right checksum.
fn block(header: BlockHeader, payload: &[u8]) -> Vec<u8> {
    let header = BlockHeader { stored_bytes: payload.len() as u64, ..header };
    let mut bytes = header.with_checksum(payload).encode().to_vec();
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(BLOCK_ALIGN_BYTES as usize), 0);
    bytes
}

fn file_header() -> FileHeader {
    FileHeader::of_nanoseconds(1, 1_000)
}

fn file(header: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    bytes.resize(FILE_HEADER_BYTES, 0);
    bytes.extend_from_slice(rest);
    bytes
}

/// A recording whose log is one chunk.
fn with_chunk(input: &[u8], codec: Codec) -> Vec<u8> {
    file(&file_header().encode(), &chunk(input, codec, 0))
}

/// A recording with a ring in its second round: a checkpoint, as long as a number in front says, and a chunk.
fn with_ring(input: &[u8]) -> Vec<u8> {
    let (length, rest) = number(input);
    let (carried, rows) = rest.split_at(length.min(rest.len()));
    let round = (RING_SEGMENTS << 17) as usize;
    let header = BlockHeader {
        raw_bytes: carried.len() as u32,
        stream: 1,
        place: round as u64,
        ..BlockHeader::empty(BlockKind::Checkpoint)
    };
    let mut ring = block(header, carried);
    ring.extend(chunk(rows, Codec::Plain, (round + ring.len()) as u64));
    let outer =
        BlockHeader { stored_bytes: round as u64, ..BlockHeader::empty(BlockKind::Ring) }.encode();
    let mut bytes = file(&file_header().encode(), &[&outer[..], &ring].concat());
    let place = round as u64;
    let commit = Commit { number: 1, blocks: 1, tail: place, checkpoint: place, horizon: HORIZON };
    let (offset, encoded) = commit.encode();
    bytes[offset as usize..][..encoded.len()].copy_from_slice(&encoded);
    bytes
}

/// A recording whose records are in the window.
fn with_window(rows: &[u8]) -> Vec<u8> {
    let chunk_bytes = (CHUNK_HEADER_BYTES + rows.len()).next_multiple_of(64);
    let header = BlockHeader {
        stored_bytes: chunk_bytes as u64,
        raw_bytes: chunk_bytes as u32,
        sequence: 1,
        ..BlockHeader::empty(BlockKind::Extent)
    };
    let mut chunk = vec![0; chunk_bytes];
    let state = ChunkState { sequence: 0, committed_bytes: rows.len() as u32 };
    chunk[..4].copy_from_slice(&CHUNK_MAGIC.to_le_bytes());
    chunk[ChunkHeader::STATE_OFFSET..][..8].copy_from_slice(&state.to_bits().to_le_bytes());
    chunk[CHUNK_HEADER_BYTES..][..rows.len()].copy_from_slice(rows);
    file(&file_header().encode(), &[&header.encode()[..], &chunk].concat())
}

/// What the recorder reads of its own chunks, without allocating, is what every reader reads; and no
/// bytes are an item that goes on for ever.
fn rows_are_records(bytes: &[u8]) -> bool {
    let (mut rows, mut decoder) = (Rows::new(bytes), Decoder::new(bytes));
    let mut whole = false;
    while let Ok(found) = decoder.next_record() {
        let row = rows.next_row();
        match (found, row) {
            (Some(Record::Event(event)), Some(ChunkRow::Event)) => {
                assert_eq!(event, *rows.event());
            }
            (Some(Record::Node(node)), Some(ChunkRow::Node(row))) => assert_eq!(node, row),
            (Some(Record::Context(context)), Some(ChunkRow::Context(thread, stamp))) => {
                assert_eq!((context.thread, context.stamp), (thread, stamp));
            }
            (Some(_), Some(ChunkRow::Record(_))) => {}
            (None, None) => {
                whole = true;
                break;
            }
            (found, row) => panic!("{found:?} is {row:?}"),
        }
    }
    let (mut state, mut at) = (ItemState::START, 0);
    while let Some((_, length)) = state.read(&bytes[at..]) {
        assert!(length > 0);
        at += length;
    }
    whole || at == bytes.len()
}

/// What can be packed of a chunk comes back the same, and no bytes make unpacking panic.
fn columns_are_rows(bytes: &[u8]) -> bool {
    let mut decoder = Decoder::new(bytes);
    let mut whole = 0;
    while let Ok(Some(_)) = decoder.next_record() {
        whole = decoder.position().0;
    }
    let rows = &bytes[..whole];
    let mut packed = vec![0; rows.len() * 4 + 1_000];
    let plain = |_: Effort, _: &[u8], _: &mut [u8]| None;
    let packed_bytes = Packer::new().pack(HeapSpace::default().lend(), rows, &mut packed, plain);
    let (mut unpacker, mut unpacked) = (Unpacker::default(), Vec::new());
    if let Some(packed) = packed_bytes.and_then(|length| packed.get(..length))
        && unpacker.unpack(packed, rows.len() as u32, &mut unpacked).is_ok()
    {
        let mut again = Decoder::new(&unpacked);
        let mut decoder = Decoder::new(rows);
        while let Some(record) = decoder.next_record().expect("read before") {
            assert_eq!(again.next_record().ok().flatten(), Some(record));
        }
    }
    let (raw_bytes, columns) = number(bytes);
    unpacker.unpack(columns, raw_bytes as u32, &mut unpacked).is_ok()
}

const _: () = assert!(BLOCK_HEADER_BYTES == BLOCK_ALIGN_BYTES as usize);
