//! Broken recordings: every command says the same of one, and none of them panics.

mod support;

use std::fs;
use std::path::Path;
use std::process::Output;

use alloc_trace_format::FILE_HEADER_BYTES;
use serde_json::Value;

use support::{command, sample, text};

/// Every command that reads one recording. `check` is to judge by what there is, as the others do.
const READING: [&[&str]; 21] = [
    &["report", "--json"],
    &["report", "--by=span"],
    &["events"],
    &["tree"],
    &["leaks"],
    &["advise"],
    &["flame"],
    &["timeline"],
    &["html"],
    &["check", "--max-peak=1T", "--allow-incomplete"],
    &["export", "--format=pprof"],
    &["export", "--format=dhat"],
    &["export", "--format=firefox"],
    &["export", "--format=speedscope"],
    &["export", "--format=perfetto"],
    &["export", "--format=collapsed"],
    &["export", "--format=jsonl"],
    &["export", "--format=csv"],
    &["export", "--format=parquet"],
    &["events", "--json"],
    &["flame", "--measure=peak"],
];

/// Those that make nothing of a recording without requests.
const NEEDS_EVENTS: [&str; 1] = ["flame"];

const REQUESTS: [&str; 3] = ["allocations", "zeroed_allocations", "reallocations"];

/// Those that say how the recording is in JSON, with `--json`.
const TELLING: [&[&str]; 6] =
    [&["report"], &["report", "--by=size"], &["tree"], &["leaks"], &["timeline"], &["advise"]];

fn run(arguments: &[&str], files: &[&Path]) -> Output {
    let output = command().args(arguments).arg("--no-symbols").args(files).output().expect("run");
    // A panic exits with 101, a signal has no code.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{arguments:?}: {output:?}");
    output
}

fn json(arguments: &[&str], files: &[&Path]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    let output = run(&arguments, files);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {output:?}"))
}

/// The sum of some figures over all rows.
fn sum(rows: &Value, keys: &[&str]) -> u64 {
    let rows = rows.as_array().expect("a list").iter();
    rows.flat_map(|row| keys.iter().filter_map(|&key| row[key].as_u64())).sum()
}

/// Asks every command for a broken recording.
fn assert_all_agree(broken: &Path, sound: &Path, case: &str) {
    let first = run(&["report"], &[broken]);
    let code = first.status.code();
    // The report itself has what others say on standard error.
    let told = run(&["events"], &[broken]).stderr;
    let told = text(&told);
    let in_report = if code == Some(0) { "" } else { told };
    assert_eq!(text(&first.stderr), in_report, "{case}");
    let has_requests =
        code != Some(0) || sum(&json(&["timeline"], &[broken])["bins"], &REQUESTS) > 0;
    for arguments in READING {
        let output = run(arguments, &[broken]);
        let mut code = code;
        let mut said = text(&output.stderr);
        // Of a picture, which cannot be made of nothing, that is told behind the warnings.
        if let Some((before, _)) = said.split_once("alloc-trace: there is nothing to show") {
            assert!(NEEDS_EVENTS.contains(&arguments[0]) && !has_requests, "{case}: {arguments:?}");
            (said, code) = (before, Some(1));
        }
        assert_eq!(said, told, "{case}: {arguments:?}");
        assert_eq!(output.status.code(), code, "{case}: {arguments:?}: {output:?}");
        assert!(code == Some(0) || output.stdout.is_empty(), "{case}: {arguments:?}");
    }
    for files in [[broken, sound], [sound, broken], [broken, broken]] {
        let output = run(&["diff"], &files);
        assert_eq!(output.status.code(), code, "{case}: diff: {output:?}");
        let broken = files.iter().filter(|&&file| file == broken).count();
        // Who cannot read the first file does not open the second one.
        let expected = told.repeat(if code == Some(0) { broken } else { 1 });
        assert_eq!(text(&output.stderr), expected, "{case}: diff");
    }
    if code != Some(0) {
        assert!(!told.is_empty(), "{case}");
        return;
    }
    let report = json(&["report"], &[broken]);
    for arguments in TELLING {
        let other = json(arguments, &[broken]);
        for key in ["complete", "skipped", "lost_records", "inferred_frees", "end", "duration_ns"] {
            assert_eq!(other[key], report[key], "{case}: {key} of {arguments:?}");
        }
    }
    let diff = json(&["diff", "--by=thread"], &[broken, sound]);
    let diff = &diff["tables"][0]["before"];
    assert_eq!(diff["complete"], report["complete"], "{case}: diff");
    let (tree, grouped) = (json(&["tree"], &[broken]), json(&["report", "--by=site"], &[broken]));
    for key in ["events", "allocated_bytes", "freed_bytes", "peak_bytes", "live_bytes_at_end"] {
        for other in [&tree["total"], &grouped["total"], &diff["total"]] {
            assert_eq!(other[key], report[key], "{case}: {key}");
        }
    }
    let leaks = json(&["leaks"], &[broken]);
    let blocks = sum(&Value::Array(vec![leaks]), &["blocks", "runtime_blocks"]);
    assert_eq!(Some(blocks), report["live_blocks_at_end"].as_u64(), "{case}: leaks");
    let bins = &json(&["timeline"], &[broken])["bins"];
    assert_eq!(Some(sum(bins, &["frees", "unmatched_frees"])), report["frees"].as_u64(), "{case}");
    let peak = json(&["check", "--max-peak=1T", "--allow-incomplete"], &[broken]);
    let peak = peak["limits"][0]["actual"].as_f64();
    assert_eq!(peak, report["peak_bytes"].as_u64().map(|bytes| bytes as f64), "{case}: check");
    // A row a block: those that were obtained in the recording.
    let blocks = run(&["export", "--format=jsonl"], &[broken]);
    let requests = sum(&Value::Array(vec![report]), &["allocations", "zeroed_allocations"]);
    assert!(text(&blocks.stdout).lines().count() as u64 <= requests + 2, "{case}: export");
}

/// Where the log of the sample begins, behind the window of three chunks.
const LOG: usize = FILE_HEADER_BYTES + 64 + 3 * 512;

/// A sound recording, and a broken one beside it.
fn assert_all_agree_on(broken: impl IntoIterator<Item = (String, Vec<u8>)>) {
    let (directory, path) = sample(true);
    let broken_path = directory.path().join("broken.trace");
    for (case, content) in broken {
        fs::write(&broken_path, content).expect("written");
        assert_all_agree(&broken_path, &path, &case);
    }
}

fn sound() -> Vec<u8> {
    let (_directory, path) = sample(true);
    fs::read(&path).expect("readable")
}

#[test]
fn every_command_says_the_same_of_a_recording_that_was_cut() {
    let bytes = sound();
    // In the header, the window's chunks and the log.
    let cuts = [0, 1, 8, 87, FILE_HEADER_BYTES - 1, FILE_HEADER_BYTES, FILE_HEADER_BYTES + 64];
    let further = (FILE_HEADER_BYTES + 100..bytes.len()).step_by(331);
    let in_log = (LOG..bytes.len()).step_by(23);
    let cuts = cuts.into_iter().chain(further).chain(in_log);
    assert_all_agree_on(cuts.map(|cut| (format!("cut at {cut}"), bytes[..cut].to_vec())));
}

#[test]
fn every_command_says_the_same_of_flipped_bits() {
    let bytes = sound();
    let window = (FILE_HEADER_BYTES..LOG).step_by(37);
    let log = (LOG..bytes.len()).step_by(11);
    let places = [0, 5, 9, 20, 40, 84].into_iter().chain(window).chain(log);
    assert_all_agree_on(places.map(|at| {
        let mut broken = bytes.clone();
        broken[at] ^= 1 << (at % 8);
        (format!("a flipped bit at {at}"), broken)
    }));
}

#[test]
fn every_command_says_the_same_of_lengths_that_lie() {
    let bytes = sound();
    // Any four bytes of the log's first block header could be a length, and of the window's first chunk.
    let places = (LOG..LOG + 64).step_by(4).chain((FILE_HEADER_BYTES..LOG).step_by(64));
    assert_all_agree_on(places.flat_map(|at| {
        let lies = [0_u32, u32::MAX];
        lies.map(|lie| {
            let mut broken = bytes.clone();
            broken[at..at + 4].copy_from_slice(&lie.to_le_bytes());
            (format!("{lie} at {at}"), broken)
        })
    }));
}

#[test]
fn every_command_says_the_same_of_what_is_no_recording() {
    let others: [(&str, Vec<u8>); 5] = [
        ("an empty file", Vec::new()),
        ("text", b"this is no recording at all".repeat(100)),
        ("zeros", vec![0; 10_000]),
        ("a program", fs::read("/proc/self/exe").expect("readable")[..100_000].to_vec()),
        ("a header twice", sound()[..FILE_HEADER_BYTES].repeat(2)),
    ];
    assert_all_agree_on(others.map(|(case, bytes)| (case.to_owned(), bytes)));
}
