//! What filters pick, and what is told where they pick nothing.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use alloc_trace_format::{Event, EventKind, NodeId, Record, RecordingWriter, Window};
use serde_json::Value;
use support::{check, command, event, faults, header, json, json_lines, run, sample, text};

#[test]
fn events_can_be_filtered() {
    let (_directory, path) = sample(true);
    let sequence = |arguments: &[&'static str]| -> Vec<u64> {
        let mut all: Vec<&dyn AsRef<OsStr>> = vec![&"events", &"--json", &path];
        all.extend(arguments.iter().map(|argument| argument as &dyn AsRef<OsStr>));
        json_lines(&all).iter().filter_map(|event| event["seq"].as_u64()).collect()
    };
    assert_eq!(sequence(&["--thread", "1"]), [1, 2, 7]);
    assert_eq!(sequence(&["--thread", "worker", "--kind", "free"]), [4, 5]);
    assert_eq!(sequence(&["--kind", "alloc_zeroed", "--kind", "realloc"]), [2, 3]);
    assert_eq!(sequence(&["--size", "24..=100"]), [1, 5, 7]);
    assert_eq!(sequence(&["--size", "1KiB.."]), [2, 3, 4, 6]);
    assert_eq!(sequence(&["--limit", "2"]), [1, 2]);
    assert_eq!(sequence(&["--kind", "free", "--limit", "1"]), [4]);
    assert_eq!(sequence(&["--limit", "0"]), [0; 0]);
}

#[test]
fn every_reading_command_has_the_same_filters() {
    let (_directory, path) = sample(true);
    let report = json(&[&"report", &"--json", &path, &"--thread=worker", &"--from=3us"]);
    assert_eq!((&report["events"], &report["allocated_bytes"]), (&3.into(), &(1 << 20).into()));
    let report = run(&[&"report", &path, &"--site=0x2000"]);
    assert!(text(&report.stdout).contains("\nonly of what the filters pick\n"));
    let leaks = json(&[&"leaks", &"--json", &path, &"--span", &"server"]);
    assert_eq!((&leaks["blocks"], &leaks["bytes"]), (&1.into(), &5_000.into()));
    assert_eq!(check(&path, &["--max-leaked=24", "--size=..=100"]), (String::new(), Some(0)));
    assert_eq!(check(&path, &["--max-leaked=24", "--site=0x2000"]).1, Some(1));
    assert_eq!(check(&path, &["--max-leaked=24", "--site=0x1000"]).1, Some(0));
    let events = json_lines(&[&"events", &"--json", &path, &"--live-at=peak"]);
    let sequence: Vec<Option<u64>> = events.iter().map(|event| event["seq"].as_u64()).collect();
    assert_eq!(sequence, [Some(2), Some(3), Some(4)], "two requests, and the free of one");
    let (_directory, path) = faults(true);
    let advice = json(&[&"advise", &"--json", &path, &"--site=0x3000", &"--lifetime=1ns.."]);
    assert_eq!(advice["findings"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_marker_that_there_is_not_is_wrong_usage() {
    let (_directory, path) = sample(true);
    let output = run(&[&"report", &path, &"--from", &"warm"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""));
    let told = "alloc-trace: no time and no marker: `warm`; the recording has no markers, so give \
                a time, as in 1.5s or 200ms, or `peak`\n";
    assert_eq!(text(&output.stderr), told);
}

/// So many requests by whose lifetimes blocks are picked that not all bits are in memory.
#[test]
fn lifetimes_of_many_blocks_need_a_place_for_a_temporary_file_and_leave_nothing_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("many.trace");
    let requests = 4_300_000;
    let mut writer =
        RecordingWriter::create(&path, &header(1), Window::default()).expect("created");
    let alloc = event(EventKind::Alloc, 1, 0, 0x10, 8);
    for number in 0..requests {
        // The one before seems to be freed.
        let stamp = 1_000 + number;
        let event = Event { stamp, begin_stamp: stamp, node: NodeId::ROOT, ..alloc };
        writer.write(0, &Record::Event(event)).expect("written");
    }
    writer.finish(None).expect("finished");
    let report = |place: &Path| {
        let arguments = ["report", "--json", "--lifetime=1ns"];
        command().args(arguments).arg(&path).env("TMPDIR", place).output().expect("run")
    };
    let place = tempfile::tempdir().expect("a directory");
    let output = report(place.path());
    let figures: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(figures["allocations"], requests - 1, "all but the last");
    assert_eq!(fs::read_dir(place.path()).expect("readable").count(), 0);
    let missing = place.path().join("missing");
    let output = report(&missing);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    let told = format!(
        "alloc-trace: {}: cannot keep a temporary file of one bit for each request, by whose lifetimes \
         they are picked: set TMPDIR to a directory with room for it: No such file or directory",
        missing.display()
    );
    assert!(text(&output.stderr).starts_with(&told), "{}", text(&output.stderr));
}

/// Every command that reads one recording.
const COMMANDS: [&[&str]; 13] = [
    &["report"],
    &["report", "--json"],
    &["report", "--by=size"],
    &["events"],
    &["tree"],
    &["leaks"],
    &["advise"],
    &["check", "--max-peak=1GiB"],
    &["timeline"],
    &["html"],
    &["export", "--format=csv"],
    &["export", "--format=pprof"],
    &["export", "--format=perfetto"],
];

#[test]
fn every_command_tells_of_a_name_that_the_recording_has_not_and_of_one_like_it() {
    let (_directory, path) = sample(true);
    for (filter, told) in [
        (
            "--thread=wroker",
            "no thread is `wroker`, so --thread picks nothing by it; the nearest are: worker",
        ),
        (
            "--span=requests",
            "no span is called `requests`, so --span picks nothing by it; the nearest are: request",
        ),
        (
            "--site=0x9999",
            "no call site matches `0x9999`, so --site picks nothing by it; the nearest are: ",
        ),
    ] {
        for arguments in COMMANDS {
            let output = command().args(arguments).arg(filter).arg(&path).output().expect("run");
            assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
            // A report says it where it says what its figures are of.
            let mut printed = text(&output.stderr).to_owned();
            if arguments == ["report"] {
                printed += text(&output.stdout);
            }
            let printed = printed.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(printed.matches(told).count(), 1, "{arguments:?} {filter}: {printed}");
        }
        let output = command().arg("diff").arg(filter).args([&path, &path]).output().expect("run");
        assert_eq!(text(&output.stderr).matches(told).count(), 2, "of either recording");
    }
    let report = json(&[&"report", &"--json", &"--thread=wroker", &"--thread=main", &path]);
    let expected = serde_json::json!([
        { "filter": "thread", "value": "wroker", "near": ["worker"] },
    ]);
    assert_eq!(report["unmatched_filters"], expected, "the other one is there");
    let fine = run(&[&"leaks", &"--thread=2", &"--span=request", &"--site=0x1000", &path]);
    assert_eq!(text(&fine.stderr), "");
}
