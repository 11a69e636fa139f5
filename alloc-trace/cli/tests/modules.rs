//! What is found out of modules: names by debuginfod, and what profiles say of them.

mod support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use alloc_trace_format::{
    EventKind, Module, NodeDefinition, NodeId, Record, RecordingWriter, Window,
};
use serde_json::Value;
use tempfile::TempDir;

use support::{command, event, header, text};

/// Where the module was loaded, of those tests.
const BIAS: u64 = 0x4000_0000;

/// What a program of binutils, which are there as the linker is, prints.
fn binutils(program: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(file).output().expect("run");
    assert!(output.status.success(), "{program}: {}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

/// A recording of a program without any symbols, its build id, and the directory of both.
struct Stripped {
    directory: TempDir,
    recording: PathBuf,
    build_id: String,
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_alloc-trace"))
}

fn stripped() -> Stripped {
    let directory = tempfile::tempdir().expect("a directory");
    let copy = directory.path().join("copy");
    let strip = Command::new("objcopy").arg("--strip-all").args([program(), &copy]).status();
    assert!(strip.expect("run").success());
    let notes = binutils("readelf", &["-n"], program());
    let build_id = notes.split("Build ID: ").nth(1).expect("a build id");
    let build_id = build_id.split_whitespace().next().expect("digits").to_owned();
    let symbols = binutils("nm", &[], program());
    let main = symbols.lines().find_map(|line| line.strip_suffix(" T main")).expect("a `main`");
    let main = u64::from_str_radix(main, 16).expect("an address");
    let digit = |at| u8::from_str_radix(&build_id[at..at + 2], 16).expect("a byte");
    let recording = directory.path().join("app.trace");
    let mut writer =
        RecordingWriter::create(&recording, &header(42), Window::default()).expect("created");
    let mut write = |record: Record| writer.write(0, &record).expect("written");
    write(Record::Module(Box::new(Module {
        stamp: 1_000,
        bias: BIAS,
        start: BIAS,
        end: BIAS + (1 << 28),
        build_id: (0..build_id.len()).step_by(2).map(digit).collect(),
        path: copy.to_str().expect("text").into(),
    })));
    let address = BIAS + main + 2;
    write(Record::Node(NodeDefinition { id: NodeId(2), parent: NodeId::ROOT, address }));
    write(Record::Event(event(EventKind::Alloc, 1, 2_000, 0x10, 8)));
    writer.finish(None).expect("finished");
    Stripped { directory, recording, build_id }
}

/// The name of the one call site, and what is said on standard error.
fn site(stripped: &Stripped, arguments: &[&str], path: &str) -> (String, String) {
    let output = command()
        .args(["report", "--json"])
        .args(arguments)
        .arg(&stripped.recording)
        .env("PATH", path)
        .env("DEBUGINFOD_URLS", "http://localhost:1")
        .output()
        .expect("run");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let name = report["sites"][0]["function"].as_str().expect("a name").to_owned();
    (name, text(&output.stderr).to_owned())
}

#[test]
fn debug_information_is_asked_of_servers_where_that_is_wanted_and_nowhere_else() {
    let stripped = stripped();
    let directory = stripped.directory.path();
    // What asks no server, but notes what it was asked and has the answer here.
    let finder = directory.join("debuginfod-find");
    let asked = directory.join("asked");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> '{}'\necho '{}'\n",
        asked.display(),
        program().display()
    );
    fs::write(&finder, script).expect("written");
    fs::set_permissions(&finder, fs::Permissions::from_mode(0o755)).expect("changed");
    let path = format!("{}:/usr/bin:/bin", directory.display());

    let (name, told) = site(&stripped, &[], &path);
    assert!(name.starts_with("[copy+0x"), "{name}");
    assert!(told.contains("--debuginfod asks servers for it"), "{told}");
    assert!(!asked.exists(), "nobody wanted it");
    let (name, told) = site(&stripped, &["--debuginfod"], &path);
    assert_eq!(name, "main", "{told}");
    let question = format!("debuginfo {}\n", stripped.build_id);
    assert_eq!(fs::read_to_string(&asked).expect("asked"), question, "once");
    // What was found is kept beside the recording.
    assert_eq!(site(&stripped, &[], &path).0, "main");
}

#[test]
fn whoever_cannot_ask_servers_is_told_why() {
    let stripped = stripped();
    let empty = tempfile::tempdir().expect("a directory");
    let run = |path: &Path, servers: &str| {
        let output = command()
            .args(["leaks", "--debuginfod"])
            .arg(&stripped.recording)
            .env("PATH", path)
            .env("DEBUGINFOD_URLS", servers)
            .output()
            .expect("run");
        assert_eq!(output.status.code(), Some(2));
        text(&output.stderr).to_owned()
    };
    let told = run(empty.path(), "http://localhost:1");
    assert!(told.contains("`debuginfod-find`, which is not installed"), "{told}");
    fs::write(empty.path().join("debuginfod-find"), "").expect("written");
    let told = run(empty.path(), "");
    assert!(told.contains("DEBUGINFOD_URLS") && told.contains("not set"), "{told}");
}

#[test]
fn a_profile_has_where_modules_were_loaded_and_their_build_ids() {
    let stripped = stripped();
    let file = stripped.directory.path().join("app.pb.gz");
    let output = command()
        .args(["export", "-f", "pprof", "-o"])
        .args([&file, &stripped.recording])
        .output()
        .expect("run");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut profile = Vec::new();
    let packed = fs::File::open(&file).expect("written");
    flate2::read::GzDecoder::new(packed).read_to_end(&mut profile).expect("gzip");
    let has = |part: &[u8]| profile.windows(part.len()).any(|found| found == part);
    assert!(has(stripped.build_id.as_bytes()), "the build id");
    // As protocol buffers write numbers: seven bits a byte, the lowest first.
    let mut start = vec![0x10];
    let mut rest = BIAS;
    while rest >= 0x80 {
        start.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    start.push(rest as u8);
    assert!(has(&start), "the beginning of the mapping, which is field 2");
}
