//! What commands refuse, what they say of damage, and how they exit then.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use alloc_trace_format::{BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Codec};
use serde_json::Value;

use support::{command, run, sample, text};

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
    let made =
        "name the file that `alloc-trace record -o FILE` made, or a program with ALLOC_TRACE=FILE";
    let told = "cannot open: No such file or directory (os error 2)";
    assert_refused(&path("missing"), &format!("{told}; {made}"));
    assert_refused(directory.path(), &format!("not a regular file; {made}"));
    for (name, content) in [("empty", ""), ("text", "this is no recording at all")] {
        fs::write(path(name), content).expect("written");
        let told = "not an alloc-trace recording (no magic number at offset 0)";
        assert_refused(&path(name), &format!("{told}; {made}"));
    }
    let mut bytes = support::header(1).encode().to_vec();
    fs::write(path("short"), &bytes).expect("written");
    let told = "truncated at offset 88: expected the file header, without which nothing can be read; \
                record again";
    assert_refused(&path("short"), told);
    bytes[30] ^= 1;
    fs::write(path("damaged"), &bytes).expect("written");
    let told = "corrupt at offset 84: expected the checksum of the file header, without which nothing \
                can be read; record again";
    assert_refused(&path("damaged"), told);
    bytes[8] = 9;
    fs::write(path("later"), &bytes).expect("written");
    let told = "made by another version of alloc-trace (format 9, this one reads up to 3); \
                record again, or read it with that version";
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
        &["record", "--option", "colour=red", "--", "true"],
        &["record", "--option", "threads=", "--", "true"],
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
fn a_recording_packed_by_another_version_is_told_as_such_by_every_command() {
    let (_directory, path) = sample(true);
    let mut bytes = fs::read(&path).expect("readable");
    let log = alloc_trace_format::FILE_HEADER_BYTES + 64 + 3 * 512;
    let block = &mut bytes[log..log + BLOCK_HEADER_BYTES];
    let header = BlockHeader::decode(block).expect("the header of a chunk");
    assert_eq!(header.kind, BlockKind::Chunk);
    block.copy_from_slice(&BlockHeader { codec: Codec::Other(2), ..header }.encode());
    fs::write(&path, bytes).expect("written");
    let told = "made by another version of alloc-trace (codec 2, this one reads 3); \
                record again, or read it with that version";
    assert_refused(&path, told);
    let (_other, sound) = sample(true);
    for order in [[&path, &sound], [&sound, &path]] {
        let output = command().arg("diff").args(order).output().expect("run");
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(text(&output.stdout), "");
        assert_eq!(text(&output.stderr), format!("alloc-trace: {}: {told}\n", path.display()));
    }
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

#[test]
fn standard_input_is_no_recording_and_that_is_said() {
    for arguments in [&["report", "-"][..], &["check", "--max-peak=1", "-"], &["diff", "-", "-"]] {
        let output = command().args(arguments).output().expect("run");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let told = text(&output.stderr);
        assert!(told.contains("a recording is read twice") && told.contains("./-"), "{told}");
    }
}

#[test]
fn no_more_bytes_are_skipped_than_a_file_has() {
    let (directory, path) = sample(true);
    let bytes = fs::read(&path).expect("readable");
    let broken = directory.path().join("broken.trace");
    let log = alloc_trace_format::FILE_HEADER_BYTES + 64 + 3 * 512;
    // Every byte of the header of the one block in the log, which has lengths in it, and of the cut.
    for (at, length) in (log..log + 64).map(|at| (at, bytes.len())).chain([(0, log + 70)]) {
        let mut damaged = bytes[..length].to_vec();
        if at > 0 {
            damaged[at] ^= 0x7f;
        }
        fs::write(&broken, &damaged).expect("written");
        for arguments in [&["report", "--json"][..], &["leaks", "--json"]] {
            let output = command().args(arguments).arg(&broken).output().expect("run");
            let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            for part in report["skipped"].as_array().expect("a list") {
                let end = part["offset"].as_u64().zip(part["bytes"].as_u64());
                let end = end.map(|(offset, skipped)| offset + skipped);
                assert!(end <= Some(length as u64), "byte {at} of {length}: {part}");
            }
        }
    }
}
