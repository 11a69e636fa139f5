//! However a process ends, its recording is readable to the last record.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use alloc_trace_format::{EndReason, EventKind, Recording};
use tempfile::TempDir;

use crate::exact::{record, report};
use crate::history::History;
use crate::program::{OVER_SYSTEM, SCENARIOS, Watchdog, checked, kill, recorded, run, scenario};

/// How a process is expected to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Code(i32),
    Signal(i32),
}

/// Every way to end, and whether the recording knows of it.
const ENDS: [(&str, Status, bool); 12] = [
    ("return", Status::Code(0), true),
    ("exit", Status::Code(3), true),
    ("exit_in_thread", Status::Code(4), true),
    ("panic_in_thread", Status::Code(0), true),
    ("panic", Status::Code(101), true),
    ("exit_now", Status::Code(3), false),
    ("abort", Status::Signal(libc::SIGABRT), false),
    ("abort_in_panic", Status::Signal(libc::SIGABRT), false),
    ("fault", Status::Signal(libc::SIGSEGV), false),
    ("kill", Status::Signal(libc::SIGKILL), false),
    ("terminate", Status::Signal(libc::SIGTERM), false),
    ("end_of_options", Status::Code(101), true),
];

#[test]
fn however_a_process_ends_its_recording_is_read_to_the_last_record() {
    let directory = TempDir::new().expect("a directory");
    for (how, status, is_closed) in ENDS {
        let argument = format!("how={how}");
        for by_builder in [false, true] {
            let path = directory.path().join(format!("{how}-{by_builder}"));
            let finished = if by_builder {
                run(&mut scenario(OVER_SYSTEM, &["end", &argument, &record(&path)]))
            } else {
                run(&mut checked(OVER_SYSTEM, &["end", &argument], &path))
            };
            let ended = match (finished.status.code(), finished.status.signal()) {
                (Some(code), _) => Status::Code(code),
                (None, signal) => Status::Signal(signal.expect("code or signal")),
            };
            assert_eq!(ended, status, "{how}: {}", finished.stderr);
            assert_eq!(finished.complaints(), Vec::<&str>::new(), "{how}");
            let history = History::read(&path);
            if by_builder {
                history.assert_sound();
            } else {
                history.assert_whole();
            }
            assert_eq!(history.trails(65_000, 1000), 1, "{how}");
            assert_eq!(history.trails(66_000, 10), u64::from(how == "panic_in_thread"), "{how}");
            assert_eq!(history.trails(67_000, 10), u64::from(how == "exit_in_thread"), "{how}");
            // Unwinding drops the guard; a program that returns drops it, too.
            let unwinds = matches!(how, "return" | "panic" | "panic_in_thread" | "end_of_options");
            let reason = if by_builder && unwinds { EndReason::Stopped } else { EndReason::Exited };
            let expected = is_closed.then_some(reason);
            assert_eq!(history.end.map(|(reason, _)| reason), expected, "{how}");
            assert_eq!(report(&path, &["--no-symbols"])["complete"], is_closed, "{how}");
        }
    }
}

/// A number that differs from run to run; a test says which it took.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a later time");
    u64::from(now.subsec_nanos())
}

#[test]
fn every_event_that_a_killed_program_had_acknowledged_is_in_its_recording() {
    let directory = TempDir::new().expect("a directory");
    let seed = seed();
    for round in 0..8u64 {
        // From the first word on, or somewhere in the first thousands.
        let words = if round == 0 { 1 } else { (seed.wrapping_mul(2 * round + 1) >> 7) % 6_000 };
        let options = [",stacks=off", "", ",check"][round as usize % 3];
        let program = SCENARIOS[round as usize % 2];
        let path = directory.path().join(format!("recording-{round}"));
        let mut command = recorded(program, &["progress"], &path, options);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let watchdog = Watchdog::of(&child);
        let mut pipe = child.stdout.take().expect("a pipe");
        let mut word = [0; 16];
        let mut acknowledged = BTreeMap::new();
        let mut take = |word: &[u8; 16]| {
            let [thread, number] = [&word[..8], &word[8..]]
                .map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")));
            acknowledged.insert(thread, number);
        };
        for _ in 0..words {
            pipe.read_exact(&mut word).expect("a word");
            take(&word);
        }
        kill(child.id());
        // What it had said before it died counts, too.
        while pipe.read_exact(&mut word).is_ok() {
            take(&word);
        }
        assert!(!watchdog.barked());
        assert_eq!(child.wait().expect("its end").signal(), Some(libc::SIGKILL));

        let history = History::read_killed(&path);
        history.assert_whole();
        assert_eq!(history.end, None);
        for (thread, number) in acknowledged {
            let id = history.thread(&format!("progress-{thread}"));
            let events: Vec<_> = history.events.iter().filter(|event| event.thread == id).collect();
            let found = events.len() as u64 / 2;
            assert!(found >= number, "{found} of {number}, seed {seed}, round {round}");
            for (pair, expected) in events.chunks(2).zip(0u64..) {
                let kinds = pair.iter().map(|event| event.kind);
                assert!(
                    [EventKind::Alloc, EventKind::Free].into_iter().zip(kinds).all(|(a, b)| a == b)
                );
                assert!(pair.iter().all(|event| event.size == 8 + expected % 4093));
            }
        }
    }
}

#[test]
fn a_full_disk_ends_the_recording_with_its_reason_and_the_program_runs_on() {
    let directory = TempDir::new().expect("a directory");
    for (index, bytes) in [4_204_000, 4_212_000].into_iter().enumerate() {
        for by_builder in [false, true] {
            let path = directory.path().join(format!("{index}-{by_builder}"));
            let limit = format!("bytes={bytes}");
            let finished = if by_builder {
                run(&mut scenario(OVER_SYSTEM, &["full_disk", &limit, &record(&path)]))
            } else {
                run(&mut recorded(OVER_SYSTEM, &["full_disk", &limit], &path, ",check"))
            };
            let finished = finished.success();
            let complaint =
                "alloc-trace: the recording ends here: file too large for the limit set\n";
            assert_eq!(finished.stderr, complaint);
            assert!(path.metadata().expect("a file").len() <= bytes);
            let history = History::read(&path);
            history.assert_sound();
            assert_eq!(history.end.map(|(reason, _)| reason), Some(EndReason::WriteFailed));
            let made = finished.numbers()[0];
            let found = history.of_size(65_000).count() as u64;
            assert!(found.abs_diff(2 * made) <= 2, "{found} of twice {made}");
            let said = report(&path, &["--no-symbols"]);
            assert_eq!((&said["complete"], &said["end"]), (&false.into(), &"write_failed".into()));
        }
    }
}

#[test]
fn a_limit_below_the_window_leaves_the_program_unrecorded() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let finished = run(&mut scenario(OVER_SYSTEM, &["full_disk", "bytes=100000", &record(&path)]));
    assert_eq!(finished.status.code(), Some(101), "{}", finished.stderr);
    assert!(finished.stderr.contains("File too large"), "{}", finished.stderr);
    assert!(!path.exists() || Recording::open(&path).is_err());
    assert!(!path.exists(), "an empty recording is left behind");
}
