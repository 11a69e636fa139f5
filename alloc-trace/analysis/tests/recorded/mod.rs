//! A test's own program, run again and recorded.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloc_trace_analysis::Recording;
use tempfile::TempDir;

/// Names what the child does, in its test `program`.
pub(crate) const TASK: &str = "ALLOC_TRACE_TEST_TASK";

/// Tells the child when it was begun, in nanoseconds since 1970.
const BEGUN: &str = "ALLOC_TRACE_TEST_BEGUN";

/// How long the recorded program has run by now, which it asks itself: on a busy machine that may be long before it
/// does anything of its own.
pub(crate) fn age() -> Duration {
    let begun = std::env::var(BEGUN).ok().and_then(|begun| begun.parse().ok()).expect("recorded");
    let begun = UNIX_EPOCH + Duration::from_nanos(begun);
    begun.elapsed().unwrap_or_default()
}

/// A recording of the program with this task, and the directory that it lies in.
pub(crate) fn record(task: &str) -> (TempDir, Recording) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("program.trace");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let output = Command::new(std::env::current_exe().expect("known"))
        .args(["--exact", "program", "--nocapture", "--test-threads=1"])
        .env(TASK, task)
        .env(BEGUN, now.as_nanos().to_string())
        .env("ALLOC_TRACE", &path)
        .output()
        .expect("run");
    assert!(output.status.success(), "{output:?}");
    let recording = Recording::open(&path).expect("readable");
    (directory, recording)
}
