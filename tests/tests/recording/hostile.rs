//! What others do to a recording's file while it is written harms neither program nor what was
//! recorded before, where that can be.

use std::env;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use alloc_trace_format::EndReason;
use tempfile::TempDir;
use tests::block::TRAIL_ALIGN;

use crate::exact::record;
use crate::history::History;
use crate::program::{OVER_SYSTEM, SCENARIOS, recorded, run, scenario};

#[test]
fn a_recording_grows_to_the_length_that_was_asked_for_and_the_program_runs_on() {
    let directory = TempDir::new().expect("a directory");
    for bytes in [4_204_000, 4_212_000] {
        let path = directory.path().join("recording");
        let options = format!(",limit={bytes}");
        let finished = run(&mut recorded(OVER_SYSTEM, &["until_it_ends"], &path, &options));
        let finished = finished.success();
        let complaint = "alloc-trace: the recording ends here: it is as large as was asked for\n";
        assert_eq!(finished.stderr, complaint);
        assert!(path.metadata().expect("a file").len() <= bytes);
        let history = History::read(&path);
        history.assert_sound();
        assert_eq!(history.end.map(|(reason, _)| reason), Some(EndReason::WriteFailed));
        let made = finished.numbers()[0];
        let found = history.of_size(65_000).count() as u64;
        assert!(found.abs_diff(2 * made) <= 2, "{found} of twice {made}");
    }
}

/// A memory file system of its own, of so many bytes. It goes when this is dropped.
pub(crate) struct Mounted(TempDir);

impl Mounted {
    /// `None`, and loudly so, where nobody may mount one.
    pub(crate) fn new(bytes: u64) -> Option<Self> {
        let directory = TempDir::new().expect("a directory");
        let size = format!("size={bytes}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(directory.path());
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Self(directory));
        }
        assert!(env::var_os("CI").is_none(), "no file system can be mounted");
        eprintln!("SKIPPED: no file system can be mounted, which takes the rights of root");
        None
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_full_file_system_ends_the_recording_with_its_reason_and_the_program_runs_on() {
    // The window and some chunks fit, or the window alone does not.
    for (bytes, fits) in [(1_400_000, true), (600_000, false)] {
        let Some(mounted) = Mounted::new(bytes) else { return };
        let path = mounted.path().join("recording");
        let mut command = recorded(OVER_SYSTEM, &["until_it_ends"], &path, ",window=1M");
        let finished = run(&mut command).success();
        let said = finished.complaints();
        assert!(said.len() == 1 && said[0].ends_with("no space left"), "{said:?}");
        if !fits {
            assert!(!path.exists(), "an empty recording is left behind");
            continue;
        }
        let history = History::read_killed(&path);
        history.assert_sound();
        assert_eq!(history.end.map(|(reason, _)| reason), Some(EndReason::WriteFailed));
        let made = finished.numbers()[0];
        let found = history.of_size(65_000).count() as u64;
        assert!(found.abs_diff(2 * made) <= 2, "{found} of twice {made}");
    }
}

#[test]
fn a_thread_that_finds_no_room_for_its_part_of_the_window_ends_the_recording_with_its_reason() {
    // The window is enough for some of 300 live threads, and what there is besides for no more of it.
    let Some(mounted) = Mounted::new(1_400_000) else { return };
    let path = mounted.path().join("recording");
    let mut command = recorded(OVER_SYSTEM, &["live_threads"], &path, ",window=1M");
    let finished = run(&mut command).success();
    let said = finished.complaints();
    assert!(said.len() == 1 && said[0].ends_with("no space left"), "{said:?}");
    let history = History::read_killed(&path);
    history.assert_sound();
    assert_eq!(history.end.map(|(reason, _)| reason), Some(EndReason::WriteFailed));
    assert!(history.threads.len() > 10, "{}", history.threads.len());
}

#[test]
fn a_file_that_is_truncated_or_removed_meanwhile_ends_no_program() {
    let directory = TempDir::new().expect("a directory");
    for program in SCENARIOS {
        // In the header, in the window's first chunk, and behind the chunk in use.
        for bytes in [0, 4_096, 16_384, 2_000_000] {
            let path = directory.path().join(format!("cut-{bytes}"));
            let arguments =
                ["truncated", &format!("file={}", path.display()), &format!("bytes={bytes}")];
            let finished = run(&mut recorded(program, &arguments, &path, "")).success();
            assert_eq!(finished.stdout, "not recorded\n");
            let complaint = "alloc-trace: the recording ends here: its file was truncated\n";
            assert_eq!(finished.stderr, complaint, "{bytes}");
        }
        let path = directory.path().join("removed");
        let arguments = ["truncated", &format!("file={}", path.display())];
        let finished = run(&mut recorded(program, &arguments, &path, "")).quiet();
        assert_eq!(finished.stdout, "recorded\n");
        assert!(!path.exists());
    }
}

#[test]
fn a_program_without_standard_output_and_with_few_descriptors_does_not_write_into_its_recording() {
    let directory = TempDir::new().expect("a directory");
    for limit in [150, 40, 4] {
        let path = directory.path().join(format!("recording-{limit}"));
        let arguments = ["few_descriptors", &format!("limit={limit}"), &record(&path)];
        run(&mut scenario(OVER_SYSTEM, &arguments)).quiet();
        let history = History::read(&path);
        history.assert_sound();
        assert_eq!(history.trails(65_000, 100), 1);
        assert_eq!(history.end.map(|(reason, _)| reason), Some(EndReason::Stopped));
    }
    // None but that of standard output.
    let path = directory.path().join("recording-3");
    let arguments = ["few_descriptors", "limit=3", &record(&path)];
    let finished = run(&mut scenario(OVER_SYSTEM, &arguments)).success();
    assert!(finished.stderr.starts_with("cannot record to "), "{}", finished.stderr);
    assert!(!path.exists(), "an empty recording is left behind");
}

#[test]
fn a_bus_error_of_the_program_is_the_programs() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let finished = run(&mut recorded(OVER_SYSTEM, &["bus_error"], &path, ""));
    assert_eq!(finished.status.signal(), Some(libc::SIGBUS), "{}", finished.stderr);
    assert_eq!(History::read(&path).of_size(65_000).count(), 2);
}

#[test]
fn where_no_file_can_be_mapped_it_is_written_and_that_is_said() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let finished = run(&mut scenario(OVER_SYSTEM, &["unmappable", &record(&path)])).success();
    assert_eq!(finished.complaints().len(), 1, "{}", finished.stderr);
    assert!(finished.stderr.contains("cannot be mapped"), "{}", finished.stderr);
    let history = History::read(&path);
    history.assert_sound();
    let made = history.events.iter().filter(|event| event.align() == TRAIL_ALIGN as u64);
    assert_eq!(made.count(), 120_000);
    assert_eq!(history.end.map(|(reason, _)| reason), Some(EndReason::Stopped));
}

#[test]
fn in_a_sandbox_the_recording_ends_with_its_reason_and_the_program_runs_on() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let finished = run(&mut recorded(OVER_SYSTEM, &["sandboxed"], &path, "")).success();
    assert_eq!(finished.stdout, "done\n");
    assert_eq!(finished.stderr, "alloc-trace: the recording ends here: permission denied\n");
    let history = History::read(&path);
    assert_eq!(history.trails(65_000, 100), 1);
    assert_eq!(history.end.map(|(reason, _)| reason), Some(EndReason::WriteFailed));
}

#[test]
fn where_no_barrier_is_to_be_had_a_recording_ends_as_any_other() {
    let directory = TempDir::new().expect("a directory");
    for error in [libc::EPERM, libc::ENOSYS] {
        let path = directory.path().join("recording");
        let argument = format!("error={error}");
        let arguments = ["without_barriers", argument.as_str()];
        run(&mut recorded(OVER_SYSTEM, &arguments, &path, "")).quiet();
        let history = History::read(&path);
        history.assert_whole();
        assert_eq!(history.trails(65_000, 100), 1);
        assert_eq!(history.end.map(|(reason, _)| reason), Some(EndReason::Exited));

        let own = record(&directory.path().join("own"));
        let arguments = ["without_barriers", argument.as_str(), own.as_str()];
        let finished = run(&mut scenario(OVER_SYSTEM, &arguments)).quiet();
        assert_eq!(finished.numbers(), [0], "files are still mapped");
        let history = History::read(&directory.path().join("own"));
        assert_eq!(history.trails(65_000, 100), 1);
        assert_eq!(history.end.map(|(reason, _)| reason), Some(EndReason::Stopped));
    }
}
