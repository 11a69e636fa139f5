//! `tree` and `export`: what they print and refuse. What other programs make of exports is in
//! `consumers.rs`.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
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
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout).to_owned()
}

fn json(arguments: &[&dyn AsRef<OsStr>]) -> Value {
    serde_json::from_str(&printed(arguments)).expect("one JSON object")
}

/// A recording whose figures are known.
fn sample() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sample.trace");
    write_sample(&path, 42, true);
    (directory, path)
}

/// A recording with many blocks and call sites.
fn faults() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("faults.trace");
    write_faults(&path, true);
    (directory, path)
}

#[test]
fn the_tree_is_as_it_always_was() {
    let (_directory, path) = faults();
    assert_golden("tree.txt", &printed(&[&"tree", &path]));
    let inverted = printed(&[&"tree", &path, &"--inverted", &"--measure=requests", &"--depth=1"]);
    assert_golden("tree-inverted.txt", &inverted);
    assert_golden("tree-lifetime.txt", &printed(&[&"tree", &path, &"--measure=lifetime"]));
    let (_directory, path) = sample();
    assert_golden("tree-no-file.txt", &printed(&[&"tree", &"--full", &path]));
}

#[test]
fn the_nodes_of_a_tree_add_up() {
    let (_directory, path) = faults();
    for inverted in [false, true] {
        let mut arguments: Vec<&dyn AsRef<OsStr>> = vec![&"tree", &"--json", &path];
        if inverted {
            arguments.push(&"--inverted");
        }
        let tree = json(&arguments);
        let nodes = tree["nodes"].as_array().expect("a list");
        // Call sites that only free are among them.
        let keys = [
            "allocated_bytes",
            "allocations",
            "frees",
            "live_bytes_at_end",
            "at_peak_bytes",
            "lifetime_ns",
        ];
        for key in keys {
            let value = |node: &Value, part: &str| node[part][key].as_u64().expect("a number");
            let own: u64 = nodes.iter().map(|node| value(node, "own")).sum();
            assert_eq!(own, tree["total"][key].as_u64().expect("a number"), "{key}");
            for (index, node) in nodes.iter().enumerate() {
                let below = nodes.iter().filter(|below| below["parent"] == index);
                let below: u64 = below.map(|below| value(below, "inclusive")).sum();
                assert_eq!(value(node, "inclusive"), value(node, "own") + below, "{key}");
            }
        }
        assert_eq!(tree["inverted"], inverted);
    }
    let some = json(&[&"tree", &"--json", &"--min-share=30", &path]);
    let all = json(&[&"tree", &"--json", &path]);
    let length = |tree: &Value| tree["nodes"].as_array().expect("a list").len();
    assert!(length(&some) < length(&all));
}

/// How long the blocks of a recording lived, by its rows: those that were never freed, until the end.
fn lifetimes_by_rows(path: &Path) -> u64 {
    let end = json(&[&"report", &"--json", &path])["duration_ns"].as_u64().expect("a time");
    let rows = printed(&[&"export", &"--format=jsonl", &path]);
    let lived = rows.lines().map(|row| {
        let row: Value = serde_json::from_str(row).expect("JSON");
        let obtained = row["allocated_ns"].as_u64().expect("a time");
        row["freed_ns"].as_u64().unwrap_or(end) - obtained
    });
    lived.sum()
}

#[test]
fn lifetimes_are_those_of_all_blocks_whatever_shows_them() {
    for (_directory, path) in [sample(), faults()] {
        let expected = lifetimes_by_rows(&path);
        assert!(expected > 0);
        let tree = json(&[&"tree", &"--json", &"--measure=lifetime", &path]);
        assert_eq!(tree["total"]["lifetime_ns"], expected);
        let stacks = printed(&[&"export", &"--format=collapsed", &"--measure=lifetime", &path]);
        let weights =
            stacks.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        assert_eq!(weights.sum::<u64>(), expected);
        let by_lifetime = json(&[&"report", &"--json", &"--by=lifetime", &path]);
        let groups = by_lifetime["groups"].as_array().expect("a list").iter();
        let of_groups = groups.map(|group| group["lifetime_ns"].as_u64().expect("a number"));
        assert_eq!(of_groups.sum::<u64>(), expected);
        let profiles = json(&[&"export", &"--format=speedscope", &"--measure=lifetime", &path]);
        let shown = profiles["activeProfileIndex"].as_u64().expect("a number") as usize;
        let profile = &profiles["profiles"][shown];
        assert_eq!(
            (&profile["endValue"], &profile["unit"]),
            (&expected.into(), &"nanoseconds".into())
        );
        let points = json(&[&"export", &"--format=dhat", &path]);
        let points = points["pps"].as_array().expect("a list").iter();
        assert_eq!(
            points.map(|point| point["tl"].as_u64().expect("a number")).sum::<u64>(),
            expected
        );
    }
}

#[test]
fn collapsed_stacks_and_rows_are_as_they_always_were() {
    let (_directory, path) = sample();
    let expected = "\
[0x1000] 1048700
[0x1000];[0x2000] 5000
";
    assert_eq!(printed(&[&"export", &"--format=collapsed", &path]), expected);
    let live = printed(&[&"export", &"--format=collapsed", &"--measure=live-blocks", &path]);
    assert_eq!(live, "[0x1000] 1\n[0x1000];[0x2000] 1\n");
    let csv = printed(&[&"export", &"--format=csv", &path]);
    let expected = "\
address,size,align,kind,allocated_ns,freed_ns,lifetime_ns,release,temporary,function,file,line,span,\
span_path,span_fields,thread,thread_name,free_thread,free_thread_name,free_function,free_file,free_line
139637976727568,100,8,alloc,1000,2000,1000,realloc,false,[0x1000],,,,,,1,main,1,main,[0x2000],,
139637976743936,1048576,8,alloc_zeroed,4000,5000,1000,free,true,[0x1000],,,request,server/request,,2,\
worker,2,worker,[0x1000],,
139637976731648,5000,8,realloc,2000,,,,false,[0x2000],,,server,server,,1,main,,,,,
139637976776704,24,8,alloc,1999000,,,,false,[0x1000],,,,,,1,main,,,,,
";
    assert_eq!(csv, expected);
    let lines =
        printed(&[&"export", &"--format=jsonl", &"--span-fields", &"--span=request", &path]);
    let row: Value = serde_json::from_str(&lines).expect("one line");
    let expected = serde_json::json!({
        "address": 0x7f00_0000_4000_u64, "size": 1 << 20, "align": 8, "kind": "alloc_zeroed",
        "allocated_ns": 4_000, "freed_ns": 5_000, "lifetime_ns": 1_000, "release": "free",
        "temporary": true, "function": "[0x1000]", "file": null, "line": null, "span": "request",
        "span_path": "server/request", "span_fields": "id=2", "thread": 2, "thread_name": "worker",
        "free_thread": 2, "free_thread_name": "worker", "free_function": "[0x1000]",
        "free_file": null, "free_line": null,
    });
    assert_eq!(row, expected);
}

/// The tables of a Firefox profile refer to each other by number, and every block's coming and going
/// is in it.
#[test]
fn a_firefox_profile_has_every_block_and_every_span() {
    let (_directory, path) = sample();
    let profile = json(&[&"export", &"--format=firefox", &path]);
    let threads = profile["threads"].as_array().expect("a list");
    let names: Vec<&str> = threads.iter().filter_map(|thread| thread["name"].as_str()).collect();
    assert_eq!(names, ["app", "worker"], "the format gives a first thread its process's name");
    let allocations = &threads[0]["nativeAllocations"];
    let weights: Vec<i64> = numbers(&allocations["weight"]);
    assert_eq!(weights, [100, -100, 5_000, 1 << 20, -(1 << 20), 24]);
    let stacks = &threads[0]["stackTable"];
    let frames = threads[0]["frameTable"]["length"].as_i64().expect("a number");
    assert!(numbers(&stacks["frame"]).iter().all(|&frame| frame < frames));
    let length = stacks["length"].as_i64().expect("a number");
    assert!(numbers(&allocations["stack"]).iter().all(|&stack| stack < length));
    assert_eq!(threads[0]["markers"]["length"], 1, "a thread in a span");
    let counter = &profile["counters"][0];
    assert_eq!((&counter["name"], &counter["category"]), (&"malloc".into(), &"Memory".into()));
    let counts = counter["samples"]["count"].as_array().expect("a list");
    let (mut live, mut peak) = (0.0, 0.0_f64);
    for change in counts {
        live += change.as_f64().expect("a number");
        peak = peak.max(live);
    }
    assert_eq!((live, peak), (5_024.0, 1_053_576.0));
}

fn numbers(list: &Value) -> Vec<i64> {
    list.as_array().expect("a list").iter().map(|number| number.as_i64().expect("one")).collect()
}

#[test]
fn more_blocks_than_a_viewer_bears_are_refused_before_anything_is_written() {
    let (directory, path) = faults();
    let file = directory.path().join("profile.json");
    fs::write(&file, "mine").expect("written");
    let limit = "--max-blocks=2400";
    let output = run(&[&"export", &"--format=firefox", &limit, &path, &"-o", &file]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("more than 2,400 blocks"), "{}", text(&output.stderr));
    assert_eq!(fs::read(&file).expect("there"), b"mine");
    let limit = "--max-blocks=2401";
    let output = run(&[&"export", &"--format=firefox", &limit, &path, &"-o", &file]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let few = run(&[&"export", &"--format=firefox", &"--max-blocks=1", &path, &"--size=40000.."]);
    assert_eq!(few.status.code(), Some(1), "200 of 64 KiB");
    let few = run(&[&"export", &"--format=firefox", &"--max-blocks=1", &path, &"--size=40000"]);
    assert!(few.status.success(), "{}", text(&few.stderr));
}

#[test]
fn every_format_can_be_written_and_is_the_same_twice() {
    let (directory, path) = sample();
    let path: &Path = &path;
    let formats = [
        "pprof",
        "dhat",
        "firefox",
        "speedscope",
        "perfetto",
        "collapsed",
        "jsonl",
        "csv",
        "parquet",
    ];
    for format in formats {
        let file = directory.path().join(format);
        let written = run(&[&"export", &"-f", &format, &path, &"-o", &file]);
        assert!(written.status.success(), "{format}: {}", text(&written.stderr));
        let piped = run(&[&"export", &"-f", &format, &path]);
        assert!(!piped.stdout.is_empty(), "{format}");
        assert_eq!(fs::read(&file).expect("written"), piped.stdout, "{format}");
    }
}

#[test]
fn collapsed_stacks_are_what_a_reader_of_them_takes() {
    let (_directory, path) = sample();
    for (measure, total) in [("bytes", "1,053,700"), ("live-blocks", "2"), ("requests", "5")] {
        let stacks = printed(&[&"export", &"-f", &"collapsed", &"--measure", &measure, &path]);
        let mut svg = Vec::new();
        let mut options = inferno::flamegraph::Options::default();
        inferno::flamegraph::from_lines(&mut options, stacks.lines(), &mut svg).expect("stacks");
        // Lines that it cannot read are left out of its sum.
        let whole = format!("all ({total} samples, 100%)");
        assert!(text(&svg).contains(&whole), "{measure}: {stacks}");
    }
}

#[test]
fn a_recording_is_never_replaced_by_what_is_made_of_it() {
    let (_directory, path) = sample();
    let before = fs::read(&path).expect("there");
    let commands: [&[&str]; 5] =
        [&["report"], &["events"], &["tree"], &["export", "-f", "csv"], &["leaks", "--by", "span"]];
    for arguments in commands {
        let output =
            command().args(arguments).arg(&path).arg("-o").arg(&path).output().expect("run");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let told = text(&output.stderr);
        assert!(told.contains("is a recording, which is not replaced"), "{told}");
        assert_eq!(fs::read(&path).expect("there"), before, "{arguments:?}");
    }
}

#[test]
fn what_was_written_is_said_as_json() {
    let (directory, path) = faults();
    let report = json(&[&"report", &"--json", &path]);
    let file = directory.path().join("made");
    let figure = |key: &str| report[key].as_u64().expect("a figure");
    let blocks = ["allocations", "zeroed_allocations", "reallocations"].map(figure);
    let blocks = blocks.iter().sum::<u64>() - figure("failed_requests");
    let commands: [(&[&str], &str, Value, bool); 6] = [
        (&["flame", "--measure=peak"], "svg", "at-peak".into(), true),
        (&["html"], "html", Value::Null, true),
        (&["export", "-f", "pprof", "--measure=live-blocks"], "pprof", "live-blocks".into(), true),
        (&["export", "-f", "perfetto"], "perfetto", Value::Null, true),
        (&["export", "-f", "csv"], "csv", Value::Null, false),
        (&["export", "-f", "parquet"], "parquet", Value::Null, false),
    ];
    for (arguments, format, measure, has_events) in commands {
        let mut command = command();
        command.args(arguments).arg("--json").arg(&path);
        let refused = command.output().expect("run");
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(refused.stdout.is_empty());
        assert!(text(&refused.stderr).contains("give -o FILE"), "{}", text(&refused.stderr));
        let output = command.arg("-o").arg(&file).output().expect("run");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
        assert_eq!(said["path"], file.to_str().expect("text"));
        assert_eq!((&said["format"], &said["measure"]), (&format.into(), &measure));
        assert_eq!(said["bytes"], fs::metadata(&file).expect("written").len(), "{arguments:?}");
        assert_eq!(said["blocks"], blocks, "{arguments:?}");
        let events = if has_events { report["events"].clone() } else { Value::Null };
        assert_eq!(said["events"], events, "{arguments:?}");
        for key in ["complete", "end", "duration_ns", "lost_records", "skipped"] {
            assert_eq!(said[key], report[key], "{arguments:?}: {key}");
        }
    }
}
