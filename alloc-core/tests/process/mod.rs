//! Cases in processes of their own: a test runs its program again with its own name, and there the
//! case itself is run, with nothing beside it, for a limited time.

use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Set in the process that runs a case.
const CASE: &str = "ALLOC_CORE_CASE";

/// How long a case may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs `case` in a process of its own, or, if this is that process, here. Returns the process's
/// output to the test.
pub(crate) fn run(name: &str, case: impl FnOnce()) -> Option<Output> {
    if std::env::var(CASE).is_ok_and(|wanted| wanted == name) {
        case();
        return None;
    }
    let mut child = Command::new(std::env::current_exe().expect("this program's path"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CASE, name)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this program runs");
    let start = Instant::now();
    while child.try_wait().expect("its status").is_none() {
        if start.elapsed() > LIMIT {
            child.kill().expect("it can be killed");
            panic!("{name} did not end in time: {:?}", child.wait_with_output());
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("its output");
    let ran = String::from_utf8_lossy(&output.stdout).contains("running 1 test\n");
    assert!(ran, "no case has the name {name}: {output:?}");
    Some(output)
}

/// Runs a case that must succeed.
pub(crate) fn succeed(name: &str, case: impl FnOnce()) {
    if let Some(output) = run(name, case) {
        assert!(output.status.success(), "{name}: {output:?}");
    }
}

/// Runs a case that must end in an abort that says this.
#[allow(dead_code, reason = "not every program has cases that end this way")]
pub(crate) fn abort(name: &str, said: &str, case: impl FnOnce()) {
    if let Some(output) = run(name, case) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{name} went unnoticed");
        assert!(stderr.contains(said), "{name}: {output:?}");
    }
}
