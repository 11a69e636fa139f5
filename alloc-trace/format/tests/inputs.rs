//! What the fuzz target is given, without a fuzzer: the seeds beside it, each changed some thousand times in
//! ways that look like chance and are the same in each run.

#[path = "support/every_record.rs"]
mod every_record;
#[path = "../fuzz/inputs.rs"]
mod inputs;
#[path = "support/soak.rs"]
mod soak;
mod support;
#[path = "../fuzz/survey.rs"]
mod survey;

use std::fs;
use std::path::{Path, PathBuf};

use alloc_trace_format::{
    Anchor, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, ChunkRow, Context, Effort, Encoder,
    EventKind, FILE_HEADER_BYTES, HeapSpace, HeldBlock, Item, ItemState, Packer, Rows, ThreadId,
};
use soak::soak;
use support::event;
use tempfile::TempDir;

/// How often each seed is changed by default.
const CHANGES: u64 = 500;
/// Events of the chunk that is packed.
const EVENTS: u16 = 200;

/// The seeds that are checked in.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/recording")
}

/// The longest chunk of the log of a recording, as rows.
fn rows(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).expect("readable");
    let (mut at, mut longest) = (FILE_HEADER_BYTES, Vec::new());
    while let Some(block) = bytes.get(at..).and_then(BlockHeader::decode) {
        let payload = at + BLOCK_HEADER_BYTES;
        if block.kind == BlockKind::Chunk && block.stored_bytes as usize > longest.len() {
            longest = bytes[payload..payload + block.stored_bytes as usize].to_vec();
        }
        at += block.span_bytes() as usize;
    }
    longest
}

/// A chunk that becomes shorter when it is packed, as rows.
fn many_events() -> Vec<u8> {
    let (mut encoder, mut rows) = (Encoder::new(), vec![0; 16 << 10]);
    let anchor = Anchor { ticks: 1_000, monotonic_ns: 1_000 };
    let context = Context { thread: ThreadId(1), stamp: 1_000, anchor };
    let mut length = encoder.context(&mut rows, &context).expect("room");
    for number in 0..u64::from(EVENTS) {
        let kind = if number % 2 == 0 { EventKind::Alloc } else { EventKind::Free };
        let address = 0x7f00_0000_1000 + number / 2 % 5 * 64;
        let event = event(kind, 1, 1_001 + number * 20, address, 24 + number / 2 % 5);
        length += encoder.event(&mut rows[length..], &event).expect("room");
    }
    rows.truncate(length);
    rows
}

/// A seed for each way to take an input, by name.
fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let directory = TempDir::new().expect("a directory");
    let [plain, packed] = ["plain", "packed"].map(|name| directory.path().join(name));
    every_record::write(&plain, false);
    every_record::write(&packed, true);
    let rows = rows(&plain);
    let length = |bytes: &[u8]| (bytes.len() as u16).to_le_bytes();
    let many = many_events();
    let mut columns = vec![0; many.len()];
    let compress =
        |_: Effort, column: &[u8], out: &mut [u8]| zstd_safe::compress(out, column, 1).ok();
    let packed_bytes = Packer::new()
        .pack(HeapSpace::default().lend(), &many, &mut columns, compress)
        .expect("packs");
    columns.truncate(packed_bytes);
    let packed_chunk = [&length(&many)[..], &EVENTS.to_le_bytes(), &columns].concat();
    let columns = [&length(&many)[..], &columns].concat();
    let mut carried = vec![0; 4096];
    let (mut state, mut carried_bytes) = (ItemState::START, 0);
    let mut found = Rows::new(&rows);
    while let Some(row) = found.next_row() {
        let item = match row {
            ChunkRow::Event => Item::Held(HeldBlock::of(found.event())),
            ChunkRow::Node(node) => Item::Node(node),
            ChunkRow::Record(record) => Item::Record(record),
            ChunkRow::Context(_, stamp) => Item::Released { address: 0x40, stamp },
        };
        carried_bytes += state.write(&mut carried[carried_bytes..], &item).expect("room");
    }
    carried.truncate(carried_bytes);
    let ring = [&length(&carried)[..], &carried, &rows].concat();
    let read = |path: &Path| fs::read(path).expect("readable");
    let seeds: [(&str, u8, &[u8]); 9] = [
        ("file", 0, &read(&plain)),
        ("packed-file", 0, &read(&packed)),
        ("chunk", 1, &rows),
        ("packed-chunk", 2, &packed_chunk),
        ("ring", 3, &ring),
        ("window", 4, &rows),
        ("rows", 5, &rows),
        ("items", 5, &carried),
        ("columns", 6, &columns),
    ];
    seeds.map(|(name, way, rest)| (name, [&[way], rest].concat())).to_vec()
}

#[test]
fn the_seeds_reach_what_they_are_for() {
    let place = TempDir::new().expect("a directory");
    for (name, today) in seeds() {
        assert!(inputs::take(&today, place.path()), "{name}");
        let seed = fs::read(directory().join(name)).expect("a seed");
        let reaches = seed[0] == today[0] && inputs::take(&seed, place.path());
        assert!(reaches, "{name} is of an older format: run this test with `--ignored`");
    }
}

#[test]
#[ignore = "writes the seeds anew, where the format has changed"]
fn write_seeds() {
    fs::create_dir_all(directory()).expect("a directory");
    for (name, seed) in seeds() {
        fs::write(directory().join(name), seed).expect("written");
    }
}

/// Numbers that look like chance.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }

    /// Changes an input in a few places.
    fn change(&mut self, seed: &[u8], other: &[u8]) -> Vec<u8> {
        const TELLING: [u8; 8] = [0, 1, 0x7f, 0x80, 0x81, 0xc0, 0xfe, 0xff];
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(6) {
            // The first byte says what the rest is taken for.
            let at = 1 + self.below(bytes.len() - 1);
            let length = self.below(24).min(bytes.len() - at);
            match self.below(8) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = TELLING[self.below(TELLING.len())],
                2 => bytes[at] = self.below(256) as u8,
                3 => drop(bytes.drain(at..at + length)),
                4 => {
                    let from = self.below(other.len());
                    let part = other[from..(from + length).min(other.len())].to_vec();
                    drop(bytes.splice(at..at, part));
                }
                5 => bytes[at..at + length].fill(TELLING[self.below(TELLING.len())]),
                6 => {
                    let from = 1 + self.below(bytes.len() - 1);
                    let part = bytes[from..(from + length).min(bytes.len())].to_vec();
                    drop(bytes.splice(at..at, part));
                }
                _ => bytes.truncate(at),
            }
            if bytes.len() < 2 {
                break;
            }
        }
        bytes
    }
}

#[test]
fn no_change_of_a_seed_makes_a_reader_panic_hang_or_contradict_itself() {
    let directory = TempDir::new().expect("a directory");
    let (seeds, mut random) = (seeds(), Random(1));
    let ways: std::collections::BTreeSet<u8> = seeds.iter().map(|(_, seed)| seed[0]).collect();
    assert_eq!(ways, (0..inputs::WAYS).collect(), "each way has a seed");
    for (_, seed) in &seeds {
        for _ in 0..CHANGES * soak() {
            let other = &seeds[random.below(seeds.len())].1;
            inputs::take(&random.change(seed, other), directory.path());
        }
    }
}
