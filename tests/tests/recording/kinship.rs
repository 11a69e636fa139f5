//! Which finished recordings stay where another one is to be written, and which are replaced.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Command};

use alloc_trace_format::FileHeader;
use tempfile::TempDir;

use crate::history::History;
use crate::program::{Finished, OVER_SYSTEM, recorded, run, scenario};

/// The names in a directory, in order.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

/// How often the trails of 65,000 and of 67,000 are in a recording.
fn trails(path: &Path) -> [u64; 2] {
    let history = History::read(path);
    [65_000, 67_000].map(|base| history.trails(base, 100))
}

/// The program said once that the recording at `path` stays, and that it records to `other`.
#[track_caller]
fn assert_told(finished: &Finished, path: &Path, other: &Path) {
    let (path, other) = (path.display(), other.display());
    assert_eq!(
        finished.stderr,
        format!("alloc-trace: {path} stays, as it may be of this run; recording to {other}\n")
    );
}

#[test]
fn a_program_that_outlives_who_launched_it_leaves_the_launchers_recording() {
    for how in ["how=by_itself", "how=by_a_shell_in_between"] {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().join("recording");
        // Its end is that of the last program that can write to its standard output.
        let finished = run(&mut recorded(OVER_SYSTEM, &["launch", how], &path, "")).success();
        let (pid, said) = finished.stdout.split_once('\n').expect("a line");
        assert_eq!(said, "recorded\n", "{how}: {}", finished.stderr);
        let name = format!("recording.{pid}");
        assert_eq!(names(directory.path()), ["recording", &name], "{how}");
        let other = directory.path().join(&name);
        assert_eq!((trails(&path), trails(&other)), ([0, 1], [1, 0]), "{how}");
        assert_told(&finished, &path, &other);
        // A run that has nothing to do with it replaces it.
        run(&mut recorded(OVER_SYSTEM, &["nothing"], &path, "")).quiet();
        assert_eq!(names(directory.path()).len(), 2, "{how}");
        assert_eq!(trails(&path), [1, 0], "{how}");
    }
}

#[test]
fn where_the_kernel_shows_no_processes_nothing_is_replaced() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let script = "umount -l /proc && exec \"$0\" exec";
    let attempt = Command::new("unshare").args(["-m", "sh", "-c", "umount -l /proc"]).output();
    if !attempt.as_ref().is_ok_and(|attempt| attempt.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "no mounts of its own: {attempt:?}");
        eprintln!("SKIPPED: no mounts of its own, which take the rights of root");
        return;
    }
    let mut command = scenario("unshare", &["-m", "sh", "-c", script, OVER_SYSTEM]);
    command.env("ALLOC_TRACE", &path);
    let finished = run(&mut command).success();
    let name = format!("recording.{}", finished.pid);
    assert_eq!(names(directory.path()), ["recording", &name]);
    let other = directory.path().join(&name);
    assert_eq!((trails(&path), trails(&other)), ([0, 1], [1, 0]));
    assert_told(&finished, &path, &other);
}

/// Runs `nothing`, recorded to `path`, where a finished recording of an earlier process with the same id is in
/// the way, at `place` with that id put in; it began then.
fn run_where_one_is(path: &Path, place: &Path, began_ns: u64) -> Finished {
    let (before, after) =
        place.to_str().and_then(|place| place.split_once("{pid}")).expect("an id");
    let (before, after) = (before.to_owned(), after.to_owned());
    let mut command = scenario(OVER_SYSTEM, &["nothing"]);
    command.env("ALLOC_TRACE", path);
    let leave = move || {
        let header = FileHeader {
            start_realtime_ns: began_ns,
            // Not before any process that runs now, which it could have made.
            process_start_ticks: u64::MAX,
            ..FileHeader::of_nanoseconds(process::id(), 5)
        };
        fs::write(format!("{before}{}{after}", process::id()), header.encode())
    };
    // SAFETY: what the closure asks of the heap a forked child may ask, as the C library has it.
    unsafe { command.pre_exec(leave) };
    run(&mut command).success()
}

#[test]
fn a_path_with_the_process_id_in_it_keeps_what_an_earlier_process_with_that_id_recorded() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("t.{pid}.trace");
    let finished = run_where_one_is(&path, &path, 5);
    let pid = finished.pid;
    let first = format!("t.{pid}.trace");
    let second = format!("t.{pid}.trace.{pid}");
    assert_eq!(names(directory.path()), [first.as_str(), &second]);
    let [first, second] = [first, second].map(|name| directory.path().join(name));
    assert_told(&finished, &first, &second);
    let header = FileHeader::decode(&fs::read(first).expect("readable")).expect("a header");
    assert_eq!(header.start_realtime_ns, 5, "it is as it was");
    assert_eq!(trails(&second), [1, 0]);
}

#[test]
fn a_recording_beside_one_that_is_written_stays_if_it_is_of_the_same_run() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    run(&mut recorded(OVER_SYSTEM, &["nothing"], &path, "")).quiet();
    let file = File::open(&path).expect("a file");
    // SAFETY: the call touches no memory.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
    let header = FileHeader::decode(&fs::read(&path).expect("readable")).expect("a header");
    let place = directory.path().join("recording.{pid}");
    for (younger_ns, stays) in [(-1, false), (1, true)] {
        let began_ns = header.start_realtime_ns.wrapping_add_signed(younger_ns);
        let finished = run_where_one_is(&path, &place, began_ns);
        assert_eq!(finished.stderr, "");
        let [beside, numbered] = ["", ".1"]
            .map(|number| directory.path().join(format!("recording.{}{number}", finished.pid)));
        assert_eq!(numbered.exists(), stays);
        assert_eq!(trails(if stays { &numbered } else { &beside }), [1, 0]);
    }
    assert_eq!(names(directory.path()).len(), 4);
}

#[test]
fn a_link_to_nothing_is_left_alone_and_that_is_said() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    symlink("nowhere", &path).expect("a link");
    let finished = run(&mut recorded(OVER_SYSTEM, &["nothing"], &path, "")).success();
    let other = directory.path().join(format!("recording.{}", finished.pid));
    assert_eq!(
        finished.stderr,
        format!(
            "alloc-trace: {} is a link to nothing; recording to {}\n",
            path.display(),
            other.display()
        )
    );
    assert_eq!(trails(&other), [1, 0]);
    assert!(!directory.path().join("nowhere").exists());
}
