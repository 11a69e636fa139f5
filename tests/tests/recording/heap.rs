//! Snapshots of the heap below the recorder.

use alloc_trace_format::{HeapSnapshot, SnapshotReason};
use std::fs::File;

use tempfile::TempDir;

use crate::exact::{record, report};
use crate::history::History;
use crate::program::{OVER_CORE, OVER_POOL, OVER_SYSTEM, recorded, run, scenario};
use crate::stepped::Stepped;

/// Blocks of a size that are live.
fn live(snapshot: &HeapSnapshot, size: u64) -> u64 {
    let class = snapshot.classes.iter().find(|class| class.block_bytes >= size);
    class.map_or(0, |class| class.live)
}

#[track_caller]
fn assert_snapshots(history: &History) {
    for snapshot in &history.heap_snapshots {
        for class in &snapshot.classes {
            assert!(class.pages > 0 && class.live + class.cached <= class.capacity, "{class:?}");
        }
        assert!(snapshot.classes.is_sorted_by_key(|class| class.block_bytes));
        let figures = &snapshot.figures;
        assert!(figures.mapped_bytes >= figures.page_bytes + figures.huge_bytes, "{figures:?}");
    }
    let of = |wanted| history.heap_snapshots.iter().filter(move |one| one.reason == wanted);
    let [before, held, after] = of(SnapshotReason::Requested).collect::<Vec<_>>()[..] else {
        panic!("three were asked for: {:?}", history.heap_snapshots)
    };
    // What the runtime and the test's own table take comes on top.
    let more = |snapshot, size| live(snapshot, size) - live(before, size);
    assert!((3_000..3_100).contains(&more(held, 5_000)), "{held:?}");
    assert_eq!(more(after, 5_000), 0, "{after:?}");
    // That of 300,000 bytes, and the program's table of the 3,000.
    assert_eq!(held.figures.large_blocks, before.figures.large_blocks + 2);
    assert_eq!(held.figures.huge_blocks, before.figures.huge_blocks + 1);
    let huge = held.figures.huge_requested_bytes - before.figures.huge_requested_bytes;
    assert_eq!(huge, 40_000_000);
    assert!(held.figures.huge_bytes >= 40_000_000);
    assert_eq!(after.figures.huge_blocks, before.figures.huge_blocks);

    let first = history.heap_snapshots.first().expect("one at the start");
    let last = history.heap_snapshots.last().expect("one at the end");
    assert_eq!((first.reason, last.reason), (SnapshotReason::Start, SnapshotReason::End));
    assert_eq!((of(SnapshotReason::Start).count(), of(SnapshotReason::End).count()), (1, 1));
    assert!(live(last, 1_000) < 1_000, "{last:?}");
    let peak = of(SnapshotReason::Peak).next_back().expect("it grew by 48 MiB");
    assert!(live(peak, 1_000) > 10_000, "{peak:?}");
}

#[test]
fn snapshots_of_the_heap_say_what_it_held_at_start_peak_and_end_and_when_asked() {
    let directory = TempDir::new().expect("a directory");
    for options in [",window=1M", ",window=1M,compress=off,stacks=off"] {
        let path = directory.path().join("recording");
        let mut command = recorded(OVER_CORE, &["heap_snapshots"], &path, options);
        assert_eq!(run(&mut command).quiet().stdout, "true\n");
        let history = History::read(&path);
        history.assert_whole();
        assert_snapshots(&history);
        let said = report(&path, &["--no-symbols"]);
        let taken = said["memory"]["heap_snapshots"].as_array().expect("a list");
        assert_eq!(taken.len(), history.heap_snapshots.len());
        let resident = said["memory"]["resident"].as_array().expect("a list");
        assert_eq!(resident.len(), history.resident.len());
    }
}

#[test]
fn a_recording_that_the_program_begins_has_snapshots_and_one_that_has_ended_takes_none() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let arguments = ["heap_snapshots", &record(&path)];
    assert_eq!(run(&mut scenario(OVER_CORE, &arguments)).quiet().stdout, "true\n");
    let reasons = |path| -> Vec<_> {
        let history = History::read(path);
        history.heap_snapshots.iter().map(|snapshot| snapshot.reason).collect()
    };
    let taken = reasons(&path);
    assert_eq!(
        (taken.first(), taken.last()),
        (Some(&SnapshotReason::Start), Some(&SnapshotReason::End))
    );
    assert_eq!(run(&mut scenario(OVER_CORE, &["heap_snapshots"])).quiet().stdout, "false\n");
}

/// Snapshots that somebody asked for.
fn requested(history: &History) -> usize {
    let reasons = history.heap_snapshots.iter().map(|snapshot| snapshot.reason);
    reasons.filter(|&reason| reason == SnapshotReason::Requested).count()
}

#[test]
fn a_signal_asks_for_a_snapshot_of_whichever_thread_it_reaches() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let usr2 = format!("signal={}", libc::SIGUSR2);
    for (options, expected) in [
        (",snapshot-signal=USR2", 3),
        (",snapshot-signal=USR2,threads=worker", 1),
        (",snapshot-signal=USR2,paused", 0),
    ] {
        let mut command = recorded(OVER_CORE, &["snapshots_by_signal", &usr2], &path, options);
        run(&mut command).quiet();
        let history = History::read(&path);
        history.assert_sound();
        // The main thread is left out by the second: what it owes is taken once, by the worker.
        assert_eq!(requested(&history), expected, "{options}");
    }
}

#[test]
fn a_signal_that_interrupts_the_recorder_has_its_snapshot_taken_next() {
    let directory = TempDir::new().expect("a directory");
    let [recording, acknowledged] =
        ["recording", "acknowledged"].map(|name| directory.path().join(name));
    std::fs::write(&acknowledged, [0; 8]).expect("a file");
    let argument = format!("file={}", acknowledged.display());
    let options = ",snapshot-signal=USR2,compress=off";
    let mut command = recorded(OVER_CORE, &["acknowledged", &argument], &recording, options);
    let Some(program) = Stepped::start(&mut command) else {
        assert!(std::env::var_os("CI").is_none(), "no program can be run step by step");
        eprintln!("SKIPPED: no program can be run step by step");
        return;
    };
    let made = || std::fs::read(&acknowledged).expect("a number");
    while made() == [0; 8] {
        assert!(program.to_system_call());
    }
    let file = File::open(&recording).expect("a recording");
    let length = || file.metadata().expect("a file").len();
    let before = length();
    while length() == before {
        assert!(program.to_system_call());
    }
    // It stands at the end of the write of a full chunk, in a hook.
    program.interrupt(libc::SIGUSR2);
    let here = made();
    while made() == here {
        assert!(program.to_system_call());
    }
    drop(program);
    let history = History::read_killed(&recording);
    history.assert_whole();
    assert_eq!(requested(&history), 1);
}

#[test]
fn a_program_with_another_allocator_has_no_snapshots() {
    let directory = TempDir::new().expect("a directory");
    for program in [OVER_SYSTEM, OVER_POOL] {
        let path = directory.path().join("recording");
        run(&mut recorded(program, &["heap_snapshots"], &path, ",window=1M")).quiet();
        let history = History::read(&path);
        history.assert_whole();
        assert!(history.heap_snapshots.is_empty());
        assert!(history.resident.len() > 2);
    }
}
