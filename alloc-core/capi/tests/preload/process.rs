//! Running a program with the library preloaded, for a limited time.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use crate::library::LIBRARY;

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What a program did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command with the library preloaded.
pub(crate) fn run_preloaded(command: &mut Command) -> Outcome {
    run(command.env("LD_PRELOAD", &*LIBRARY))
}

/// Runs a command as it is.
pub(crate) fn run(command: &mut Command) -> Outcome {
    // Files, as nobody reads a pipe while the program runs.
    let (mut stdout, mut stderr) = (file(), file());
    let mut child = command
        .stdout(stdout.try_clone().expect("another handle"))
        .stderr(stderr.try_clone().expect("another handle"))
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not run: {error}"));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("its status") {
            break status;
        }
        if start.elapsed() > LIMIT {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
            panic!("{command:?} did not end in time: {}", text(&mut stderr));
        }
        thread::sleep(Duration::from_millis(2));
    };
    Outcome { status, stdout: text(&mut stdout), stderr: text(&mut stderr) }
}

fn file() -> File {
    tempfile::tempfile().expect("a temporary file")
}

fn text(file: &mut File) -> String {
    file.rewind().expect("back to its beginning");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("what was written");
    String::from_utf8_lossy(&bytes).into_owned()
}
