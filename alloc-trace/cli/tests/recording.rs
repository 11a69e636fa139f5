//! `record`: what it runs, what it passes on, and what it says.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use alloc_trace_format::{ExitStatus, Recording};
use tempfile::TempDir;

use support::{command, text, write_sample};

/// What [`pretend`] is to do, and which exit code it is to have.
const TASK: &str = "ALLOC_TRACE_TEST_TASK";

/// Not a test of its own: the recorded program of the tests below, which makes a recording as a
/// program with the recorder does.
#[test]
fn pretend() {
    let Ok(task) = std::env::var(TASK) else { return };
    let (task, code) = task.split_once(' ').expect("a task and a code");
    if task.contains("record") {
        let value = std::env::var("ALLOC_TRACE").expect("set");
        let path = PathBuf::from(unescape(&value));
        let _ = fs::remove_file(&path);
        write_sample(&path, std::process::id(), true);
    }
    if task.contains("child") {
        let value = std::env::var("ALLOC_TRACE").expect("set");
        let mut header = support::header(7);
        header.start_realtime_ns = u64::MAX;
        let path = format!("{}.7", unescape(&value));
        let window = alloc_trace_format::Window::default();
        let writer = alloc_trace_format::RecordingWriter::create(Path::new(&path), &header, window);
        writer.expect("created").finish(None).expect("finished");
    }
    if task.contains("numbered") {
        let value = std::env::var("ALLOC_TRACE").expect("set");
        // As the recorder does, and the second as its child would.
        for pid in [std::process::id(), 7] {
            let path = value.replace("{pid}", &pid.to_string());
            let mut header = support::header(pid);
            header.start_realtime_ns = u64::MAX;
            let window = alloc_trace_format::Window::default();
            let writer =
                alloc_trace_format::RecordingWriter::create(Path::new(&path), &header, window);
            writer.expect("created").finish(None).expect("finished");
        }
    }
    if task.contains("options") {
        fs::write("options", std::env::var("ALLOC_TRACE").expect("set")).expect("written");
    }
    if task.contains("wait") {
        fs::write("ready", "").expect("written");
        std::thread::sleep(Duration::from_secs(60));
    }
    if task.contains("abort") {
        std::process::abort();
    }
    std::process::exit(code.parse().expect("a number"));
}

/// The path in `PATH[,key=value…]`.
fn unescape(value: &str) -> String {
    let mut path = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => path.extend(chars.next()),
            ',' => break,
            c => path.push(c),
        }
    }
    path
}

/// A `record` command whose program is this test's [`pretend`].
fn record(directory: &TempDir, options: &[&str], task: &str) -> Command {
    let mut command = command();
    command
        .current_dir(directory.path())
        .arg("record")
        .args(options)
        .arg("--")
        .arg(std::env::current_exe().expect("known"))
        .args(["--exact", "pretend", "--nocapture"])
        .env(TASK, task)
        .stdin(Stdio::null());
    command
}

fn run(directory: &TempDir, options: &[&str], task: &str) -> Output {
    record(directory, options, task).output().expect("run")
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("readable");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
}

#[test]
fn a_recorded_program_s_exit_code_is_passed_on_and_noted_in_the_recording() {
    let directory = directory();
    let output = run(&directory, &["-o", "app.trace"], "record 7");
    assert_eq!(output.status.code(), Some(7));
    let told = text(&output.stderr);
    assert!(told.contains("alloc-trace: recorded 8 heap events in app.trace\n"), "{told}");
    assert!(told.contains("alloc-trace report app.trace\n"), "{told}");
    let recording = Recording::open(&directory.path().join("app.trace")).expect("readable");
    assert_eq!(recording.exit_status(), Some(ExitStatus::Code(7)));
}

#[test]
fn a_killed_program_gives_128_and_the_signal() {
    let directory = directory();
    let output = run(&directory, &["-o", "app.trace"], "record-abort 0");
    assert_eq!(output.status.code(), Some(128 + 6));
    let recording = Recording::open(&directory.path().join("app.trace")).expect("readable");
    assert_eq!(recording.exit_status(), Some(ExitStatus::Signal(6)));
}

#[test]
fn without_a_file_the_recording_is_named_for_the_program() {
    let directory = directory();
    let output = run(&directory, &[], "record 0");
    assert_eq!(output.status.code(), Some(0));
    let names = names(directory.path());
    let own = std::env::current_exe().expect("known");
    let own = own.file_name().expect("a name").to_str().expect("text");
    assert_eq!(names.len(), 1);
    assert!(names[0].starts_with(&format!("alloc-trace.{own}.")), "{names:?}");
    assert!(names[0].ends_with(".trace"), "{names:?}");
}

#[test]
fn commas_and_backslashes_in_the_path_arrive() {
    let directory = directory();
    let name = r"a,stacks=off\b.trace";
    let output = run(&directory, &["-o", name, "--no-stacks"], "record 0");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(names(directory.path()), [name]);
}

#[test]
fn options_of_the_recorder_are_passed_on() {
    let directory = directory();
    let options = ["-o", "a.trace", "--no-stacks", "--option", "ring", "-O", "limit=64MiB"];
    let output = run(&directory, &options, "options 0");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let value = fs::read_to_string(directory.path().join("options")).expect("written");
    assert!(value.ends_with("/a.trace,stacks=off,ring,limit=67108864"), "{value}");
}

#[test]
fn a_program_that_makes_no_recording_is_told_and_its_status_passed_on() {
    let directory = directory();
    for code in ["0", "3"] {
        let output = run(&directory, &["-o", "app.trace"], &format!("nothing {code}"));
        assert_eq!(output.status.code(), Some(code.parse().expect("a number")));
        let told = text(&output.stderr);
        assert!(told.contains("alloc-trace: nothing was recorded:"), "{told}");
        assert!(told.contains("does not use alloc-trace as its global"), "{told}");
        assert_eq!(names(directory.path()), [""; 0], "no empty file is left behind");
    }
}

#[test]
fn an_older_recording_at_the_path_is_not_taken_for_a_new_one() {
    let directory = directory();
    let path = directory.path().join("app.trace");
    write_sample(&path, 1, true);
    let before = fs::read(&path).expect("readable");
    let output = run(&directory, &["-o", "app.trace"], "nothing 0");
    assert!(text(&output.stderr).contains("nothing was recorded"));
    assert_eq!(fs::read(&path).expect("readable"), before, "it is left as it was");
    let output = run(&directory, &["-o", "app.trace"], "record 0");
    assert!(text(&output.stderr).contains("recorded 8 heap events"));
}

#[test]
fn a_recording_of_a_process_further_down_does_not_get_the_parent_s_status() {
    let directory = directory();
    let own = std::env::current_exe().expect("known");
    let script = format!("'{}' --exact pretend --nocapture; exit 5", own.display());
    let output = command()
        .current_dir(directory.path())
        .args(["record", "-o", "app.trace", "--", "sh", "-c", &script])
        .env(TASK, "record 0")
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("recorded 8 heap events"));
    let recording = Recording::open(&directory.path().join("app.trace")).expect("readable");
    assert_eq!(recording.exit_status(), None);
}

#[test]
fn recordings_of_processes_that_the_program_started_are_told() {
    let directory = directory();
    // Neither is of this run: one is older, the other is no recording.
    write_sample(&directory.path().join("app.trace.3"), 3, true);
    fs::write(directory.path().join("app.trace.4"), "").expect("written");
    let output = run(&directory, &["-o", "app.trace"], "record-child 0");
    let told = text(&output.stderr);
    let expected = "alloc-trace: 1 further recording of processes that it started: app.trace.7 …";
    assert!(told.contains(expected), "{told}");
}

#[test]
fn the_number_of_the_process_stands_where_its_name_says() {
    let directory = directory();
    // One of an earlier run.
    write_sample(&directory.path().join("app.3.trace"), 3, true);
    let output = run(&directory, &["-o", "app.{pid}.trace"], "numbered 4");
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{told}");
    let mut names = names(directory.path());
    names.retain(|name| name != "app.7.trace" && name != "app.3.trace");
    let [name] = names.as_slice() else { panic!("{names:?}") };
    let pid = name.strip_prefix("app.").and_then(|name| name.strip_suffix(".trace"));
    assert!(pid.is_some_and(|pid| pid.parse::<u32>().is_ok()), "{name}");
    assert!(told.contains(&format!("recorded 0 heap events in {name}\n")), "{told}");
    let recording = Recording::open(&directory.path().join(name)).expect("readable");
    assert_eq!(recording.exit_status(), Some(ExitStatus::Code(4)));
    let further = "1 further recording of processes that it started: app.7.trace …";
    assert!(told.contains(further), "{told}");
    // What was recorded is from the end of time: it would be new for ever.
    fs::remove_file(directory.path().join("app.7.trace")).expect("removed");
    fs::remove_file(directory.path().join(name)).expect("removed");
    let output = run(&directory, &["-o", "app.{pid}.trace"], "nothing 0");
    let told = text(&output.stderr);
    assert!(told.contains("nothing was recorded"), "what was there is not new: {told}");
}

#[test]
fn an_output_that_cannot_be_written_is_told_before_the_program_runs() {
    let directory = directory();
    fs::write(directory.path().join("text"), "somebody's").expect("written");
    for (path, told) in [
        ("missing/app.trace", "cannot write: No such file or directory (os error 2)"),
        (".", "cannot write: is a directory"),
        ("/dev/null", "cannot write: not a regular file"),
        ("text", "cannot write: there is a file that is no recording"),
    ] {
        let output = run(&directory, &["-o", path], "wait 0");
        assert_eq!(output.status.code(), Some(1), "{path}");
        let stderr = text(&output.stderr);
        assert!(stderr.starts_with(&format!("alloc-trace: {path}: {told}")), "{stderr}");
        assert!(!directory.path().join("ready").exists(), "it did not run");
    }
    assert_eq!(fs::read_to_string(directory.path().join("text")).expect("there"), "somebody's");
}

#[test]
fn a_program_that_cannot_be_run_is_told_as_a_shell_does() {
    let directory = directory();
    let plain = directory.path().join("plain");
    fs::write(&plain, "").expect("written");
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).expect("changed");
    for (program, code) in [("/nowhere/app", 127), ("./plain", 126)] {
        let output = command()
            .current_dir(directory.path())
            .args(["record", "-o", "app.trace", "--", program])
            .output()
            .expect("run");
        assert_eq!(output.status.code(), Some(code));
        let told = text(&output.stderr);
        assert!(told.starts_with(&format!("alloc-trace: {program}: cannot be run: ")), "{told}");
        assert_eq!(told.contains("it is not executable: chmod +x ./plain"), code == 126, "{told}");
        assert!(!directory.path().join("app.trace").exists());
    }
}

#[test]
fn a_program_that_cannot_be_run_is_told_with_what_may_be_the_matter() {
    let directory = directory();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("changed");
    };
    write("tool", "#!/bin/sh\n");
    write("lost", "#!/nowhere/interpreter\n");
    write("data", "no program\n");
    for (program, code, told) in [
        ("tool", 127, "the one that is here is ./tool"),
        ("no-such-program", 127, "it is not in the directories of PATH; give its path"),
        ("./lost", 127, "the interpreter in the first line of a script"),
        ("./data", 126, "neither a program for this machine nor a script"),
        (".", 126, "it is a directory"),
    ] {
        let output = command()
            .current_dir(directory.path())
            .args(["record", "-o", "app.trace", "--", program])
            .output()
            .expect("run");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{program}: {stderr}");
        assert!(stderr.contains(told), "{program}: {stderr}");
    }
}

#[test]
fn signals_sent_to_the_command_reach_the_program_and_the_recording_is_still_told() {
    for (signal, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        let directory = directory();
        let child = record(&directory, &["-o", "app.trace"], "record-wait 0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run");
        let begin = Instant::now();
        while !directory.path().join("ready").exists() {
            assert!(begin.elapsed() < Duration::from_secs(20), "it never began");
            std::thread::sleep(Duration::from_millis(5));
        }
        let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(kill.expect("run").success());
        let output = child.wait_with_output().expect("waited");
        assert_eq!(output.status.code(), Some(128 + number), "{signal}");
        assert!(text(&output.stderr).contains("recorded 8 heap events"));
    }
}
