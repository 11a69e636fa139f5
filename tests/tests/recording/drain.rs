//! A process that is killed at any step of moving a full chunk to the log: every event that it had
//! acknowledged is in its recording.
//!
//! The kernel keeps what a process wrote to a file or to a shared mapping, so what a kill leaves is the
//! file as it is at that moment. The program is run step by step, and the file copied wherever it has
//! become another one.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use alloc_trace_format::{BLOCK_HEADER_BYTES, CHUNK_HEADER_BYTES, EventKind, FILE_HEADER_BYTES};
use tempfile::TempDir;

use crate::history::History;
use crate::program::{OVER_SYSTEM, recorded};
use crate::stepped::Stepped;

/// Instructions to be followed behind the write of a chunk: so many that the next events are written.
const INSTRUCTIONS: usize = 200_000;
/// How many chunks are followed.
const DRAINS: usize = 2;

/// The files of a program under test.
struct Watched {
    recording: File,
    acknowledged: File,
    copy: PathBuf,
    /// How many copies were looked at.
    copies: usize,
}

impl Watched {
    /// How many blocks the program has made and freed and said so.
    fn acknowledged(&self) -> u64 {
        number_in(&self.acknowledged)
    }

    fn length(&self) -> u64 {
        self.recording.metadata().expect("a file").len()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length() as usize];
        self.recording.read_exact_at(&mut bytes, 0).expect("readable");
        bytes
    }

    /// The header of the window's first chunk: no reader looks at more records than its state counts.
    fn chunk(&self) -> [u8; CHUNK_HEADER_BYTES] {
        let mut bytes = [0; CHUNK_HEADER_BYTES];
        let offset = (FILE_HEADER_BYTES + BLOCK_HEADER_BYTES) as u64;
        self.recording.read_exact_at(&mut bytes, offset).expect("readable");
        bytes
    }

    /// Looks for every acknowledged event in a file that a kill can leave.
    #[track_caller]
    fn look_at(&mut self, bytes: &[u8]) {
        let acknowledged = self.acknowledged();
        fs::write(&self.copy, bytes).expect("a copy");
        let history = History::read_killed(&self.copy);
        history.assert_whole();
        let events: Vec<_> = history.events.iter().filter(|event| event.align() == 4096).collect();
        for (number, event) in (0_u64..).zip(&events) {
            let kind = if number % 2 == 0 { EventKind::Alloc } else { EventKind::Free };
            assert_eq!((event.kind, event.size), (kind, 1 + number / 2 % 500));
        }
        let found = events.len() as u64 / 2;
        assert!((acknowledged..=acknowledged + 1).contains(&found), "{found} of {acknowledged}");
        self.copies += 1;
    }
}

fn number_in(file: &File) -> u64 {
    let mut number = [0; 8];
    file.read_exact_at(&mut number, 0).expect("a number");
    u64::from_le_bytes(number)
}

/// Answers how many different files were looked at; `None` where no program can be run by steps.
fn follow(directory: &Path, options: &str) -> Option<usize> {
    let [recording, acknowledged, copy] =
        ["recording", "acknowledged", "copy"].map(|name| directory.join(name));
    fs::write(&acknowledged, [0; 8]).expect("a file");
    let argument = format!("file={}", acknowledged.display());
    let mut command = recorded(OVER_SYSTEM, &["acknowledged", &argument], &recording, options);
    let program = Stepped::start(&mut command)?;
    let acknowledged = File::open(&acknowledged).expect("readable");
    // The program makes a system call behind its first hundred blocks.
    while number_in(&acknowledged) < 100 {
        assert!(program.to_system_call());
    }
    let recording = File::open(&recording).expect("readable");
    let mut watched = Watched { recording, acknowledged, copy, copies: 0 };
    for _ in 0..DRAINS {
        let before = watched.length();
        // At the beginning of the write nothing is in the log.
        let mut last = watched.bytes();
        while watched.length() == before {
            last = watched.bytes();
            watched.look_at(&last);
            assert!(program.to_system_call());
        }
        let whole = watched.bytes();
        // The kernel copies page by page, and the file grows with each.
        let pages = (before as usize..whole.len()).filter(|end| end.is_multiple_of(4096));
        for end in pages.chain([whole.len() - 1]) {
            watched.look_at(&[&last, &whole[before as usize..end]].concat());
        }
        watched.look_at(&whole);
        let (mut chunk, made) = (watched.chunk(), watched.acknowledged());
        for _ in 0..INSTRUCTIONS {
            assert!(program.to_instruction());
            let now = watched.chunk();
            if now != chunk {
                chunk = now;
                let bytes = watched.bytes();
                watched.look_at(&bytes);
            }
            if watched.acknowledged() > made + 1 {
                break;
            }
        }
        assert!(watched.acknowledged() > made + 1, "the next chunk was not begun");
    }
    drop(program);
    let bytes = watched.bytes();
    watched.look_at(&bytes);
    Some(watched.copies)
}

#[test]
fn a_kill_at_any_step_of_moving_a_chunk_loses_and_doubles_nothing() {
    let directory = TempDir::new().expect("a directory");
    for options in [",window=1M,stacks=off,compress=off", ",window=1M,stacks=2"] {
        let Some(copies) = follow(directory.path(), options) else {
            assert!(std::env::var_os("CI").is_none(), "no program can be run step by step");
            eprintln!("SKIPPED: no program can be run step by step");
            return;
        };
        // The parts of a write, the chunk's next state, its context, and some events.
        assert!(copies > DRAINS * 20, "{copies} different files");
    }
}
