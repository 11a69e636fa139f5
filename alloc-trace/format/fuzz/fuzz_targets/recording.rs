//! Any bytes as a recording: `cargo +nightly fuzz run recording` in `alloc-trace/format`.
//!
//! The first byte says what is done to the rest, so that the checksums, which no mutation hits, are no
//! wall before what they guard.
#![no_main]

#[path = "../survey.rs"]
mod survey;

use std::cell::LazyCell;
use std::fs;

use alloc_trace_format::{
    Anchor, Architecture, BLOCK_ALIGN_BYTES, BlockHeader, BlockKind, ClockKind, Codec, Decoder,
    FILE_HEADER_BYTES, FileHeader, Unpacker,
};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

thread_local! {
    static DIRECTORY: LazyCell<TempDir> =
        LazyCell::new(|| tempfile::tempdir().expect("a directory"));
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&how, rest)) = bytes.split_first() else { return };
    match how % 4 {
        0 => read(rest),
        1 => read(&with_chunk(rest, Codec::Plain)),
        2 => read(&with_chunk(rest, Codec::Columns)),
        _ => {
            let mut decoder = Decoder::new(rest);
            while let Ok(Some(_)) = decoder.next_record() {}
            let mut rows = Vec::new();
            // Whether it is one does not matter, only that the answer comes.
            let _ = Unpacker::default().unpack(rest, 1 << 16, &mut rows);
        }
    }
});

fn read(bytes: &[u8]) {
    let path = DIRECTORY.with(|directory| directory.path().join("any.trace"));
    fs::write(&path, bytes).expect("written");
    survey::survey(&path);
}

/// A recording whose log is one chunk, with a right checksum.
fn with_chunk(payload: &[u8], codec: Codec) -> Vec<u8> {
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
    let raw_bytes = match codec {
        Codec::Plain => payload.len() as u32,
        _ => 1 << 16,
    };
    let stored_bytes = payload.len() as u64;
    let block =
        BlockHeader { codec, stored_bytes, raw_bytes, ..BlockHeader::empty(BlockKind::Chunk) };
    let mut bytes = header.encode().to_vec();
    bytes.resize(FILE_HEADER_BYTES, 0);
    bytes.extend_from_slice(&block.with_checksum(payload).encode());
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(BLOCK_ALIGN_BYTES as usize), 0);
    bytes
}
