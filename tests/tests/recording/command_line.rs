//! `alloc-trace record` on programs that use the recorder, and on one that does not.

use std::path::Path;

use alloc_trace_format::{EndReason, ExitStatus};
use tempfile::TempDir;

use crate::exact::report;
use crate::history::History;
use crate::program::{Finished, OVER_SYSTEM, SCENARIOS, alloc_trace, recorded, run};

/// Runs `alloc-trace record -o PATH OPTIONS -- COMMAND`.
fn run_recorded(path: &Path, options: &[&str], command: &[&str]) -> Finished {
    let mut record = alloc_trace();
    record.args(["record", "-o"]).arg(path).args(options).arg("--").args(command);
    run(&mut record)
}

#[test]
fn the_command_passes_on_how_the_program_ended_and_appends_it() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("a recording, with a comma");
    for (how, passed_on, appended, end) in [
        ("return", 0, ExitStatus::Code(0), Some(EndReason::Exited)),
        ("exit", 3, ExitStatus::Code(3), Some(EndReason::Exited)),
        ("exit_now", 3, ExitStatus::Code(3), None),
        ("panic", 101, ExitStatus::Code(101), Some(EndReason::Exited)),
        ("abort", 134, ExitStatus::Signal(6), None),
        ("fault", 139, ExitStatus::Signal(11), None),
        ("kill", 137, ExitStatus::Signal(9), None),
    ] {
        let argument = format!("how={how}");
        let finished = run_recorded(&path, &[], &[OVER_SYSTEM, "end", &argument]);
        assert_eq!(finished.status.code(), Some(passed_on), "{how}: {}", finished.stderr);
        let history = History::read(&path);
        history.assert_whole();
        assert_eq!(history.trails(65_000, 1000), 1);
        assert_eq!(history.exit_status, Some(appended), "{how}");
        assert_eq!(history.end.map(|(reason, _)| reason), end, "{how}");
        let count = history.events.len().to_string();
        let digits = |line: &&str| line.chars().filter(char::is_ascii_digit).collect::<String>();
        let complaints = finished.complaints();
        let [counted, hint] = complaints[..] else { panic!("{}", finished.stderr) };
        let counted = counted.split(" in ").next().unwrap_or_default();
        assert_eq!(digits(&counted), count, "{}", finished.stderr);
        assert!(hint.starts_with("alloc-trace: read it with: alloc-trace report "), "{hint}");
        let said = report(&path, &["--no-symbols"]);
        let (name, number) = match appended {
            ExitStatus::Code(code) => ("code", code),
            ExitStatus::Signal(signal) => ("signal", signal),
        };
        assert_eq!(said["exit_status"], serde_json::json!({ name: number }));
    }
}

#[test]
fn the_command_records_without_backtraces_where_asked() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    for program in SCENARIOS {
        let finished = run_recorded(&path, &["--no-stacks"], &[program, "nothing"]).success();
        assert_eq!(finished.stdout, "recorded\n");
        let history = History::read(&path);
        history.assert_whole();
        assert!(history.events.iter().all(|event| event.node.is_root()));
    }
}

#[test]
fn the_command_says_that_and_why_nothing_was_recorded() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let finished = run_recorded(&path, &[], &["/bin/true"]).success();
    assert_eq!(finished.stdout, "");
    let told = "alloc-trace: nothing was recorded: /bin/true does not use alloc-trace";
    assert!(finished.stderr.starts_with(told), "{}", finished.stderr);
    assert!(finished.stderr.contains("#[global_allocator]"), "{}", finished.stderr);
    assert!(!path.exists());
    // The status is passed on all the same.
    assert_eq!(run_recorded(&path, &[], &["/bin/false"]).status.code(), Some(1));
}

#[test]
fn the_command_takes_the_options_that_the_recorder_takes() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let values = ["", "=", "=off", "=0", "=1", "=9", "=10", "=64", "=65", "=128", "=129", "=1M"];
    let more = ["=8MiB", "=9M", "=4k", "=2T", "=USR1", "=KILL", "=w*", "=99999999999G", "=-1"];
    let too_long = format!("={}", "n".repeat(33));
    for key in [
        "stacks",
        "compress",
        "limit",
        "ring",
        "window",
        "paused",
        "signal",
        "snapshot-signal",
        "threads",
        "not-threads",
        "check",
        "colour",
    ] {
        let mut taken = 0;
        for value in values.iter().chain(&more).chain([&too_long.as_str()]) {
            let option = format!("{key}{value}");
            // `nothing` has a trail to record; what a limit or a name of a thread leaves of it is no matter.
            let finished =
                run(&mut recorded(OVER_SYSTEM, &["nothing"], &path, &format!(",{option}")));
            let told = format!("passed over: {option}");
            let is_told = finished.complaints().iter().any(|line| {
                let rest = line.split_once(&told).map(|(_, rest)| rest);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(';'))
            });
            let refused = run_recorded(&path, &["-O", &option], &[OVER_SYSTEM, "nothing"]);
            let is_refused = refused.status.code() == Some(2);
            assert_eq!(is_refused, is_told, "{option}\n{}\n{}", finished.stderr, refused.stderr);
            taken += usize::from(!is_told);
        }
        assert_eq!(taken > 0, key != "colour", "{key}");
    }
}

#[test]
fn the_command_refuses_what_it_cannot_write_before_the_program_runs() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("missing").join("recording");
    let finished = run_recorded(&path, &[], &[OVER_SYSTEM, "nothing"]);
    assert_eq!((finished.status.code(), finished.stdout.as_str()), (Some(1), ""));
    assert!(!finished.stderr.is_empty());
}
