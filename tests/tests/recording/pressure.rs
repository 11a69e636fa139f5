//! Where there is no memory, and how much of it the recorder takes.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use alloc_trace_format::EventKind;
use tempfile::TempDir;

use crate::history::History;
use crate::program::{OVER_CORE, OVER_POOL, OVER_SYSTEM, recorded, run, scenario};

#[test]
fn without_memory_the_recording_is_whole_and_says_which_requests_failed() {
    let directory = TempDir::new().expect("a directory");
    for program in [OVER_CORE, OVER_SYSTEM] {
        let path = directory.path().join("recording");
        let finished = run(&mut recorded(program, &["out_of_memory"], &path, "")).quiet();
        let &[answered, refused] = finished.numbers().as_slice() else { panic!("two numbers") };
        assert!(answered > 0 && refused > 1, "{answered} and {refused}: a test of nothing");
        let history = History::read(&path);
        history.assert_whole();
        let asked = |failed| {
            let sizes = [1 << 40, 1 << 20, 64 << 10, 4 << 10];
            let events = history.events.iter().filter(|event| event.kind == EventKind::Alloc);
            let events = events.filter(|event| event.failed == failed && event.align() == 8);
            events.filter(|event| sizes.contains(&event.size)).count() as u64
        };
        assert_eq!((asked(false), asked(true)), (answered, refused));
        assert_eq!((history.trails(65_000, 100), history.trails(67_000, 100)), (1, 1));

        let finished = run(&mut recorded(program, &["out_of_memory", "how=die"], &path, ""));
        assert_eq!(finished.status.signal(), Some(libc::SIGABRT), "{}", finished.stderr);
        assert_eq!(finished.complaints(), Vec::<&str>::new());
        let history = History::read(&path);
        history.assert_whole();
        assert_eq!(history.trails(65_000, 100), 1);
        let enormous = history.events.iter().filter(|event| event.size == 1 << 40);
        assert_eq!(enormous.filter(|event| event.failed).count(), 2);
    }
}

#[test]
fn the_recorders_memory_is_bounded_by_the_number_of_live_threads() {
    // On a memory file system, where there is one: there the window counts as well.
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    let directory = directory.expect("a directory");
    let path = directory.path().join("recording");
    let plain = |count: &str, paths: &str| {
        let plain = run(&mut scenario(OVER_SYSTEM, &["resident", count, paths])).quiet().numbers();
        let &[threads, bytes] = plain.as_slice() else { panic!("two numbers") };
        (threads, bytes)
    };
    for (count, paths) in [("count=10000", "paths=10"), ("count=64", "paths=2000")] {
        let (threads, without) = plain(count, paths);
        assert!(threads == 64 || threads >= 2_000, "the machine has only {threads} threads");
        assert_bounded(&path, threads, &[&format!("count={threads}"), paths], without);
    }
}

/// Records threads to `path`, which have so many bytes without a recording.
fn assert_bounded(path: &Path, possible: u64, arguments: &[&str], without: u64) {
    let arguments = [&["resident"], arguments].concat();
    // The kernel and the C library add what they like to each run: the least of three counts.
    let with = [(); 3].map(|()| {
        let mut command = recorded(OVER_SYSTEM, &arguments, path, "");
        let &[threads, bytes] = run(&mut command).quiet().numbers().as_slice() else {
            panic!("two numbers")
        };
        assert_eq!(threads, possible);
        bytes
    });
    let recorder = with.into_iter().min().expect("three").saturating_sub(without);
    let bound = (16 << 20) + possible * (8 << 10);
    assert!(recorder <= bound, "{recorder} bytes by {arguments:?}, more than {bound}");
    History::read(path).assert_whole();
}

#[test]
fn a_request_takes_no_more_of_the_callers_stack_than_is_said() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let finished = run(&mut recorded(OVER_POOL, &["stack"], &path, "")).quiet();
    let &[first, next, most, new, forked] = finished.numbers().as_slice() else { panic!("five") };
    // What the README says of builds that are not optimised, and some more.
    assert!(first <= 24 << 10 && next <= 12 << 10 && most <= 12 << 10, "{first} {next} {most}");
    assert!(new <= 12 << 10, "{new}");
    assert!(forked <= 24 << 10, "{forked}");
}
