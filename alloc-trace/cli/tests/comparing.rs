//! `diff`, and `--by`: figures in groups, of one recording and of two.

mod support;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use support::{assert_golden, command, text, write_faults, write_sample};

fn run(arguments: &[&dyn AsRef<OsStr>]) -> Output {
    command().args(arguments.iter().map(|argument| argument.as_ref())).output().expect("run")
}

fn printed(arguments: &[&dyn AsRef<OsStr>]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

fn json(arguments: &[&dyn AsRef<OsStr>]) -> Value {
    serde_json::from_str(&printed(arguments)).expect("one JSON object")
}

/// Two recordings: one with threads and spans, one with many blocks.
fn recordings() -> (TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let (sample, faults) = (directory.path().join("sample"), directory.path().join("faults"));
    write_sample(&sample, 42, true);
    write_faults(&faults, true);
    (directory, sample, faults)
}

const KEYS: [&str; 8] = ["site", "function", "file", "crate", "thread", "span", "size", "lifetime"];

#[test]
fn groups_are_as_they_always_were() {
    let (_directory, sample, faults) = recordings();
    let mut all = String::new();
    for by in KEYS {
        for recording in [&sample, &faults] {
            all += &printed(&[&"report", &"--by", &by, recording]);
            all += "\n";
        }
    }
    all += &printed(&[&"report", &"--by=thread", &"--sort=temporary", &faults]);
    all += "\n";
    all += &printed(&[&"report", &"--sort=lifetime", &"--top=2", &faults]);
    all += "\n";
    all += &printed(&[&"leaks", &"--by=span", &sample]);
    assert_golden("grouped.txt", &all);
}

#[test]
fn groups_add_up_to_the_whole() {
    let (_directory, sample, faults) = recordings();
    for recording in [&sample, &faults] {
        let report = json(&[&"report", &"--json", recording]);
        for by in KEYS {
            let grouped = json(&[&"report", &"--json", &"--by", &by, recording]);
            assert_eq!(grouped["by"], by);
            let groups = grouped["groups"].as_array().expect("a list");
            for key in ["allocated_bytes", "live_bytes_at_end", "at_peak_bytes"]
                .into_iter()
                .chain(["events", "allocations", "failed_requests", "frees", "freed_bytes"])
            {
                let value = |of: &Value| of[key].as_u64().expect("a number");
                let sum: u64 = groups.iter().map(value).sum();
                assert_eq!(sum, value(&report), "{key} by {by}");
                assert_eq!(grouped["total"][key], report[key], "{key}");
            }
        }
        // Sites that only free are among them.
        for key in ["frees", "freed_bytes", "events", "allocated_bytes", "live_bytes_at_end"] {
            let sites = report["sites"].as_array().expect("a list").iter();
            let sum: u64 = sites.filter_map(|site| site[key].as_u64()).sum();
            assert_eq!(sum, report[key].as_u64().expect("a number"), "{key} of call sites");
        }
        let timeline = json(&[&"timeline", &"--json", recording]);
        let bins = timeline["bins"].as_array().expect("a list").iter();
        let frees = |bin: &Value| Some(bin["frees"].as_u64()? + bin["unmatched_frees"].as_u64()?);
        let frees: u64 = bins.filter_map(frees).sum();
        assert_eq!(frees, report["frees"].as_u64().expect("a number"), "frees over time");
        let leaks = json(&[&"leaks", &"--json", &"--by=thread", recording]);
        let blocks = leaks["groups"].as_array().expect("a list").iter();
        let blocks: u64 = blocks.filter_map(|group| group["live_blocks_at_end"].as_u64()).sum();
        assert_eq!(blocks, report["live_blocks_at_end"].as_u64().expect("a number"));
    }
}

#[test]
fn a_diff_is_as_it_always_was() {
    let (directory, sample, faults) = recordings();
    let diff = printed(&[&"diff", &sample, &faults]);
    let directory = directory.path().display().to_string();
    let diff = diff.replace(&directory, "");
    assert_golden("diff.txt", &diff);
    let same = printed(&[&"diff", &sample, &sample]);
    assert!(same.contains("Functions: none changed"), "{same}");
    assert!(same.contains("Spans: none changed"), "{same}");
}

#[test]
fn a_diff_as_json_has_both_sides_of_every_row() {
    let (_directory, sample, faults) = recordings();
    let diff = json(&[&"diff", &"--json", &sample, &faults]);
    assert_eq!(diff["passed"], true);
    let tables = diff["tables"].as_array().expect("a list");
    let whats: Vec<&Value> = tables.iter().map(|table| &table["by"]).collect();
    assert_eq!(whats, ["function", "span"]);
    for (side, recording) in [("before", &sample), ("after", &faults)] {
        let report = json(&[&"report", &"--json", recording]);
        for table in tables {
            assert_eq!(table[side]["complete"], true);
            assert_eq!(table[side]["total"]["allocated_bytes"], report["allocated_bytes"]);
            let rows = table["rows"].as_array().expect("a list").iter();
            let sum: u64 = rows.filter_map(|row| row[side]["allocated_bytes"].as_u64()).sum();
            assert_eq!(sum, report["allocated_bytes"].as_u64().expect("a number"), "{side}");
        }
    }
    let rows = tables[0]["rows"].as_array().expect("a list");
    let row = rows.iter().find(|row| row["function"] == "[0x1000]").expect("a row");
    assert_eq!((row["before"]["requests"].is_null(), row["after"].is_null()), (true, true));
    assert_eq!(row["before"]["allocations"], 3);
    let sites = json(&[&"diff", &"--json", &"--by=site", &sample, &faults]);
    assert_eq!(sites["tables"][0]["by"], "site", "not their functions");
    let some = json(&[&"diff", &"--json", &"--top=1", &"--by=thread", &sample, &faults]);
    assert_eq!(some["tables"][0]["rows"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_diff_fails_where_it_is_to() {
    let (_directory, sample, faults) = recordings();
    let fails = |limit: &str, sort: &str, before: &PathBuf, after: &PathBuf| {
        let output = run(&[&"diff", &limit, &sort, before, after]);
        (output.status.code(), text(&output.stdout).to_owned())
    };
    let (code, printed) = fails("--fail=5%", "--sort=bytes", &sample, &faults);
    assert_eq!(code, Some(1));
    let told = "\nFAILED: allocated bytes: 13.3 MiB is over 5 % more than 1.0 MiB\n";
    assert!(printed.ends_with(told), "{printed}");
    assert_eq!(fails("--fail=1221%", "--sort=bytes", &sample, &faults).0, Some(0));
    assert_eq!(fails("--fail=1220%", "--sort=bytes", &sample, &faults).0, Some(1));
    assert_eq!(fails("--fail=0%", "--sort=peak", &faults, &sample).0, Some(1));
    assert_eq!(fails("--fail=0%", "--sort=requests", &faults, &sample).0, Some(0));
}

/// Runs a command whose standard output nobody reads any more.
fn run_unread(arguments: &[&dyn AsRef<OsStr>]) -> Option<i32> {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = command();
    command.args(arguments.iter().map(|argument| argument.as_ref())).stdout(writer);
    command.status().expect("run").code()
}

#[test]
fn a_verdict_stands_when_its_reader_is_gone() {
    let (_directory, sample, faults) = recordings();
    assert_eq!(run_unread(&[&"check", &faults, &"--max-peak", &"1"]), Some(1));
    assert_eq!(run_unread(&[&"check", &faults, &"--max-peak", &"1GiB"]), Some(0));
    assert_eq!(run_unread(&[&"diff", &sample, &faults, &"--fail", &"5"]), Some(1));
    assert_eq!(run_unread(&[&"report", &faults]), Some(0), "whoever read it has seen enough");
}

#[test]
fn a_diff_that_is_to_fail_does_not_pass_an_incomplete_recording() {
    let (directory, sample, _) = recordings();
    let open = directory.path().join("open");
    write_sample(&open, 42, false);
    let output = run(&[&"diff", &sample, &open, &"--fail", &"1000"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("FAILED: a recording is incomplete"));
    assert!(run(&[&"diff", &sample, &open]).status.success(), "without a limit it only warns");
}

#[test]
fn a_command_that_fails_leaves_the_old_output() {
    let (directory, sample, _) = recordings();
    let old = directory.path().join("old.html");
    std::fs::write(&old, "precious").expect("written");
    for command in ["html", "report", "leaks", "tree", "timeline"] {
        let output = run(&[&command, &sample, &"--from", &"no such marker", &"-o", &old]);
        assert!(!output.status.success(), "{command}");
        assert_eq!(std::fs::read(&old).expect("there"), b"precious", "{command}");
    }
    printed(&[&"report", &sample, &"-o", &old]);
    let new = std::fs::read_to_string(&old).expect("there");
    assert!(!new.contains("precious") && new.contains("heap events"), "{new}");
}

#[test]
fn filters_that_pick_nothing_are_told() {
    let (_directory, sample, _) = recordings();
    let output = run(&[&"check", &sample, &"--span", &"no_such_span", &"--max-peak", &"1"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("the filters pick no event"), "{output:?}");
}
