//! Names that nobody expects: of functions and source files, out of a module that has them, and of files that
//! are not UTF-8. Every command and format takes them, and what it writes can be read.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use alloc_trace_format::{
    EventKind, Module, NodeDefinition, NodeId, Process, Record, RecordingWriter, Window,
};
use serde_json::Value;
use tempfile::TempDir;

use support::{command, event, header, start, text};

/// Where the module was loaded.
const BIAS: u64 = 0x4000_0000;

/// So much of a name that nothing shows it whole.
const LONG: usize = 64 << 10;

/// The names of functions: what pages, pictures, terminals, tables and the formats' own syntax would obey,
/// long ones, and what looks mangled and is not.
fn functions() -> Vec<String> {
    vec![
        "f0::a\"b'<script>alert(1)</script>&amp;]]>--><!--".to_owned(),
        "f1::\x1b[2J\x1b]0;title\x07\r\n\t\u{9b}31m\u{202e}\u{7f}\u{1}".to_owned(),
        "f2::\u{fffe}\u{ffff}\u{feff}\u{2028}größe日本😀".to_owned(),
        format!("f3::{}", "x".repeat(LONG)),
        "f4::a;b {{title}} {{data}} 12 34".to_owned(),
        format!("f5::{}", "a<".repeat(LONG / 2)),
        format!("_ZN{}", "St".repeat(LONG / 2)),
        format!("_RNv{}", "Nv".repeat(LONG / 2)),
        format!("_Z{}", "P".repeat(LONG)),
        "f9,=HYPERLINK(\"http://localhost\")\\u0000\\".to_owned(),
    ]
}

/// A module whose functions have these names, out of a source file whose name is no better.
fn module(directory: &Path, names: &[String]) -> PathBuf {
    let source = directory.join("a\"<b>&'\x1b[2J\u{9b};\n.rs");
    let mut code = "#![no_std]\n#![no_builtins]\n".to_owned();
    for (number, name) in names.iter().enumerate() {
        code += &format!(
            "#[unsafe(export_name = {name:?})]\npub extern \"C\" fn f{number}(x: u64) -> u64 {{\n    \
             x ^ {number}\n}}\n"
        );
    }
    fs::write(&source, code).expect("written");
    let (object, module) = (directory.join("app.o"), directory.join("app.so"));
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let compiled = Command::new(rustc)
        .args(["--edition=2024", "--crate-name=app", "--crate-type=lib", "--emit=obj", "-g"])
        .args(["-Cpanic=abort", "-Ccodegen-units=1", "-Crelocation-model=pic", "-Awarnings", "-o"])
        .args([&object, &source])
        .output()
        .expect("run");
    assert!(compiled.status.success(), "{}", text(&compiled.stderr));
    let linked = Command::new("ld")
        .args(["-shared", "--build-id=0x0102", "-o"])
        .args([&module, &object])
        .output();
    let linked = linked.expect("run");
    assert!(linked.status.success(), "{}", text(&linked.stderr));
    module
}

/// Where the functions are in a module.
fn addresses(module: &Path, names: &[String]) -> Vec<u64> {
    let output = Command::new("nm").arg(module).output().expect("run");
    let symbols = String::from_utf8_lossy(&output.stdout).into_owned();
    let address = |name: &String| {
        let begins = format!(" T {}", &name[..4]);
        let line = symbols.lines().find(|line| line.contains(&begins));
        u64::from_str_radix(&line.expect(&begins)[..16], 16).expect("an address")
    };
    names.iter().map(address).collect()
}

/// Writes a recording of a module: its functions call each other in their order, and each obtains blocks.
fn write(recording: &Path, module: &[u8], addresses: &[u64]) {
    let shown = String::from_utf8_lossy(module);
    let mut writer =
        RecordingWriter::create(recording, &header(42), Window::default()).expect("created");
    let mut write = |record: Record| writer.write(0, &record).expect("written");
    write(Record::Process(Box::new(Process {
        pid: 42,
        parent_pid: 41,
        executable: (*shown).into(),
        arguments: ["app\"<b>".into()].into(),
    })));
    write(start(1, "main", false));
    write(Record::Module(Box::new(Module {
        stamp: 1_000,
        bias: BIAS,
        start: BIAS,
        end: BIAS + (1 << 20),
        build_id: [1, 2].into(),
        path: (*shown).into(),
    })));
    for (number, address) in (2..).zip(addresses) {
        let parent = NodeId(if number == 2 { 0 } else { number - 1 });
        let address = BIAS + address + 4;
        write(Record::Node(NodeDefinition { id: NodeId(number), parent, address }));
        for round in 0..60_u64 {
            let stamp = 2_000 + 10_000 * u64::from(number) + 100 * round;
            let block = 0x10_0000 * u64::from(number);
            let node = NodeId(number);
            let obtained = event(EventKind::Alloc, 1, stamp, block, 32);
            write(Record::Event(alloc_trace_format::Event { node, ..obtained }));
            if round < 59 {
                let freed = event(EventKind::Free, 1, stamp + 50, block, 32);
                write(Record::Event(alloc_trace_format::Event { node, ..freed }));
            }
        }
    }
    writer.finish(None).expect("finished");
}

/// A recording of functions with such names.
struct Subject {
    directory: TempDir,
    recording: PathBuf,
    names: Vec<String>,
}

fn subject() -> Subject {
    let directory = tempfile::tempdir().expect("a directory");
    let names = functions();
    let module = module(directory.path(), &names);
    let recording = directory.path().join("app.trace");
    let addresses = addresses(&module, &names);
    write(&recording, module.as_os_str().as_bytes(), &addresses);
    Subject { directory, recording, names }
}

fn run(arguments: &[&str], files: &[&Path]) -> Output {
    let output = command().args(arguments).args(files).output().expect("run");
    assert!(
        output.status.success(),
        "{arguments:?}: {:.2000}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The texts in JSON, wherever in it they are.
fn texts(json: &Value, found: &mut Vec<String>) {
    match json {
        Value::String(text) => found.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|one| texts(one, found)),
        Value::Object(members) => members.values().for_each(|one| texts(one, found)),
        _ => {}
    }
}

/// Whether a terminal obeys a character in a line.
fn is_obeyed(c: &char) -> bool {
    (c.is_control() && *c != '\n') || matches!(c, '\u{202e}' | '\u{2028}')
}

/// The commands that write for people.
const FOR_PEOPLE: [&[&str]; 13] = [
    &["report", "--top=99"],
    &["report", "--by=site"],
    &["report", "--by=function"],
    &["report", "--by=file"],
    &["report", "--by=crate"],
    &["events"],
    &["tree", "--min-share=0"],
    &["tree", "--inverted", "--min-share=0"],
    &["leaks"],
    &["leaks", "--by=function"],
    &["advise"],
    &["check", "--max-peak=1T", "--allow-incomplete"],
    &["diff"],
];

#[test]
fn what_people_read_has_no_character_that_a_terminal_obeys_and_no_endless_line() {
    let subject = subject();
    for arguments in FOR_PEOPLE {
        let twice = arguments == ["diff"];
        let files = [subject.recording.as_path(), &subject.recording];
        let output = run(arguments, &files[usize::from(!twice)..]);
        for printed in [text(&output.stdout), text(&output.stderr)] {
            assert_eq!(printed.chars().find(is_obeyed), None, "{arguments:?}: {printed:.9999}");
        }
        let wide = |line: &&str| line.chars().count() > 80;
        let wide = text(&output.stdout).lines().find(wide);
        assert_eq!(wide, None, "{arguments:?}");
    }
    let report = run(&["report", "--top=99"], &[&subject.recording]);
    assert!(text(&report.stdout).contains(r"\r\n\t\u{9b}31m"), "{}", text(&report.stdout));
}

#[test]
fn programs_get_the_names_as_they_are_by_the_rules_of_their_format() {
    let subject = subject();
    let commands: [&[&str]; 12] = [
        &["report", "--json", "--top=99"],
        &["report", "--json", "--by=function"],
        &["tree", "--json", "--min-share=0"],
        &["leaks", "--json"],
        &["advise", "--json"],
        &["events", "--json"],
        &["export", "--format=jsonl"],
        &["export", "--format=dhat"],
        &["export", "--format=firefox"],
        &["export", "--format=speedscope"],
        &["timeline", "--json"],
        &["check", "--json", "--max-peak=1T", "--allow-incomplete"],
    ];
    // Again by the names that the first command kept beside the recording.
    for round in 0..2 {
        for arguments in commands {
            let output = run(arguments, &[&subject.recording]);
            let printed = text(&output.stdout);
            assert_eq!(printed.chars().find(is_obeyed), None, "{arguments:?}");
            let lines = arguments.contains(&"events") || arguments.contains(&"--format=jsonl");
            let mut found = Vec::new();
            for part in if lines { printed.lines().collect() } else { vec![printed] } {
                texts(&serde_json::from_str(part).expect("JSON"), &mut found);
            }
            let named = !matches!(arguments[0], "timeline" | "check");
            for name in subject.names.iter().filter(|_| named) {
                // DHAT's format has an address and a place around a name.
                let has = found.iter().any(|text| text.contains(name.as_str()));
                assert!(has, "{round} {arguments:?}: {name:.99}");
            }
        }
    }
    for format in ["csv", "pprof", "perfetto", "parquet"] {
        let output = run(&["export", "--format", format], &[&subject.recording]);
        assert!(!output.stdout.is_empty(), "{format}");
        let mut bytes = output.stdout;
        if format == "pprof" {
            let packed = std::mem::take(&mut bytes);
            flate2::read::GzDecoder::new(&*packed).read_to_end(&mut bytes).expect("gzip");
        }
        let written = String::from_utf8_lossy(&bytes);
        // Parquet's texts are compressed, and Perfetto's counters are of no function.
        for name in subject.names.iter().filter(|_| matches!(format, "csv" | "pprof")) {
            let name = if format == "csv" { name.replace('"', "\"\"") } else { name.clone() };
            assert!(written.contains(&name), "{format}: {name:.99}");
        }
    }
}

/// Whether XML 1.0 has such a character.
fn is_of_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

#[test]
fn pictures_are_whole_xml_and_pages_have_no_element_more() {
    let subject = subject();
    for arguments in [&["flame"][..], &["flame", "--inverted"], &["timeline"]] {
        let output = run(arguments, &[&subject.recording]);
        let picture = text(&output.stdout);
        assert_eq!(picture.chars().find(|&c| !is_of_xml(c)), None, "{arguments:?}");
        // Nothing but text stands between an element and the next, and it is escaped.
        let document = subject.directory.path().join("picture.svg");
        fs::write(&document, picture).expect("written");
        assert!(!picture.contains("<script>alert"), "{arguments:?}");
        assert_balanced(picture);
        let own = if arguments[0] == "flame" { r"f1::\u{1b}[2J" } else { "<svg" };
        assert!(picture.contains(own), "{arguments:?}");
    }
    let page = run(&["html"], &[&subject.recording]);
    let page = text(&page.stdout);
    assert_eq!(page.matches("</script").count(), 2, "the data and the script");
    let title = page.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    assert!(!title.expect("a title").0.contains('<'));
    let stacks = run(&["export", "--format=collapsed"], &[&subject.recording]);
    let stacks = text(&stacks.stdout);
    assert_eq!(stacks.lines().count(), subject.names.len());
    for (number, line) in (1..).zip(stacks.lines()) {
        let (frames, weight) = line.rsplit_once(' ').expect("a weight");
        assert_eq!((frames.split(';').count(), weight), (number, "1920"), "{line:.99}");
    }
}

/// Every element ends, in the order in which they began.
fn assert_balanced(xml: &str) {
    let mut open = Vec::new();
    let mut rest = xml;
    while let Some((_, tag)) = rest.split_once('<') {
        if let Some(data) = tag.strip_prefix("![CDATA[") {
            rest = data.split_once("]]>").expect("an end").1;
            continue;
        }
        let (tag, after) = tag.split_once('>').expect("the end of a tag");
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{tag:.99}");
        } else if !tag.ends_with('/') && !tag.starts_with(['?', '!']) {
            open.push(tag.split_whitespace().next().expect("a name"));
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn paths_that_are_not_utf_8_are_read_and_written_and_functions_in_them_have_their_names() {
    let mut subject = subject();
    let directory = subject.directory.path().join(OsStr::from_bytes(b"not\xff\xfetext"));
    fs::create_dir(&directory).expect("made");
    let name = |bytes| directory.join(OsStr::from_bytes(bytes));
    let module = name(b"app\xe9");
    fs::copy(subject.directory.path().join("app.so"), &module).expect("copied");
    // As text it has the same name, but it is another program.
    fs::copy(env!("CARGO_BIN_EXE_alloc-trace"), name(b"app\xe8")).expect("copied");
    let recording = name(b"app\xe9.trace");
    let addresses = addresses(&module, &subject.names);
    write(&recording, module.as_os_str().as_bytes(), &addresses);
    subject.recording = recording;
    let recording: &Path = &subject.recording;
    let report: Value =
        serde_json::from_slice(&run(&["report", "--json"], &[recording]).stdout).expect("JSON");
    let mut found = Vec::new();
    texts(&report["sites"], &mut found);
    for name in &subject.names {
        assert!(found.contains(name), "{name:.99}: {:.999}", report["symbol_problems"].to_string());
    }
    for arguments in FOR_PEOPLE {
        let files = [recording, recording];
        let output = run(arguments, &files[usize::from(arguments != ["diff"])..]);
        // A check that finds nothing amiss may say nothing.
        assert!(arguments[0] == "check" || !output.stdout.is_empty(), "{arguments:?}");
    }
    for arguments in [&["html"][..], &["flame"], &["export", "-f=pprof"], &["export", "-f=csv"]] {
        let file = name(b"made\xff");
        let output =
            command().args(arguments).arg("--json").arg(recording).arg("-o").arg(&file).output();
        let output = output.expect("run");
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(said["path"].as_str().expect("a path").ends_with("made\u{fffd}"), "{said}");
        assert!(fs::metadata(&file).expect("written").len() > 0, "{arguments:?}");
        fs::remove_file(&file).expect("removed");
    }
    for arguments in [
        &["diff", "--json"][..],
        &["check", "--json", "--allow-incomplete", "--max-growth=1%", "--baseline"],
    ] {
        let output = run(arguments, &[recording, recording]);
        let _: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    }
}
