//! Threads of a ring in each other's way, in an order that the test decides.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use alloc_trace_format::{BLOCK_HEADER_BYTES, BlockHeader, BlockKind};
use tempfile::TempDir;

use crate::program::{Finished, OVER_CORE, recorded};
use crate::ring::{Kept, RING};
use crate::stepped_threads::{Call, SteppedThreads, Tid};

/// So many chunks are written before threads that wrote in the beginning are late.
const CHUNKS: usize = 40;
/// So many threads are late: together their chunks take more than the rest of a segment.
const LATE: usize = 24;

fn late_threads(count: usize, recording: &Path) -> Command {
    recorded(OVER_CORE, &["ring_late", &format!("threads={count}")], recording, RING)
}

fn start(command: &mut Command) -> Option<SteppedThreads> {
    let program = SteppedThreads::start(command);
    if program.is_none() {
        assert!(std::env::var_os("CI").is_none(), "no program can be run step by step");
        eprintln!("SKIPPED: no program can be run step by step");
    }
    program
}

/// The program went on to its end, and its recording is whole.
#[track_caller]
fn assert_whole(finished: Finished, recording: &Path) {
    let finished = finished.quiet();
    let kept = Kept::read(recording);
    assert!(kept.horizon.is_some(), "a test of nothing");
    kept.assert_defined();
    assert_eq!(kept.strangers, 0);
    let left = kept.live.values().filter(|event| event.align() == 32).count() as u64;
    assert_eq!(finished.numbers(), [left]);
}

fn is(number: libc::c_long) -> impl Fn(&Call) -> bool {
    move |call| call.number == number
}

fn writes(call: &Call) -> bool {
    call.number == libc::SYS_pwritev
}

/// What a call writes: where in the file, and its bytes.
fn written(program: &SteppedThreads, call: &Call) -> (u64, Vec<u8>) {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("a word"));
    let vectors = program.memory(call.arguments[1], 16 * call.arguments[2] as usize);
    let mut bytes = Vec::new();
    for vector in vectors.chunks_exact(16) {
        let (address, length) = (word(&vector[..8]), word(&vector[8..]));
        bytes.extend(program.memory(address, length as usize));
    }
    (call.arguments[3], bytes)
}

/// Lets one of the threads that read standard input go on to a call that is `wanted`.
fn wake(
    program: &mut SteppedThreads,
    reading: &mut Vec<Tid>,
    wanted: fn(&Call) -> bool,
) -> (Tid, Option<Call>) {
    program.wake_one();
    let thread = program.wait_for_one_of(reading);
    reading.retain(|&other| other != thread);
    (thread, program.run_to_call(thread, wanted))
}

#[test]
fn a_chunk_that_is_just_being_written_ends_no_recording() {
    let directory = TempDir::new().expect("a directory");
    let recording = directory.path().join("recording");
    let Some(mut program) = start(&mut late_threads(1, &recording)) else { return };
    let mut reading = program.until_reading(1);
    let main = program.main();
    // The first time that room is made: what the windows hold has been looked at, the digests not yet.
    program.run_to_call(main, is(libc::SYS_pread64)).expect("room is made");
    let (late, mut call) = wake(&mut program, &mut reading, writes);
    let (offset, mut bytes) = written(&program, &call.expect("its chunk"));
    let mut header = BlockHeader::decode(&bytes).expect("a block");
    assert_eq!(header.kind, BlockKind::Chunk);
    assert_eq!(header.stream, 1, "the late thread's");
    let mut place = offset;
    while header.kind != BlockKind::Digest {
        call = program.run_to_call(late, writes);
        (place, bytes) = written(&program, &call.expect("the digest"));
        header = BlockHeader::decode(&bytes).expect("a block");
    }
    // The kernel has copied its front. What is behind that is of an earlier round.
    let half = BLOCK_HEADER_BYTES + (bytes.len() - BLOCK_HEADER_BYTES) / 2;
    bytes[half..].fill(0xff);
    let file = File::options().write(true).open(&recording).expect("writable");
    file.write_all_at(&bytes, place).expect("written");
    for _ in 0..2 {
        let call = program.run_to_call(main, |call| writes(call) || call.number == libc::SYS_write);
        assert_eq!(call.expect("it goes on").number, libc::SYS_pwritev, "the recording ends");
    }
    assert_whole(program.let_go(), &recording);
}

#[test]
fn threads_that_all_wait_for_room_with_chunks_of_old_let_one_of_them_make_it() {
    let directory = TempDir::new().expect("a directory");
    let recording = directory.path().join("recording");
    let Some(mut program) = start(&mut late_threads(LATE, &recording)) else { return };
    let mut reading = program.until_reading(LATE);
    let main = program.main();
    for _ in 0..CHUNKS {
        program.run_to_call(main, writes).expect("a chunk");
    }
    // In its room, which is made for it: in nobody's way but that of whoever makes room in the ring.
    wake(&mut program, &mut reading, |call| call.number == libc::SYS_mprotect).1.expect("a room");
    for _ in 0..5 {
        program.run_to_call(main, is(libc::SYS_nanosleep)).expect("the ring is full");
    }
    // There may be room for a short chunk or two, but not for all.
    let waits = |call: &Call| call.number == libc::SYS_nanosleep;
    while wake(&mut program, &mut reading, waits).1.is_none() {
        assert!(reading.len() > 1, "the ring is not full");
    }
    // That one waits in the third room, and the next one for a room.
    let waits_for_room = |call: &Call| call.number == libc::SYS_futex;
    wake(&mut program, &mut reading, waits_for_room).1.expect("all rooms are taken");
    // The others, which sleep, would not end.
    for _ in &reading {
        program.wake_one();
    }
    for thread in reading {
        program.wait_for_one_of(&[thread]);
    }
    // The first one finds the ring full, and everybody else waiting.
    assert_whole(program.let_go(), &recording);
}
