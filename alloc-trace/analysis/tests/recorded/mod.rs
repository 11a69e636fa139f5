//! A test's own program, run again and recorded.

use std::process::Command;

use alloc_trace_analysis::Recording;
use tempfile::TempDir;

/// Names what the child does, in its test `program`.
pub(crate) const TASK: &str = "ALLOC_TRACE_TEST_TASK";

/// A recording of the program with this task, and the directory that it lies in.
pub(crate) fn record(task: &str) -> (TempDir, Recording) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("program.trace");
    let output = Command::new(std::env::current_exe().expect("known"))
        .args(["--exact", "program", "--nocapture", "--test-threads=1"])
        .env(TASK, task)
        .env("ALLOC_TRACE", &path)
        .output()
        .expect("run");
    assert!(output.status.success(), "{output:?}");
    let recording = Recording::open(&path).expect("readable");
    (directory, recording)
}
