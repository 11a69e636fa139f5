//! Exports, read by programs that nobody here wrote: Go's pprof, DuckDB, Arrow, Valgrind's viewer, the
//! schema of speedscope, Perfetto's message definitions. What they find is what `report` says.
//!
//! `tests/consumers/install.sh` installs them. Where one is missing its test fails if `CI` is set, and
//! says that it was skipped otherwise.

mod support;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use support::{command, text, write_faults, write_sample};

/// A recording, and what `report` says of it.
struct Subject {
    directory: TempDir,
    recording: PathBuf,
    report: Value,
}

impl Subject {
    fn new(write: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let recording = directory.path().join("recording.trace");
        write(&recording);
        let report = command().args(["report", "--json"]).arg(&recording).output().expect("run");
        let report = serde_json::from_slice(&report.stdout).expect("JSON");
        Self { directory, recording, report }
    }

    /// One with threads and spans, and one with many blocks and call sites.
    fn both() -> [Self; 2] {
        [Self::new(|path| write_sample(path, 42, true)), Self::new(|path| write_faults(path, true))]
    }

    fn export(&self, format: &str) -> PathBuf {
        let path = self.directory.path().join(format);
        let output = command()
            .args(["export", "--format", format, "-o"])
            .args([&path, &self.recording])
            .output()
            .expect("run");
        assert!(output.status.success(), "{}", text(&output.stderr));
        path
    }

    fn figure(&self, key: &str) -> u64 {
        self.report[key].as_u64().expect("a number")
    }

    fn requests(&self) -> u64 {
        ["allocations", "zeroed_allocations", "reallocations"]
            .map(|key| self.figure(key))
            .iter()
            .sum()
    }

    /// The requests that obtained a block.
    fn blocks(&self) -> u64 {
        self.requests() - self.figure("failed_requests")
    }
}

/// Where `install.sh` puts what it installs.
fn installed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/consumers").join(path)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/consumers").join(name)
}

/// The command, if its program is there: a path, or a name that is run with `version`.
fn consumer(program: &Path, version: &[&str]) -> Option<Command> {
    let found = Command::new(program).args(version).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(Command::new(program));
    }
    missing(program);
    None
}

fn missing(what: &Path) {
    let what = what.display();
    assert!(std::env::var_os("CI").is_none(), "{what} is missing: run tests/consumers/install.sh");
    // Not by a macro, whose output the test runner keeps to itself.
    let told = format!("SKIPPED: {what} is missing; tests/consumers/install.sh installs it\n");
    std::io::stderr().write_all(told.as_bytes()).expect("told");
}

fn run(command: &mut Command, arguments: &[&dyn AsRef<OsStr>]) -> String {
    let output =
        command.args(arguments.iter().map(|argument| argument.as_ref())).output().expect("run");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

fn python() -> Option<Command> {
    consumer(&installed("venv/bin/python"), &["--version"])
}

#[test]
fn go_tool_pprof_finds_every_figure() {
    let Some(_) = consumer("go".as_ref(), &["version"]) else { return };
    for subject in Subject::both() {
        let profile = subject.export("pprof");
        let raw = run(Command::new("go").args(["tool", "pprof", "-raw"]), &[&profile]);
        let mut lines = raw.lines().skip_while(|line| *line != "Samples:").skip(1);
        let names = lines.next().expect("the names of the values").split_whitespace();
        let names: Vec<&str> = names.collect();
        let mut sums = vec![0; names.len()];
        for line in lines.take_while(|line| *line != "Locations") {
            let Some((values, _)) = line.split_once(':') else { continue };
            for (sum, value) in sums.iter_mut().zip(values.split_whitespace()) {
                *sum += value.parse::<u64>().expect("a number");
            }
        }
        let expected = [
            ("alloc_objects/count", subject.requests()),
            ("alloc_space/bytes[dflt]", subject.figure("allocated_bytes")),
            ("inuse_objects/count", subject.figure("live_blocks_at_end")),
            ("inuse_space/bytes", subject.figure("live_bytes_at_end")),
            ("peak_objects/count", subject.figure("at_peak_blocks")),
            ("peak_space/bytes", subject.figure("at_peak_bytes")),
            ("temporary_objects/count", subject.figure("temporary_allocations")),
        ];
        let mut found: Vec<(&str, u64)> = names.into_iter().zip(sums).collect();
        // Each backtrace has whole microseconds.
        let (name, lifetime) = found.pop().expect("the last one");
        let whole = subject.figure("lifetime_ns") / 1_000;
        assert_eq!(name, "lifetime/microseconds");
        assert!(lifetime > 0 && (whole.saturating_sub(10)..=whole).contains(&lifetime));
        assert_eq!(found, expected);
        let top = run(Command::new("go").args(["tool", "pprof", "-top"]), &[&profile]);
        assert!(top.contains("[0x1000]") || top.contains("[0x5000]"), "{top}");
    }
}

#[test]
fn duckdb_and_arrow_find_every_block() {
    let Some(_) = python() else { return };
    for (subject, threads) in Subject::both().iter().zip([2, 2]) {
        let mut answers = Vec::new();
        for format in ["parquet", "csv", "jsonl"] {
            let path = subject.export(format);
            let mut python = python().expect("there");
            let answer = run(&mut python, &[&script("rows.py"), &format, &path]);
            answers.push(serde_json::from_str::<Value>(&answer).expect("JSON"));
        }
        for answer in &answers {
            let sums = &answer["sums"];
            assert_eq!(sums[0], subject.blocks());
            assert_eq!(sums[1], subject.figure("allocated_bytes"));
            assert_eq!(sums[2], subject.blocks() - subject.figure("live_blocks_at_end"));
            assert_eq!(sums[3], subject.figure("live_bytes_at_end"));
            assert_eq!(sums[4], subject.figure("temporary_allocations"));
            assert_eq!(sums[8], 0, "lifetimes that are not from the request to the release");
            let by_thread = subject.report["by_thread"].as_array().expect("a list");
            assert_eq!(by_thread.len(), threads);
            for thread in by_thread.iter().filter(|thread| thread["allocated_bytes"] != 0) {
                let name = thread["name"].as_str().expect("a name");
                assert_eq!(answer["threads"][name], thread["allocated_bytes"], "{name}");
            }
            for key in ["sums", "threads", "spans"] {
                assert_eq!(answer[key], answers[0][key], "{key}: all formats have the same blocks");
            }
        }
        let types = &answers[0]["arrow"];
        for (column, expected) in [
            ("address", "uint64"),
            ("function", "string"),
            ("line", "uint32"),
            ("temporary", "bool"),
        ] {
            assert_eq!(types[column], expected, "{column}");
        }
    }
    let [spans, _] = Subject::both();
    let path = spans.export("parquet");
    let answer = run(&mut python().expect("there"), &[&script("rows.py"), &"parquet", &path]);
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let expected = json!({ "server": 5_000, "server/request": 1 << 20 });
    assert_eq!(answer["spans"], expected);
}

#[test]
fn the_viewer_of_dhat_adds_up_every_figure() {
    let viewers = ["/usr/libexec/valgrind/dh_view.js", "/usr/lib/valgrind/dh_view.js"];
    let Some(viewer) = viewers.iter().map(Path::new).find(|path| path.exists()) else {
        return missing(viewers[0].as_ref());
    };
    let Some(_) = consumer("node".as_ref(), &["--version"]) else { return };
    for subject in Subject::both() {
        let path = subject.export("dhat");
        let answer = run(&mut Command::new("node"), &[&script("dhat.js"), &viewer, &path]);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let sums = &answer["sums"];
        assert_eq!(sums[0], subject.figure("allocated_bytes"));
        assert_eq!(sums[1], subject.blocks());
        assert_eq!(sums[3], subject.figure("at_peak_bytes"));
        assert_eq!(sums[4], subject.figure("at_peak_blocks"));
        assert_eq!(sums[5], subject.figure("live_bytes_at_end"));
        assert_eq!(sums[6], subject.figure("live_blocks_at_end"));
        let page = answer["text"].as_str().expect("a text");
        assert!(page.contains("PP 1/1") && page.contains("#1: [0x"), "{page}");
    }
}

#[test]
fn speedscope_profiles_are_as_its_schema_wants_them() {
    let schema = installed("node_modules/speedscope/dist/release/file-format-schema.json");
    if !schema.exists() {
        return missing(&schema);
    }
    let Some(_) = python() else { return };
    for subject in Subject::both() {
        let path = subject.export("speedscope");
        let mut python = python().expect("there");
        let answer = run(&mut python, &[&script("speedscope.py"), &schema, &path]);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let expected = json!({
            "allocated bytes": subject.figure("allocated_bytes"),
            "requests": subject.requests(),
            "bytes live at the peak": subject.figure("at_peak_bytes"),
            "bytes live at end": subject.figure("live_bytes_at_end"),
            "blocks live at end": subject.figure("live_blocks_at_end"),
            "temporary allocations": subject.figure("temporary_allocations"),
            "lifetimes of all blocks": subject.figure("lifetime_ns"),
        });
        assert_eq!(answer, expected);
    }
}

#[test]
fn perfetto_finds_counters_and_slices() {
    let Some(_) = python() else { return };
    for subject in Subject::both() {
        let path = subject.export("perfetto");
        let mut python = python().expect("there");
        let answer = run(&mut python, &[&script("perfetto_trace.py"), &path]);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["peaks"]["live bytes"], subject.figure("peak_bytes"));
        assert_eq!(answer["ends"]["live bytes"], subject.figure("live_bytes_at_end"));
        for thread in subject.report["by_thread"].as_array().expect("a list") {
            let track = format!("live bytes of {}", thread["name"].as_str().expect("a name"));
            let known = answer["ends"].get(&track).cloned().unwrap_or(json!(0));
            assert_eq!(known, thread["live_bytes_at_end"], "{track}");
        }
        for span in subject.report["by_span"].as_array().expect("a list") {
            let track = format!("live bytes in {}", span["name"].as_str().expect("a name"));
            assert_eq!(answer["ends"][&track], span["live_bytes_at_end"], "{track}");
        }
    }
    let [spans, _] = Subject::both();
    let path = spans.export("perfetto");
    let answer = run(&mut python().expect("there"), &[&script("perfetto_trace.py"), &path]);
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer["process"], json!([42, "app", ["app", "--fast"]]));
    assert_eq!(answer["threads"], json!([[4_201, "main"], [4_202, "worker"]]));
    let slices = json!({ "main": ["server{id=1}"], "worker": ["request{id=2}"] });
    assert_eq!(answer["slices"], slices);
}
