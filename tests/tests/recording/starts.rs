//! How a recording begins, and what happens where it cannot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use alloc_trace_format::{EndReason, EventKind};
use tempfile::TempDir;

use crate::exact::record;
use crate::history::History;
use crate::program::{OVER_SYSTEM, recorded, run, scenario};

/// Every entry of a directory and what is in it.
fn contents(directory: &Path) -> Vec<(String, Option<Vec<u8>>)> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut contents: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            (entry.file_name().into_string().expect("text"), fs::read(entry.path()).ok())
        })
        .collect();
    contents.sort();
    contents
}

/// Runs a program that is told to record to `path`, where that cannot be: it runs on, says so once,
/// and changes nothing.
#[track_caller]
fn assert_unrecorded(directory: &Path, path: &Path, reason: &str) {
    let before = contents(directory);
    let finished = run(&mut recorded(OVER_SYSTEM, &["nothing"], path, "")).success();
    assert_eq!(finished.stdout, "not recorded\n");
    let complaint = format!("alloc-trace: nothing is recorded: {}: {reason}\n", path.display());
    assert_eq!(finished.stderr, complaint);
    assert_eq!(contents(directory), before);

    // The same from code: an error that the program can show.
    let finished = run(&mut scenario(OVER_SYSTEM, &["refused", &record(path)])).quiet();
    let shown = path.display();
    if reason == "exists and is not a recording" {
        assert_eq!(finished.stdout, format!("{shown}: {reason}; it is left alone: \n"));
    } else {
        let (told, source) = finished.stdout.split_at(format!("cannot record to {shown}: ").len());
        assert_eq!(told, format!("cannot record to {shown}: "));
        assert!(source.contains("(os error "), "{source}");
    }
    assert_eq!(contents(directory), before);
}

#[test]
fn a_recorder_that_cannot_open_its_file_says_so_once_and_the_program_runs_on() {
    let directory = TempDir::new().expect("a directory");
    let directory = directory.path();
    fs::create_dir(directory.join("inner")).expect("a directory");
    fs::write(directory.join("data"), "somebody's\n").expect("a file");
    fs::write(directory.join("long"), vec![b'x'; 100_000]).expect("a file");
    let assert = |path: &str, reason| assert_unrecorded(directory, &directory.join(path), reason);
    assert("missing/recording", "no such file or directory");
    assert("inner", "is a directory");
    assert("data/recording", "a part of the path is not a directory");
    // Not a recording: left as it is.
    assert("data", "exists and is not a recording");
    assert("long", "exists and is not a recording");
    assert_unrecorded(directory, Path::new("/dev/null"), "exists and is not a recording");
    // No place to make files in, not even for root.
    assert_unrecorded(directory, Path::new("/sys/recording"), "permission denied");
}

#[test]
fn a_recording_is_for_its_owner_only_and_replaces_a_finished_one() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    // An empty file is what `mktemp` makes.
    fs::write(&path, "").expect("a file");
    for _ in 0..2 {
        let finished = run(&mut recorded(OVER_SYSTEM, &["nothing"], &path, "")).quiet();
        let history = History::read(&path);
        assert_eq!(history.process.pid, finished.pid);
        assert_eq!(history.trails(65_000, 100), 1);
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(contents(directory.path()).len(), 1);
    }
}

#[test]
fn unknown_options_are_told_once_each_and_passed_over() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let options = ",colour=red,stacks=off,stacks=many";
    let finished = run(&mut recorded(OVER_SYSTEM, &["nothing"], &path, options)).success();
    assert_eq!(finished.stdout, "recorded\n");
    assert_eq!(
        finished.stderr,
        "alloc-trace: ALLOC_TRACE: not an option, passed over: colour=red\n\
         alloc-trace: ALLOC_TRACE: passed over: stacks=many; there is \
         stacks=off or stacks=1 to stacks=128\n"
    );
    let history = History::read(&path);
    history.assert_whole();
    assert!(history.events.iter().all(|event| event.node.is_root()));
    assert_eq!(history.trails(65_000, 100), 1);
}

#[test]
fn a_variable_that_names_no_file_is_told_once() {
    let mut command = scenario(OVER_SYSTEM, &["nothing"]);
    let finished = run(command.env("ALLOC_TRACE", ",stacks=off")).success();
    assert_eq!(finished.stdout, "not recorded\n");
    assert_eq!(finished.stderr, "alloc-trace: ALLOC_TRACE: no usable path; nothing is recorded\n");
    // Set to nothing is not set.
    let finished = run(scenario(OVER_SYSTEM, &["nothing"]).env("ALLOC_TRACE", "")).quiet();
    assert_eq!(finished.stdout, "not recorded\n");
}

#[test]
fn the_process_id_and_escaped_commas_are_put_into_the_path() {
    let directory = TempDir::new().expect("a directory");
    let value = format!("{}/a\\,b\\\\c.{{pid}}.trace,stacks=2", directory.path().display());
    let finished = run(scenario(OVER_SYSTEM, &["nothing"]).env("ALLOC_TRACE", value)).quiet();
    assert_eq!(finished.stdout, "recorded\n");
    let path = directory.path().join(format!("a,b\\c.{}.trace", finished.pid));
    let history = History::read(&path);
    assert_eq!(history.end.map(|(reason, _)| reason), Some(EndReason::Exited));
    assert_eq!(contents(directory.path()).len(), 1);
}

#[test]
fn backtraces_are_as_deep_as_asked_for() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let depths = |path: &Path| -> Vec<(usize, bool)> {
        let history = History::read(path);
        assert_eq!(history.trails(65_000, 100), 1);
        let trail = (65_000..65_100).flat_map(|size| history.of_size(size));
        trail
            .map(|event| {
                let (addresses, whole) = history.backtrace(event.node);
                (addresses.len(), whole)
            })
            .collect()
    };
    let all_are = |path: &Path, depth| depths(path).into_iter().all(|found| found == depth);
    for depth in [1, 2, 5] {
        let options = format!(",check,stacks={depth}");
        run(&mut recorded(OVER_SYSTEM, &["nothing"], &path, &options)).quiet();
        assert!(all_are(&path, (depth, false)), "{:?}", depths(&path));
        let arguments = ["nothing", &format!("depth={depth}"), &record(&path)];
        run(&mut scenario(OVER_SYSTEM, &arguments)).quiet();
        assert!(all_are(&path, (depth, false)), "{:?}", depths(&path));
    }
    let arguments = ["nothing", "depth=0", &record(&path)];
    run(&mut scenario(OVER_SYSTEM, &arguments)).quiet();
    assert!(all_are(&path, (0, true)), "{:?}", depths(&path));
    run(&mut recorded(OVER_SYSTEM, &["nothing"], &path, ",check")).quiet();
    assert!(depths(&path).into_iter().all(|(depth, whole)| whole && depth > 5));
}

#[test]
fn a_program_that_nobody_records_makes_no_file() {
    let directory = TempDir::new().expect("a directory");
    let mut command = scenario(OVER_SYSTEM, &["nothing"]);
    let finished = run(command.current_dir(directory.path())).quiet();
    assert_eq!(finished.stdout, "not recorded\n");
    assert_eq!(contents(directory.path()), []);
}

#[test]
fn a_second_recording_follows_the_first() {
    let directory = TempDir::new().expect("a directory");
    let [first, second] = ["first", "second"].map(|name| directory.path().join(name));
    let arguments = [
        "two_recordings".to_owned(),
        format!("first={}", first.display()),
        format!("second={}", second.display()),
    ];
    run(&mut scenario(OVER_SYSTEM, &arguments.each_ref().map(String::as_str))).quiet();
    let [first, second] = [first, second].map(|path| History::read(&path));
    let bases = [68_000, 69_000, 70_000, 71_000, 72_000];
    for (history, expected) in [(first, [1, 0, 0, 1, 0]), (second, [0, 0, 1, 0, 1])] {
        history.assert_sound();
        assert_eq!(bases.map(|base| history.trails(base, 100)), expected);
        assert_eq!(history.end.map(|(reason, _)| reason), Some(EndReason::Stopped));
        let thread = history.thread("lives-on");
        let events = history.events.iter().filter(|event| event.thread == thread);
        assert_eq!(events.count(), 200);
    }
}

#[test]
fn a_limit_that_cannot_be_read_or_kept_is_told_and_nothing_is_recorded() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    for (limit, told) in [
        ("limit=1.5M", "limit=1.5M; there is limit=BYTES"),
        ("limit=100000", "the limit is too low"),
    ] {
        let mut command = recorded(OVER_SYSTEM, &["nothing"], &path, &format!(",{limit}"));
        let finished = run(&mut command).success();
        assert_eq!(finished.stdout, "not recorded\n");
        assert!(finished.stderr.contains(told), "{}", finished.stderr);
        assert!(finished.stderr.contains("nothing is recorded"), "{}", finished.stderr);
        assert!(!path.exists(), "an empty recording is left behind");
    }
}

#[test]
fn a_recording_that_is_refused_because_one_runs_takes_nothing_out_of_that_one() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    run(&mut recorded(OVER_SYSTEM, &["started_again"], &path, "")).quiet();
    let history = History::read(&path);
    history.assert_whole();
    let of_path = |kind: EventKind| {
        history.events.iter().filter(|event| event.kind == kind && event.size == 1_021).count()
    };
    assert_eq!((of_path(EventKind::Alloc), of_path(EventKind::Free)), (10, 10));
}
