//! What commands write to a terminal: as wide as it is, in colours, and nothing that it would obey.

mod support;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use alloc_trace_format::{
    EventKind, Module, NodeDefinition, NodeId, Process, Record, RecordingWriter, Span, SpanId,
    ThreadId, Window,
};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tempfile::TempDir;

use support::{command, event, faults, header, sample, start, text, write_long, write_sample};

/// A terminal of a width: the end that a program writes to, and the end that shows it.
fn terminal(columns: u16) -> (File, File) {
    let shown = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&shown).expect("granted");
    unlockpt(&shown).expect("unlocked");
    let name = ptsname(&shown, Vec::new()).expect("a name");
    let path = Path::new(OsStr::from_bytes(name.as_bytes()));
    let written = File::options().read(true).write(true).open(path).expect("opened");
    let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&written, size).expect("sized");
    (written, File::from(shown))
}

/// What is shown of a command's standard output, or of its standard error; it succeeds.
fn shown(columns: u16, error: bool, environment: &[(&str, &str)], arguments: &[&OsStr]) -> String {
    let (shown, code) = shown_with_status(columns, error, environment, arguments);
    assert_eq!(code, Some(0), "{arguments:?}");
    shown
}

/// What is shown, and the exit status.
fn shown_with_status(
    columns: u16,
    error: bool,
    environment: &[(&str, &str)],
    arguments: &[&OsStr],
) -> (String, Option<i32>) {
    let (written, mut shown) = terminal(columns);
    let mut command = command();
    command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null());
    if error {
        command.stderr(written).stdout(Stdio::null());
    } else {
        command.stdout(written).stderr(Stdio::null());
    }
    let mut child = command.spawn().expect("run");
    // Or the terminal would stay open for as long as the command is kept.
    drop(command);
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    // The end is an error: nobody has it open any more.
    while let Ok(read @ 1..) = shown.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..read]);
    }
    let code = child.wait().expect("waited").code();
    (String::from_utf8(bytes).expect("text").replace("\r\n", "\n"), code)
}

/// Without colours.
fn plain(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_once('m').expect("a colour");
        assert!(code.bytes().all(|byte| byte.is_ascii_digit() || byte == b';'), "{code:?}");
        out += rest;
    }
    out
}

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap_or_default()
}

const KEYS: [&str; 8] = ["site", "function", "file", "crate", "thread", "span", "size", "lifetime"];

/// The commands that write for people.
fn written_for_people() -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> =
        ["report", "events", "tree", "leaks", "advise"].map(|name| vec![name.into()]).into();
    all.push(vec!["tree".into(), "--inverted".into()]);
    for by in KEYS {
        all.push(vec!["report".into(), format!("--by={by}")]);
        all.push(vec!["leaks".into(), format!("--by={by}")]);
    }
    all
}

#[test]
fn every_table_keeps_to_the_width_of_the_terminal() {
    let (_directory, sample) = sample(true);
    let (_other, faults) = faults(true);
    for columns in [40, 52, 80, 120] {
        for recording in [&sample, &faults] {
            for arguments in written_for_people() {
                let mut all: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
                all.push(recording.as_os_str());
                let printed = plain(&shown(columns, false, &[], &all));
                assert!(!printed.is_empty(), "{arguments:?}");
                // A figure that has no bound can be wider than its column in the list of events.
                let printed: Vec<&str> =
                    printed.lines().filter(|line| !line.contains("1099511627776")).collect();
                let printed = printed.join("\n");
                let found = widest(&printed);
                assert!(found <= usize::from(columns), "{columns} {arguments:?}:\n{printed}");
            }
        }
        let all = ["diff".as_ref(), sample.as_os_str(), faults.as_os_str()];
        let printed = plain(&shown(columns, false, &[], &all));
        assert!(widest(&printed) <= usize::from(columns).max(40), "{columns}:\n{printed}");
    }
}

#[test]
fn a_wide_terminal_is_used_up_to_a_width_that_can_be_read() {
    let (_directory, faults) = faults(true);
    let width = |columns| {
        widest(&plain(&shown(columns, false, &[], &["advise".as_ref(), faults.as_os_str()])))
    };
    assert!(width(120) > 80, "more than on a narrow one");
    assert!(width(120) <= 120 && width(1_000) <= 160);
    assert!(width(10) <= 40, "no narrower than can be laid out");
    let piped = command().arg("advise").arg(&faults).output().expect("run");
    assert!(widest(text(&piped.stdout)) <= 80, "what is no terminal is 80 columns wide");
}

#[test]
fn what_is_said_beside_the_figures_keeps_to_the_terminal_too_and_is_a_line_each_in_a_log() {
    let directory = tempfile::tempdir().expect("a directory");
    let killed = directory.path().join("killed.trace");
    write_sample(&killed, 42, false);
    let tree = ["tree", "--thread=nobody", "--live-at=90min"].map(OsStr::new);
    let check = ["check", "--max-peak=1", "--allow-incomplete"].map(OsStr::new);
    for columns in [40, 80] {
        let arguments = [&tree[..], &[killed.as_os_str()]].concat();
        let told = shown(columns, true, &[], &arguments);
        let told: Vec<&str> = told.lines().filter(|line| !line.contains("\x1b")).collect();
        assert!(told.iter().any(|line| line.starts_with("alloc-trace:")), "{told:?}");
        for line in told {
            // The file's name is one word.
            let fits = widest(line) <= usize::from(columns) || line.contains("killed.trace");
            assert!(fits, "{columns}: {line}");
        }
        let arguments = [&check[..], &[killed.as_os_str()]].concat();
        let (printed, code) = shown_with_status(columns, false, &[], &arguments);
        assert_eq!(code, Some(1));
        assert!(widest(&printed) <= usize::from(columns), "{columns}: {printed}");
    }
    let output = command().args(tree).arg(&killed).output().expect("run");
    let lines: Vec<&str> = text(&output.stderr).lines().collect();
    assert!(lines.iter().all(|line| line.starts_with("alloc-trace: ")), "{lines:?}");
    let behind = |line: &&str| {
        line.contains("--live-at 5400 s is behind the end")
            && line.ends_with("what was never freed")
    };
    assert!(lines.iter().any(behind), "{lines:?}");
}

#[test]
fn colours_are_for_terminals_unless_somebody_wants_it_otherwise() {
    let (_directory, sample) = sample(true);
    let report = |options: &[&str]| -> Vec<std::ffi::OsString> {
        let mut all: Vec<std::ffi::OsString> = vec!["report".into()];
        all.extend(options.iter().map(Into::into));
        all.push(sample.clone().into());
        all
    };
    let on_terminal = |environment: &[(&str, &str)], options: &[&str]| {
        let arguments = report(options);
        let arguments: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
        shown(80, false, environment, &arguments).contains("\x1b[1m")
    };
    let piped = |environment: &[(&str, &str)], options: &[&str]| {
        let output = command()
            .args(report(options))
            .envs(environment.iter().copied())
            .output()
            .expect("run");
        text(&output.stdout).contains("\x1b[1m")
    };
    assert!(on_terminal(&[], &[]) && !piped(&[], &[]));
    assert!(!on_terminal(&[("NO_COLOR", "1")], &[]));
    assert!(!on_terminal(&[], &["--color=never"]));
    assert!(!on_terminal(&[("TERM", "dumb")], &[]));
    assert!(piped(&[], &["--color=always"]) && piped(&[("CLICOLOR_FORCE", "1")], &[]));
    assert!(!piped(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], &["--color=auto"]));
}

#[test]
fn whoever_waits_at_a_terminal_is_shown_what_is_being_read_and_nobody_else_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let long = directory.path().join("long.trace");
    write_long(&long, 100_000);
    for arguments in [
        &["report"][..],
        &["events"],
        &["report", "--by=size"],
        &["check", "--max-peak=1GiB"],
        &["export", "-f", "csv"],
        &["advise"],
        &["timeline"],
    ] {
        let mut all: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        all.push(long.as_os_str());
        let told = shown(80, true, &[], &all);
        // The list of events is its own progress.
        let expected = arguments != ["events"];
        assert_eq!(told.contains("reading long.trace"), expected, "{arguments:?}: {told:?}");
        let output = command().args(&all).output().expect("run");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
    }
}

/// A name that would clear a screen, begin a line anew and turn the direction of writing.
fn hostile(name: &str) -> String {
    format!("{name}\x1b[2J\x1b]0;title\x07\r\n\t\u{9b}31m\u{202e}\u{7f}")
}

/// A recording whose every name is hostile.
fn write_hostile(path: &Path) {
    let mut writer =
        RecordingWriter::create(path, &header(42), Window::default()).expect("created");
    let mut write = |record: Record| writer.write(0, &record).expect("written");
    write(Record::Process(Box::new(Process {
        pid: 42,
        parent_pid: 41,
        executable: hostile("/usr/bin/app").into(),
        arguments: [hostile("app"), hostile("--fast")].map(Box::from).into(),
    })));
    for thread in 1..=2 {
        write(start(thread, &hostile("thread"), false));
    }
    write(Record::Module(Box::new(Module {
        stamp: 1_000,
        bias: 0,
        start: 0x1000,
        end: 0x9000,
        build_id: Box::default(),
        path: hostile("/lib/module").into(),
    })));
    write(Record::Node(NodeDefinition { id: NodeId(2), parent: NodeId::ROOT, address: 0x1500 }));
    write(Record::Span(Box::new(Span {
        id: SpanId(1),
        stamp: 1_100,
        parent: None,
        again: false,
        level: 3,
        name: hostile("span").into(),
        target: hostile("target").into(),
        fields: hostile("field").into(),
    })));
    write(Record::SpanEnter { thread: ThreadId(1), stamp: 1_200, span: SpanId(1) });
    let text = hostile("marker").into();
    write(Record::Marker { thread: ThreadId(1), stamp: 1_300, text });
    for number in 0..50 {
        let (thread, stamp) = (1 + (number % 2) as u32, 2_000 + 100 * number);
        let address = 0x10_0000 + 0x100 * number;
        write(Record::Event(event(EventKind::Alloc, thread, stamp, address, 32)));
    }
    writer.finish(None).expect("finished");
}

#[test]
fn no_name_in_a_recording_reaches_the_terminal_as_something_that_it_obeys() {
    let directory: TempDir = tempfile::tempdir().expect("a directory");
    // A file's name cannot have everything.
    let recording: PathBuf = directory.path().join("app\x1b[2J\n\u{202e}.trace");
    write_hostile(&recording);
    let mut all = written_for_people();
    for options in [
        &["report", "--span-fields", "--top=99"][..],
        &["events", "--no-symbols"],
        &["check", "--max-peak=1", "--allow-incomplete"],
        &["check", "--max-peak=1"],
        &["report", "--thread=nobody"],
        &["report", "--from=nowhen"],
        &["leaks", "--span=nothing"],
        &["export", "-f", "collapsed"],
        &["flame"],
        &["timeline"],
        &["html"],
    ] {
        all.push(options.iter().map(|&option| option.to_owned()).collect());
    }
    let twice = |name: &str| vec![name.to_owned(), recording.display().to_string()];
    all.push(twice("diff"));
    for arguments in all {
        let output = command().args(&arguments).arg(&recording).output().expect("run");
        for printed in [text(&output.stdout), text(&output.stderr)] {
            let obeyed = |c: &char| (c.is_control() && *c != '\n') || *c == '\u{202e}';
            // Pages and pictures are for browsers, which take tabs for spaces.
            let found = printed.chars().filter(|&c| c != '\t').find(obeyed);
            assert_eq!(found, None, "{arguments:?}: {printed}");
            assert!(!printed.contains("\ntitle"), "{arguments:?}");
        }
    }
    // Programs get the names as they are, by the rules of their format.
    let output = command().args(["report", "--json"]).arg(&recording).output().expect("run");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["by_span"][0]["name"], hostile("span"));
    assert_eq!(report["by_thread"][0]["name"], hostile("thread"));
    let csv = command().args(["export", "-f", "csv"]).arg(&recording).output().expect("run");
    let quoted = format!("\"{}\"", hostile("thread"));
    assert_eq!(text(&csv.stdout).matches(&quoted).count(), 50);
    assert!(fs::metadata(&recording).is_ok());
}
