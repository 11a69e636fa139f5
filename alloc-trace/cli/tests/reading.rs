//! `report`, `events`, `leaks` and `advise`: what they print, and where to.

mod support;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use support::{
    assert_golden, command, faults, json, json_lines, run, sample, text, write_faults, write_long,
    write_sample,
};

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
        "sparse        1 page with 64.0 KiB: a quarter is taken, or less",
        "    1       1   2,048   500      12  1,536  24.4 %  to 32 B",
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

#[test]
fn the_advice_is_as_it_always_was() {
    let (_directory, path) = faults(true);
    let output = run(&[&"advise", &path]);
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
    let printed = text(&output.stdout);
    assert_golden("advise.txt", printed);
    let words: Vec<&str> = printed.split_whitespace().collect();
    let long = |pair: &&[&str]| pair[0].len() > 4 && pair[0].bytes().all(|c| c.is_ascii_digit());
    let bare: Vec<_> = words.windows(2).filter(long).collect();
    assert!(bare.is_empty(), "numbers that nobody reads: {bare:?}");
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
fn the_bins_of_a_timeline_add_up_to_the_figures_of_the_report() {
    let (_directory, path) = faults(true);
    for filter in ["--size=0..", "--size=1000..", "--thread=1"] {
        let report = json(&[&"report", &"--json", &filter, &path]);
        let timeline = json(&[&"timeline", &"--json", &"--bins=16", &filter, &path]);
        let bins = timeline["bins"].as_array().expect("a list");
        let figure = |bin: &Value, key: &str| bin[key].as_u64().expect("a figure");
        for key in
            ["allocations", "reallocations", "frees", "temporary_allocations", "allocated_bytes"]
        {
            let sum: u64 = bins.iter().map(|bin| figure(bin, key)).sum();
            assert_eq!(sum, figure(&report, key), "{filter}: {key}");
        }
        let peak = bins.iter().map(|bin| figure(bin, "peak_bytes")).max();
        assert_eq!(peak, report["peak_bytes"].as_u64(), "{filter}");
        let last = bins.last().expect("some");
        assert_eq!(last["live_bytes"], report["live_bytes_at_end"], "{filter}");
        assert_eq!(last["live_blocks"], report["live_blocks_at_end"], "{filter}");
        let length = timeline["bin_ns"].as_u64().expect("a figure") * bins.len() as u64;
        assert!(length >= figure(&timeline, "duration_ns"), "{filter}");
    }
}

#[test]
fn advice_as_json_has_its_rule_its_site_its_evidence_and_its_remedy() {
    let (_directory, path) = faults(true);
    let advice = json(&[&"advise", &"--json", &path]);
    assert_eq!((&advice["complete"], &advice["backtraces"]), (&true.into(), &true.into()));
    let findings = advice["findings"].as_array().expect("a list");
    let rules: Vec<&str> = findings.iter().filter_map(|found| found["rule"].as_str()).collect();
    let expected =
        ["stack", "growth", "temporaries", "temporaries", "leaks", "small-boxes", "remote-frees"];
    assert_eq!(rules, expected);
    let stack = serde_json::json!({
        "rule": "stack", "function": "[0x3000]", "file": null, "line": null, "holder": null,
        "blocks": 200, "bytes": 6_400, "events": 400,
        "evidence": {
            "min_size": 32, "max_size": 32, "enclosed": 200, "at_once": 1, "frame": "[0x2000]",
            "in_frame": 200, "after_next": 0,
        },
        "remedy": "hold it by value: a plain value or an array of 32 bytes in place of a Box or a \
                   Vec",
    });
    assert_eq!(findings[0], stack);
    let some =
        json(&[&"advise", &"--json", &"--rule=temporaries", &"--rule=leaks", &"--top=1", &path]);
    assert_eq!(some["findings"].as_array().map(Vec::len), Some(2));
    let many = json(&[&"advise", &"--json", &"--min-blocks=201", &path]);
    assert_eq!(many["findings"].as_array().map(Vec::len), Some(1));
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
fn output_goes_to_a_file_and_a_dash_is_standard_output() {
    let (directory, path) = sample(true);
    let out = directory.path().join("report.txt");
    let output = run(&[&"report", &path, &"-o", &out]);
    assert!(output.status.success() && output.stdout.is_empty());
    let dash = run(&[&"report", &path, &"--output", &"-"]);
    assert_eq!(fs::read(&out).expect("written"), dash.stdout);
    assert_eq!(dash.stdout, run(&[&"report", &path]).stdout);
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

#[test]
fn leaks_are_ordered_by_what_is_asked_for() {
    let (_directory, path) = sample(true);
    let first = |key: &str| {
        let leaks = json(&[&"leaks", &"--json", &"--sort", &key, &path]);
        leaks["sites"][0]["function"].as_str().map(str::to_owned)
    };
    // One block of 5,000 bytes early, and one of 24 late.
    for key in ["bytes", "size", "age"] {
        assert_eq!(first(key).as_deref(), Some("[0x2000]"), "{key}");
    }
    let (_directory, path) = faults(true);
    let leaks = json(&[&"leaks", &"--json", &"--sort=blocks", &"--by=size", &path]);
    assert_eq!(leaks["groups"][0]["live_blocks_at_end"], 200);
    let refused = run(&[&"leaks", &"--sort=age", &"--by=thread", &path]);
    assert_eq!(refused.status.code(), Some(2), "groups have no ages");
}

#[test]
fn with_all_frames_a_call_site_is_the_innermost_frame_and_nothing_is_lost() {
    let (_directory, path) = sample(true);
    for command in ["report", "leaks", "advise", "tree"] {
        let (folded, full) =
            (json(&[&command, &"--json", &path]), json(&[&command, &"--json", &"--full", &path]));
        assert_eq!(folded["bytes"], full["bytes"], "{command}");
        assert_eq!(folded["total"], full["total"], "{command}");
    }
    for command in [&["events"][..], &["flame"], &["export", "-f", "csv"]] {
        let output = command_of(command).arg("--full").arg(&path).output().expect("run");
        assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    }
}

fn command_of(arguments: &[&str]) -> std::process::Command {
    let mut command = command();
    command.args(arguments);
    command
}

#[test]
fn what_is_told_of_a_recording_is_told_once() {
    let (_directory, path) = sample(false);
    let told = "the recording ended without its closing record";
    for arguments in [&["report"][..], &["report", "--json"], &["leaks"], &["tree"], &["events"]] {
        let output = command().args(arguments).arg(&path).output().expect("run");
        let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
        // A report's warnings are broken into lines.
        let printed = printed.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(printed.matches(told).count(), 1, "{arguments:?}: {printed}");
    }
}
