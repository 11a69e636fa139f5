//! Whole files: cut, damaged, crafted, and read while they grow.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use alloc_trace_format::{
    Anchor, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, EndReason, Event, EventKind, ExitStatus,
    FILE_HEADER_BYTES, Follower, ReadError, Record, Recording, RecordingWriter, Window,
    append_exit_status,
};
use proptest::prelude::*;
use tempfile::TempDir;

use support::{event, header};

const EVENTS: u64 = 100;
const WINDOW: Window = Window { slots: 2, chunk_bytes: 256 };

/// A recording of two streams, with chunks in the log and in the window: 100 allocations and an end.
fn sample() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sample.trace");
    let mut writer = RecordingWriter::create(&path, &header(), WINDOW).expect("created");
    for number in 0..EVENTS {
        let record = Record::Event(allocation(number));
        writer.write(number as u32 % 2, &record).expect("written");
    }
    let end = Record::End { stamp: 9_000, reason: EndReason::Exited, events: EVENTS };
    writer.write(0, &end).expect("written");
    writer.finish(Some(Anchor { ticks: 9_000, monotonic_ns: 9_000 })).expect("finished");
    (directory, path)
}

fn allocation(number: u64) -> Event {
    event(EventKind::Alloc, number as u32 % 2 + 1, 1_001 + number, 0x1_0000 * (number + 1), 8)
}

/// Reads everything: the events, and whether nothing was skipped.
fn read(path: &Path) -> Result<(Vec<Event>, bool), ReadError> {
    let recording = Recording::open(path)?;
    let mut merged = recording.merged();
    let mut events = Vec::new();
    while let Some(record) = merged.next_record()? {
        if let Record::Event(event) = record {
            events.push(event);
        }
    }
    let whole = recording.skipped().is_empty() && merged.skipped().is_empty();
    Ok((events, whole))
}

#[test]
fn every_event_of_log_and_window_is_read_in_order() {
    let (_directory, path) = sample();
    let expected: Vec<Event> = (0..EVENTS).map(allocation).collect();
    assert_eq!(read(&path).expect("readable"), (expected, true));
    let recording = Recording::open(&path).expect("readable");
    assert_eq!(recording.events(), EVENTS);
    assert!(recording.logged_events() > 0 && recording.logged_events() < EVENTS, "both are tested");
}

#[test]
fn a_file_cut_at_any_byte_is_read_up_to_the_cut() {
    let (directory, path) = sample();
    let bytes = fs::read(&path).expect("readable");
    let all: Vec<Event> = (0..EVENTS).map(allocation).collect();
    let cut_path = directory.path().join("cut.trace");
    // Within the file header only a few places differ.
    let cuts = (0..128).chain(FILE_HEADER_BYTES - 2..bytes.len());
    let mut most = 0;
    for cut in cuts {
        fs::write(&cut_path, &bytes[..cut]).expect("written");
        match read(&cut_path) {
            Err(error) => {
                assert!(cut < FILE_HEADER_BYTES, "cut at {cut}: {error}");
                assert!(matches!(
                    error,
                    ReadError::Truncated { .. } | ReadError::NotARecording { .. }
                ));
                assert!(error.to_string().contains("cut.trace"));
            }
            Ok((events, whole)) => {
                assert!(cut >= FILE_HEADER_BYTES, "cut at {cut}");
                assert!(events.iter().all(|event| all.contains(event)), "cut at {cut}");
                assert!(events.len() >= most, "a longer file never gives less: cut at {cut}");
                assert!(!whole || events.is_empty() || cut % 64 == 0, "cut at {cut}");
                most = events.len();
            }
        }
    }
    assert!(most as u64 > EVENTS / 2);
}

#[test]
fn an_exit_status_is_found_behind_a_block_that_was_cut() {
    let (_directory, path) = sample();
    let bytes = fs::read(&path).expect("readable");
    fs::write(&path, &bytes[..bytes.len() - 70]).expect("written");
    append_exit_status(&path, ExitStatus::Signal(9)).expect("appended");
    let recording = Recording::open(&path).expect("readable");
    assert_eq!(recording.exit_status(), Some(ExitStatus::Signal(9)));
    append_exit_status(&path, ExitStatus::Code(3)).expect("appended");
    assert_eq!(Recording::open(&path).expect("open").exit_status(), Some(ExitStatus::Code(3)));
}

/// A file header with crafted blocks behind it, their checksums right.
fn crafted(directory: &TempDir, blocks: &[BlockHeader]) -> PathBuf {
    let path = directory.path().join("crafted.trace");
    let mut bytes = header().encode().to_vec();
    bytes.resize(FILE_HEADER_BYTES, 0);
    for block in blocks {
        bytes.extend(block.encode());
    }
    fs::write(&path, bytes).expect("written");
    path
}

/// Reads a crafted file in both ways; whatever it says, both come to an end.
fn survive(path: &Path) {
    let (events, _) = read(path).expect("damage is no error");
    assert!(events.is_empty());
    let mut follower = Follower::open(path).expect("opened");
    assert_eq!(follower.poll(usize::MAX, |_| ()).expect("polled").records, 0);
}

#[test]
fn an_extent_that_claims_billions_of_slots_takes_no_memory() {
    let directory = tempfile::tempdir().expect("a directory");
    for (raw_bytes, stored_bytes) in [(256, 0), (65, 0), (256, 1 << 20)] {
        let extent = BlockHeader {
            raw_bytes,
            stored_bytes,
            sequence: u32::MAX,
            ..BlockHeader::empty(BlockKind::Extent)
        };
        survive(&crafted(&directory, &[extent, BlockHeader::empty(BlockKind::Padding)]));
    }
}

#[test]
fn an_extent_whose_chunks_have_no_room_is_passed_over() {
    let directory = tempfile::tempdir().expect("a directory");
    for raw_bytes in [0, 1, 63, 64, u32::MAX] {
        let extent =
            BlockHeader { raw_bytes, sequence: 1, ..BlockHeader::empty(BlockKind::Extent) };
        survive(&crafted(&directory, &[extent, BlockHeader::empty(BlockKind::Padding)]));
    }
}

#[test]
fn a_block_of_absurd_length_ends_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    for stored_bytes in [u64::MAX, u64::MAX - 64, 1 << 63] {
        for kind in [BlockKind::Chunk, BlockKind::Other(200), BlockKind::ExitStatus] {
            let long = BlockHeader { stored_bytes, ..BlockHeader::empty(kind) };
            let path = crafted(&directory, &[long]);
            survive(&path);
            append_exit_status(&path, ExitStatus::Code(0)).expect("appended");
        }
    }
}

#[test]
fn a_chunk_number_from_nowhere_does_not_keep_a_follower_busy() {
    let (_directory, path) = sample();
    let mut bytes = fs::read(&path).expect("readable");
    // The state word of the window's first chunk: its upper half is the sequence.
    let sequence = FILE_HEADER_BYTES + BLOCK_HEADER_BYTES + 8 + 4;
    bytes[sequence..sequence + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    fs::write(&path, bytes).expect("written");
    let mut follower = Follower::open(&path).expect("opened");
    assert!(follower.poll(usize::MAX, |_| ()).expect("polled").records > 0);
    assert!(!read(&path).expect("readable").1, "chunks are missing");
}

proptest! {
    #[test]
    fn flipped_bits_never_make_a_reader_panic(
        flips in proptest::collection::vec((0..3_usize, any::<proptest::sample::Index>()), 1..12),
    ) {
        let (_directory, path) = sample();
        let mut bytes = fs::read(&path).expect("readable");
        for (part, index) in flips {
            // The unused rest of the file header is left out: flips there change nothing.
            let range = match part {
                0 => 0..128,
                _ => FILE_HEADER_BYTES..bytes.len(),
            };
            let bit = range.start * 8 + index.index((range.end - range.start) * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        fs::write(&path, bytes).expect("written");
        if let Ok((events, _)) = read(&path) {
            prop_assert!(events.len() < 2_000);
        }
        if let Ok(mut follower) = Follower::open(&path) {
            let _ = follower.poll(usize::MAX, |_| ());
        }
    }
}

#[test]
fn a_follower_sees_every_record_of_a_growing_file_once() {
    for batch in [usize::MAX, 7] {
        follow_growing(batch);
    }
}

#[test]
fn a_follower_that_first_looks_when_the_window_was_given_back_sees_every_record() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("stopped.trace");
    let mut writer = RecordingWriter::create(&path, &header(), WINDOW).expect("created");
    let mut follower = Follower::open(&path).expect("opened");
    for number in 0..100 {
        writer.write(number as u32 % 2, &Record::Event(allocation(number))).expect("written");
    }
    for stream in [0, 1] {
        writer.drain(stream).expect("drained");
    }
    writer.finish(None).expect("finished");
    // What a recorder does that was stopped: the window becomes a hole.
    let mut bytes = fs::read(&path).expect("readable");
    let begin = FILE_HEADER_BYTES + BLOCK_HEADER_BYTES;
    bytes[begin..][..(WINDOW.slots * WINDOW.chunk_bytes) as usize].fill(0);
    fs::write(&path, bytes).expect("written");
    let mut events = 0;
    let count = |record| events += u64::from(matches!(record, Record::Event(_)));
    follower.poll(usize::MAX, count).expect("polled");
    assert_eq!(events, 100);
}

#[test]
fn a_follower_waits_for_what_stands_behind_a_block_that_is_not_written_yet() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("hole.trace");
    let mut writer = RecordingWriter::create(&path, &header(), WINDOW).expect("created");
    writer.flush().expect("flushed");
    let hole = fs::metadata(&path).expect("a file").len() as usize;
    let mut write = |stream, numbers: std::ops::Range<u64>, drain: bool| {
        for number in numbers {
            writer.write(stream, &Record::Event(allocation(number))).expect("written");
        }
        if drain {
            writer.drain(stream).expect("drained");
        }
        writer.flush().expect("flushed");
        fs::metadata(&path).expect("a file").len() as usize
    };
    // One thread has reserved the place of its chunk and was stopped; another one's chunk stands
    // behind it, and that thread goes on in the window.
    let end_of_hole = write(1, 0..4, true);
    write(0, 4..8, true);
    write(0, 8..10, false);
    let bytes = fs::read(&path).expect("readable");
    let mut torn = bytes.clone();
    torn[hole..end_of_hole].fill(0);
    let mut follower = Follower::open(&path).expect("opened");
    let mut seen = Vec::new();
    let mut poll = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("written");
        let take = |record| {
            if let Record::Event(event) = record {
                seen.push(event.address);
            }
        };
        (follower.poll(usize::MAX, take).expect("polled").read_until, seen.len())
    };
    let (read_until, events) = poll(&torn);
    assert!(read_until.is_some(), "nothing is complete yet");
    assert_eq!(events, 0, "of a stream whose chunk before is not to be found yet");
    assert_eq!(poll(&bytes), (None, 10));
    let expected = [4, 5, 6, 7, 8, 9, 0, 1, 2, 3].map(|number| allocation(number).address);
    assert_eq!(seen, expected);
}

/// A file of four allocations in the window, and the same file once their chunk is in the log.
fn before_and_after_a_move(path: &Path) -> (Vec<u8>, Vec<u8>) {
    let mut writer = RecordingWriter::create(path, &header(), WINDOW).expect("created");
    for number in [0, 2, 4, 6] {
        writer.write(0, &Record::Event(allocation(number))).expect("written");
    }
    writer.flush().expect("flushed");
    let before = fs::read(path).expect("readable");
    writer.drain(0).expect("drained");
    writer.flush().expect("flushed");
    let after = fs::read(path).expect("readable");
    (before, after)
}

#[test]
fn a_follower_reads_a_chunk_in_the_window_while_it_is_being_moved_to_the_log() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("moved.trace");
    let (before, after) = before_and_after_a_move(&path);
    // The block's header is in the file, its payload not yet, and the slot still has the chunk.
    let mut between = after.clone();
    between[..before.len()].copy_from_slice(&before);
    between[before.len() + BLOCK_HEADER_BYTES..].fill(0);
    let mut follower = Follower::open(&path).expect("opened");
    let mut seen = Vec::new();
    for bytes in [&between, &after, &after] {
        fs::write(&path, bytes).expect("written");
        let take = |record| {
            if let Record::Event(event) = record {
                seen.push(event.address);
            }
        };
        assert_eq!(follower.poll(usize::MAX, take).expect("polled").read_until, None);
    }
    assert_eq!(seen, [0, 2, 4, 6].map(|number| allocation(number).address));
}

#[test]
fn a_chunk_that_was_being_moved_to_the_log_when_the_process_died_is_not_missing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("died.trace");
    let (before, after) = before_and_after_a_move(&path);
    let expected: Vec<Event> = [0, 2, 4, 6].map(allocation).into();
    // The slot still has the chunk; its block is in the file up to any byte of its payload.
    for end in before.len() + BLOCK_HEADER_BYTES..after.len() {
        let died = [&before[..], &after[before.len()..end]].concat();
        fs::write(&path, died).expect("written");
        assert_eq!(read(&path).expect("readable"), (expected.clone(), true), "cut at {end}");
    }
}

fn follow_growing(batch: usize) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("growing.trace");
    let mut writer = RecordingWriter::create(&path, &header(), WINDOW).expect("created");
    let mut follower = Follower::open(&path).expect("opened");
    let mut seen: Vec<Event> = Vec::new();
    // Polls until there is no more than a batch takes.
    let mut poll = |seen: &mut Vec<Event>| {
        let mut records = 0;
        loop {
            let polled = follower.poll(batch, |record| {
                if let Record::Event(event) = record {
                    seen.push(event);
                }
            });
            let polled = polled.expect("polled");
            records += polled.records;
            if polled.read_until.is_none() {
                return records;
            }
        }
    };
    for number in 0..400 {
        writer.write(number as u32 % 2, &Record::Event(allocation(number))).expect("written");
        match number % 50 {
            // As a running process leaves the file at any time.
            0..20 => {
                writer.flush().expect("flushed");
                poll(&mut seen);
                assert_eq!(seen.len() as u64, number + 1, "all that is in the file");
            }
            // Chunks fill up and move to the log unseen.
            20..40 => {}
            // A chunk moves to the log although there was room in it.
            _ => {
                writer.drain(number as u32 % 2).expect("drained");
                writer.flush().expect("flushed");
                poll(&mut seen);
            }
        }
    }
    writer.finish(None).expect("finished");
    poll(&mut seen);
    assert_eq!(poll(&mut seen), 0, "nothing is given twice");
    seen.sort_by_key(|event| event.stamp);
    let expected: Vec<Event> = (0..400).map(allocation).collect();
    assert_eq!(seen, expected);
}

#[test]
fn what_is_no_recording_is_told_with_its_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = directory.path().join("text");
    fs::write(&text, "no recording, but long enough to hold a magic number").expect("written");
    let empty = directory.path().join("empty");
    fs::write(&empty, "").expect("written");
    let missing = directory.path().join("missing");
    for path in [&text, &empty] {
        for error in [Recording::open(path).map(drop), Follower::open(path).map(drop)] {
            let error = error.expect_err("refused");
            assert!(matches!(&error, ReadError::NotARecording { path: told } if told == path));
        }
    }
    for error in
        [Recording::open(directory.path()).map(drop), Follower::open(directory.path()).map(drop)]
    {
        assert!(matches!(error, Err(ReadError::NotAFile { .. })));
    }
    assert!(matches!(Recording::open(&missing), Err(ReadError::Io { .. })));
}
