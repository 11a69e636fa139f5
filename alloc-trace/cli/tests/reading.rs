//! `report` and `events`: what they print, what they refuse, and how they exit.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use support::{assert_golden, command, text, write_faults, write_sample};

fn run(arguments: &[&dyn AsRef<OsStr>]) -> Output {
    command().args(arguments.iter().map(|argument| argument.as_ref())).output().expect("run")
}

fn sample(closed: bool) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sample.trace");
    write_sample(&path, 42, closed);
    (directory, path)
}

/// Every command that reads a recording and may be the first to find out what is wrong with it.
const READING: [&[&str]; 14] = [
    &["report"],
    &["events"],
    &["tree"],
    &["leaks"],
    &["advise"],
    &["check", "--max-peak=0", "--json"],
    &["export", "--format=csv"],
    &["export", "--format=dhat"],
    &["export", "--format=parquet"],
    &["export", "--format=perfetto"],
    &["export", "--format=firefox"],
    &["flame"],
    &["timeline"],
    &["html"],
];

#[test]
fn a_report_shows_the_heap_and_what_was_resident() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("faults");
    write_faults(&path, true);
    let output = command().args(["report", "--no-symbols"]).arg(&path).output().expect("run");
    let said = text(&output.stdout);
    for line in [
        "resident      at most 5.0 MiB seen, after 0 ns",
        "The heap at its largest, of 1 snapshot: at the start, after 0 ns",
        "mapped        4.0 MiB in 1 segment, 10.0 KiB of it metadata",
        "in pages      64.0 KiB in 1 page: 15.6 KiB live, 384 B cached, 48.0 KiB free",
        "    1   2,048   500      12  1,536  24.4 %  to 32 B",
    ] {
        assert!(said.contains(line), "{line}\nis not in\n{said}");
    }
}

#[test]
fn the_report_is_as_it_always_was() {
    let (_directory, path) = sample(true);
    let output = run(&[&"report", &path]);
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
    assert_golden("report.txt", text(&output.stdout));
}

#[test]
fn a_recording_of_format_version_1_is_read_as_it_always_was() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/version-1.trace");
    // Only before a version is out can its recording be made anew.
    if std::env::var_os("BLESS").is_some_and(|what| what == "recording") {
        write_sample(&path, 42, true);
    }
    let output = run(&[&"report", &path]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_golden("report.txt", text(&output.stdout));
}

#[test]
fn a_report_of_a_killed_program_says_so_first() {
    let (_directory, path) = sample(false);
    let output = run(&[&"report", &path, &"--sort", &"live", &"--top", &"1"]);
    assert!(output.status.success());
    assert_golden("report-incomplete.txt", text(&output.stdout));
}

#[test]
fn the_events_are_as_they_always_were() {
    let (_directory, path) = sample(true);
    let output = run(&[&"events", &path]);
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
    assert_golden("events.txt", text(&output.stdout));
}

/// A recording of a program with many faults.
fn faults(backtraces: bool) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("faults.trace");
    write_faults(&path, backtraces);
    (directory, path)
}

#[test]
fn the_advice_is_as_it_always_was() {
    let (_directory, path) = faults(true);
    let output = run(&[&"advise", &path]);
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
    assert_golden("advise.txt", text(&output.stdout));
}

#[test]
fn advice_without_backtraces_says_what_it_cannot_tell() {
    let (_directory, path) = faults(false);
    let output = run(&[&"advise", &path]);
    assert!(output.status.success());
    let printed = text(&output.stdout);
    assert!(printed.starts_with("This recording has no backtraces:"), "{printed}");
    assert!(!printed.contains("Could live on the stack"), "{printed}");
    let (_directory, path) = sample(true);
    let output = run(&[&"advise", &path]);
    assert_eq!(text(&output.stdout), "Nothing found by these rules.\n");
}

#[test]
fn advice_as_json_has_its_rule_its_site_its_evidence_and_its_remedy() {
    let (_directory, path) = faults(true);
    let advice = json(&[&"advise", &"--json", &path]);
    assert_eq!((&advice["complete"], &advice["backtraces"]), (&true.into(), &true.into()));
    let findings = advice["findings"].as_array().expect("a list");
    let rules: Vec<&str> = findings.iter().filter_map(|found| found["rule"].as_str()).collect();
    let expected = [
        "stack",
        "growth",
        "temporaries",
        "temporaries",
        "late-drops",
        "leaks",
        "small-boxes",
        "remote-frees",
    ];
    assert_eq!(rules, expected);
    let stack = serde_json::json!({
        "rule": "stack", "function": "[0x3000]", "file": null, "line": null, "blocks": 200,
        "bytes": 6_400, "events": 400,
        "evidence": {
            "min_size": 32, "max_size": 32, "enclosed": 200, "at_once": 1, "frame": "[0x2000]",
            "in_frame": 200,
        },
        "remedy": "hold it by value: a plain value or an array of 32 bytes in place of a Box or a \
                   Vec",
    });
    assert_eq!(findings[0], stack);
    let some =
        json(&[&"advise", &"--json", &"--rule=temporaries", &"--rule=leaks", &"--top=1", &path]);
    assert_eq!(some["findings"].as_array().map(Vec::len), Some(2));
    let many = json(&[&"advise", &"--json", &"--min-blocks=201", &path]);
    assert_eq!(many["findings"].as_array().map(Vec::len), Some(2), "and the late drop of few");
}

#[test]
fn the_leaks_are_as_they_always_were() {
    let (_directory, path) = sample(true);
    let output = run(&[&"leaks", &path]);
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
    assert_golden("leaks.txt", text(&output.stdout));
    let (_directory, path) = faults(true);
    let leaks = run(&[&"leaks", &path]);
    assert!(text(&leaks.stdout).starts_with("Never freed: 19.7 KiB in 200 blocks, 1 call site\n"));
}

#[test]
fn leaks_as_json_have_every_figure() {
    let (_directory, path) = sample(true);
    let leaks = json(&[&"leaks", &"--json", &path]);
    assert_eq!((&leaks["blocks"], &leaks["bytes"]), (&2.into(), &5_024.into()));
    assert_eq!(leaks["complete"], true);
    let first = serde_json::json!({
        "function": "[0x2000]", "file": null, "line": null, "blocks": 1, "bytes": 5_000,
        "obtained_blocks": 1, "min_size": 5_000, "max_size": 5_000, "oldest_age_ns": 2_997_000,
        "youngest_age_ns": 2_997_000,
        "threads": [{ "thread": 1, "name": "main", "blocks": 1, "bytes": 5_000 }],
        "spans": [{
            "name": "server", "target": "app", "fields": null, "blocks": 1, "bytes": 5_000,
        }],
    });
    assert_eq!(leaks["sites"][0], first);
    let one = json(&[&"leaks", &"--json", &"--top", &"1", &path]);
    assert_eq!(one["sites"].as_array().map(Vec::len), Some(1));
}

#[test]
fn growth_is_counted_from_a_baseline() {
    let (directory, path) = sample(true);
    let (_other, faults) = faults(true);
    let baseline = format!("--baseline={}", path.display());
    assert_eq!(check(&path, &[&baseline, "--max-growth=0%"]), (String::new(), Some(0)));
    let from = format!("in {}", path.display());
    let expected = format!(
        "\
never freed: 19.7 KiB (20,199 B) exceeds 5.0 KiB (5,124 B), from 4.9 KiB (5,024 B) {from}
blocks never freed: 200 exceeds 3, from 2 {from}
allocations: 2,401 exceeds 5, from 5 {from}
allocated: 13.3 MiB (13,915,399 B) exceeds 1.0 MiB (1,063,700 B), from 1.0 MiB (1,053,700 B) {from}
"
    );
    let limits = [
        &baseline,
        "--max-growth=900%",
        "--max-leaked=+100",
        "--max-leaked-blocks=+50%",
        "--max-allocations=+0",
        "--max-bytes=+10000",
        "--max-temporary=+20",
    ];
    assert_eq!(check(&faults, &limits), (expected, Some(1)));
    let output = run(&[&"check", &faults, &"--json", &baseline, &"--max-allocations=+100%"]);
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let expected = serde_json::json!({
        "limit": "allocations", "max": 10.0, "baseline": 5.0, "actual": 2_401.0, "kept": false,
    });
    assert_eq!(answer["limits"], serde_json::json!([expected]));

    let cut = directory.path().join("cut.trace");
    write_sample(&cut, 42, false);
    let baseline = format!("--baseline={}", cut.display());
    let (printed, code) = check(&path, &[&baseline, "--max-growth=100%"]);
    assert_eq!(code, Some(1));
    assert!(printed.starts_with("incomplete: in the baseline: the recording ended"), "{printed}");
    let kept = check(&path, &[&baseline, "--max-growth=100%", "--allow-incomplete"]);
    assert_eq!(kept, (String::new(), Some(0)));
}

/// What `check` prints, and its exit code.
fn check(path: &Path, limits: &[&str]) -> (String, Option<i32>) {
    let output = command().arg("check").arg(path).args(limits).output().expect("run");
    (text(&output.stdout).to_owned(), output.status.code())
}

#[test]
fn limits_that_are_kept_say_nothing_and_those_that_are_not_a_line_each() {
    let (_directory, path) = sample(true);
    let kept = ["--max-peak=2MiB", "--max-leaked=5024", "--max-leaked-blocks=2"];
    assert_eq!(check(&path, &kept), (String::new(), Some(0)));
    let all = [
        "--max-peak=1MiB",
        "--max-leaked=0",
        "--max-leaked-blocks=1",
        "--max-allocations=4",
        "--max-bytes=1M",
        "--max-temporary=19.5%",
    ];
    let expected = "\
peak: 1.0 MiB (1,053,576 B) exceeds 1.0 MiB (1,048,576 B)
never freed: 4.9 KiB (5,024 B) exceeds 0 B
blocks never freed: 2 exceeds 1
allocations: 5 exceeds 4
allocated: 1.0 MiB (1,053,700 B) exceeds 1.0 MiB (1,048,576 B)
temporary: 20.00 % exceeds 19.50 %
";
    assert_eq!(check(&path, &all), (expected.to_owned(), Some(1)));
    let output = run(&[&"check", &path, &"--json", &"--max-leaked=0", &"--max-peak=1G"]);
    assert_eq!(output.status.code(), Some(1));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let expected = serde_json::json!({
        "passed": false, "complete": true, "incomplete": [],
        "limits": [
            {
                "limit": "peak", "max": 1_073_741_824.0, "baseline": null,
                "actual": 1_053_576.0, "kept": true,
            },
            {
                "limit": "leaked", "max": 0.0, "baseline": null, "actual": 5_024.0, "kept": false,
            },
        ],
    });
    assert_eq!(answer, expected);
}

#[test]
fn an_incomplete_recording_fails_unless_that_is_allowed() {
    let (_directory, path) = sample(false);
    let (printed, code) = check(&path, &["--max-peak=2MiB"]);
    assert_eq!(code, Some(1));
    assert!(printed.starts_with("incomplete: the recording ended without"), "{printed}");
    assert!(printed.contains("--allow-incomplete"), "{printed}");
    let allowed = check(&path, &["--max-peak=2MiB", "--allow-incomplete"]);
    assert_eq!(allowed, (String::new(), Some(0)));
    assert_eq!(check(&path, &["--max-peak=1", "--allow-incomplete"]).1, Some(1));
}

#[test]
fn the_help_is_as_it_always_was() {
    for name in support::COMMANDS {
        let output = run(&[&name, &"--help"]);
        assert!(output.status.success());
        assert_golden(&format!("help-{name}.txt"), text(&output.stdout));
    }
    assert_golden("help.txt", text(&run(&[&"--help"]).stdout));
    let version = format!("alloc-trace {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&run(&[&"--version"]).stdout), version);
}

fn json(arguments: &[&dyn AsRef<OsStr>]) -> Value {
    let output = run(arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
fn the_report_as_json_has_every_figure() {
    let (_directory, path) = sample(true);
    let report = json(&[&"report", &"--json", &path]);
    let expected = [
        ("events", 7),
        ("allocations", 3),
        ("zeroed_allocations", 1),
        ("reallocations", 1),
        ("frees", 2),
        ("allocated_bytes", 100 + 5_000 + (1 << 20) + 24),
        ("freed_bytes", 100 + (1 << 20)),
        ("peak_bytes", 5_000 + (1 << 20)),
        ("peak_at_ns", 4_000),
        ("live_bytes_at_end", 5_024),
        ("live_blocks_at_end", 2),
        ("temporary_allocations", 1),
        ("failed_requests", 1),
        ("unmatched_frees", 1),
        ("unmatched_freed_bytes", 64),
        ("inferred_frees", 0),
        ("internal_events", 1),
        ("threads", 2),
        ("duration_ns", 2_999_000),
        ("lost_records", 0),
    ];
    for (key, value) in expected {
        assert_eq!(report[key], value, "{key}");
    }
    assert_eq!(report["complete"], true);
    assert_eq!(report["end"], "exited");
    assert_eq!(report["skipped"], Value::Array(Vec::new()));
    assert_eq!(report["program"]["arguments"][1], "--fast");
    let site = &report["sites"][0];
    assert_eq!(site["function"], "[0x1000]");
    assert_eq!((&site["file"], &site["line"]), (&Value::Null, &Value::Null));
    assert_eq!(site["allocations"], 3);
    assert_eq!(site["allocated_bytes"], 100 + (1 << 20) + 24);
    assert_eq!(site["peak_bytes"], 1 << 20);
    assert_eq!(site["live_bytes_at_end"], 24);
    let worker = &report["by_thread"][1];
    assert_eq!((&worker["thread"], &worker["name"]), (&2.into(), &"worker".into()));
    assert_eq!(worker["os_thread"], 4_202);
    assert_eq!(worker["events"], 4);
    let request = &report["by_span"][0];
    assert_eq!((&request["name"], &request["events"]), (&"request".into(), &4.into()));
    assert_eq!(request["peak_bytes"], 1 << 20);

    let one = json(&[&"report", &"--json", &"--top", &"1", &path]);
    assert_eq!(one["sites"].as_array().map(Vec::len), Some(1));
    let fields = json(&[&"report", &"--json", &"--span-fields", &path]);
    assert_eq!(fields["by_span"][0]["fields"], "id=2");
}

fn json_lines(arguments: &[&dyn AsRef<OsStr>]) -> Vec<Value> {
    let output = run(arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = text(&output.stdout).lines();
    lines.map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

#[test]
fn an_event_as_json_has_every_field() {
    let (_directory, path) = sample(true);
    let events = json_lines(&[&"events", &"--json", &path]);
    assert_eq!(events.len(), 7, "the recorder's own is left out");
    let sequence: Vec<Option<u64>> = events.iter().map(|event| event["seq"].as_u64()).collect();
    assert_eq!(sequence, (1..=7).map(Some).collect::<Vec<_>>());
    let realloc = serde_json::json!({
        "seq": 2, "time_ns": 2_000, "thread": 1, "thread_name": "main", "kind": "realloc",
        "failed": false, "addr": "0x7f0000001000", "size": 5_000, "align": 8,
        "old_addr": "0x7f0000000010", "old_size": 100, "span": "server",
        "span_path": ["server"], "span_fields": "id=1", "site": "[0x2000]", "file": null,
        "line": null,
    });
    assert_eq!(events[1], realloc);
    assert_eq!(events[2]["span_path"], serde_json::json!(["server", "request"]));
    assert_eq!((&events[5]["failed"], &events[5]["addr"]), (&true.into(), &"0x0".into()));
    assert_eq!(events[0]["span"], Value::Null);
    assert!(events[0].get("old_addr").is_none(), "of reallocations only");
}

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

#[test]
fn output_goes_to_a_file_and_a_dash_is_standard_output() {
    let (directory, path) = sample(true);
    let out = directory.path().join("report.txt");
    let output = run(&[&"report", &path, &"-o", &out]);
    assert!(output.status.success() && output.stdout.is_empty());
    let dash = run(&[&"report", &path, &"--output", &"-"]);
    assert_eq!(fs::read(&out).expect("written"), dash.stdout);
    assert_eq!(dash.stdout, run(&[&"report", &path]).stdout);
}

/// What must be on standard error and the exit code, for wrong input of each reading command.
fn assert_refused(path: &Path, told: &str) {
    for subcommand in READING {
        let output = command().args(subcommand).arg(path).output().expect("run");
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(text(&output.stdout), "");
        let expected = format!("alloc-trace: {}: {told}\n", path.display());
        assert_eq!(text(&output.stderr), expected);
    }
}

#[test]
fn what_is_no_recording_is_refused_with_its_name_and_the_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    assert_refused(&path("missing"), "cannot open: No such file or directory (os error 2)");
    assert_refused(directory.path(), "not a regular file; expected a recording");
    for (name, content) in [("empty", ""), ("text", "this is no recording at all")] {
        fs::write(path(name), content).expect("written");
        let told = "not an alloc-trace recording (no magic number at offset 0)";
        assert_refused(&path(name), told);
    }
    let mut bytes = support::header(1).encode().to_vec();
    fs::write(path("short"), &bytes).expect("written");
    assert_refused(&path("short"), "truncated at offset 88: expected the file header");
    bytes[30] ^= 1;
    fs::write(path("damaged"), &bytes).expect("written");
    let told = "corrupt at offset 84: expected the checksum of the file header";
    assert_refused(&path("damaged"), told);
    bytes[8] = 9;
    fs::write(path("later"), &bytes).expect("written");
    let told = "recording of format version 9 at offset 8; this reader knows version 1";
    assert_refused(&path("later"), told);
}

#[test]
fn an_output_that_cannot_be_written_is_told_with_its_name() {
    let (directory, path) = sample(true);
    let missing = directory.path().join("missing/report.txt");
    for (out, told) in [
        (missing.as_path(), "cannot write: No such file or directory (os error 2)"),
        (directory.path(), "cannot write: Is a directory (os error 21)"),
        (Path::new("/dev/full"), "cannot write: No space left on device (os error 28)"),
    ] {
        for subcommand in READING {
            let output =
                command().args(subcommand).arg(&path).arg("-o").arg(out).output().expect("run");
            assert_eq!(output.status.code(), Some(1));
            let expected = format!("alloc-trace: {}: {told}\n", out.display());
            assert_eq!(text(&output.stderr), expected);
        }
    }
    let full = fs::File::options().write(true).open("/dev/full").expect("there");
    let output = command().arg("report").arg(&path).stdout(full).output().expect("run");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot write to standard output: No space left"));
}

#[test]
fn a_closed_pipe_is_success() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("long.trace");
    write_long(&path, 50_000);
    for arguments in [["events", "--json"], ["events", "--limit=40000"]] {
        let mut child = command()
            .args(arguments)
            .arg(&path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run");
        let mut first = [0; 10];
        let mut stdout = child.stdout.take().expect("piped");
        stdout.read_exact(&mut first).expect("read");
        drop(stdout);
        let output = child.wait_with_output().expect("waited");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "");
    }
}

/// A recording whose events take more than a pipe holds.
fn write_long(path: &Path, events: u64) {
    use alloc_trace_format::{
        Anchor, EndReason, EventKind, NodeId, Record, RecordingWriter, Window,
    };
    let mut writer =
        RecordingWriter::create(path, &support::header(1), Window::default()).expect("created");
    for number in 0..events {
        let event = alloc_trace_format::Event {
            node: NodeId::ROOT,
            ..support::event(EventKind::Alloc, 1, 1_000 + number, 0x10 * (number + 1), 8)
        };
        writer.write(0, &Record::Event(event)).expect("written");
    }
    let stamp = 1_000 + events;
    writer.write(0, &Record::End { stamp, reason: EndReason::Exited, events }).expect("written");
    writer.finish(Some(Anchor { ticks: stamp, monotonic_ns: stamp })).expect("finished");
}

#[test]
fn wrong_usage_exits_with_2_and_says_why() {
    for arguments in [
        &["bogus"][..],
        &["report"],
        &["report", "a", "b"],
        &["report", "--sort", "nothing", "a"],
        &["events", "--size", "x", "a"],
        &["events", "--kind", "malloc", "a"],
        &["advise", "--rule", "nothing", "a"],
        &["leaks", "--site", "(", "a"],
        &["leaks", "--lifetime", "5", "a"],
        &["leaks", "--from", "5", "a"],
        &["check", "a"],
        &["check", "--max-temporary", "101", "a"],
        &["check", "--max-peak", "+5%", "a"],
        &["check", "--max-growth", "5%", "a"],
        &["check", "--baseline", "b", "a"],
        &["check", "--baseline", "b", "--max-peak", "1M", "a"],
        &["check", "--max-peak", "much", "a"],
        &["diff", "a"],
        &["diff", "a", "b", "--sort", "lifetime", "--fail", "5%"],
        &["report", "--by", "weekday", "a"],
        &["export", "a"],
        &["export", "--format", "gif", "a"],
        &["tree", "--min-share", "101", "a"],
        &["completions", "tcsh"],
        &["man", "bogus"],
        &["man", "--directory", "pages", "report"],
        &["record"],
        &["record", "-o", "-", "--", "true"],
        &[],
    ] {
        let output = command().args(arguments).output().expect("run");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_recording_cut_at_any_byte_is_read_up_to_the_cut_and_called_incomplete() {
    let (directory, path) = sample(true);
    let bytes = fs::read(&path).expect("readable");
    let cut_path = directory.path().join("cut.trace");
    const HEADER_BYTES: usize = alloc_trace_format::FILE_HEADER_BYTES;
    // Each run takes a millisecond: every byte of the file header's fields and of the log, and
    // those of the window that hold something.
    let window = HEADER_BYTES + 64..HEADER_BYTES + 64 + 3 * 512;
    let cuts = (0..100).chain(HEADER_BYTES - 1..bytes.len()).filter(|cut| {
        !window.contains(cut) || bytes[cut.saturating_sub(2)..=*cut].iter().any(|&byte| byte != 0)
    });
    let mut events_before = 0;
    for cut in cuts {
        fs::write(&cut_path, &bytes[..cut]).expect("written");
        let output = run(&[&"report", &"--json", &"--no-symbols", &cut_path]);
        let told = text(&output.stderr);
        if cut < HEADER_BYTES {
            assert_eq!(output.status.code(), Some(1), "cut at {cut}: {told}");
            assert!(told.contains("cut.trace"), "cut at {cut}: {told}");
            continue;
        }
        assert_eq!(output.status.code(), Some(0), "cut at {cut}: {told}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["complete"], false, "cut at {cut}");
        let events = report["events"].as_u64().expect("a number");
        assert!(events >= events_before, "cut at {cut}");
        events_before = events;
        assert!(!told.is_empty(), "cut at {cut}");
    }
    assert!(events_before >= 3);
}

#[test]
fn damage_is_told_with_its_offset_and_the_rest_is_read() {
    let (_directory, path) = sample(true);
    let mut bytes = fs::read(&path).expect("readable");
    // In the payload of the one chunk in the log.
    let log = alloc_trace_format::FILE_HEADER_BYTES + 64 + 3 * 512;
    bytes[log + 64 + 30] ^= 1;
    fs::write(&path, bytes).expect("written");
    let output = run(&[&"report", &"--json", &path]);
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["complete"], false);
    assert_eq!(report["events"], 3, "those of the other streams");
    assert_eq!(report["lost_records"], 4);
    assert_eq!(report["skipped"][0]["offset"], log + 64);
    assert_eq!(report["skipped"][0]["truncated"], false);
    let told = text(&output.stderr);
    assert!(told.contains(&format!("damaged at offset {}", log + 64)), "{told}");
}

#[test]
fn a_file_that_must_not_be_read_is_told() {
    let (_directory, path) = sample(true);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("changed");
    // Root reads everything.
    if fs::File::open(&path).is_err() {
        assert_refused(&path, "cannot open: Permission denied (os error 13)");
    }
}
