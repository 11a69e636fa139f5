//! A recording with every kind of record, cut at every byte, with a bit of every byte of its headers and
//! bytes of its payloads turned, with lengths that lie: whatever is done to it, reading ends, tells no two
//! stories, and never panics. The fuzz target in `fuzz` asks the same of anything at all.

#[path = "support/every_record.rs"]
mod every_record;
mod support;
#[path = "../fuzz/survey.rs"]
mod survey;

use std::fs;

use alloc_trace_format::{BLOCK_HEADER_BYTES, BlockHeader, BlockKind, FILE_HEADER_BYTES};
use proptest::prelude::*;
use survey::survey;

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
        every_record::write(&path, packed);
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
