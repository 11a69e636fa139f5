//! Signal handlers while the recorder works on a stack of its own, and its own handlers in odd places.

use tempfile::TempDir;

use crate::history::History;
use crate::program::{OVER_CORE, OVER_POOL, OVER_SYSTEM, recorded, run};

#[test]
fn handlers_on_an_alternate_stack_keep_their_frames() {
    let directory = TempDir::new().expect("a directory");
    for (program, options) in [
        (OVER_POOL, ",window=1M"),
        (OVER_CORE, ",window=1M,compress=off"),
        (OVER_CORE, ",ring,limit=16M"),
    ] {
        let path = directory.path().join("recording");
        let finished = run(&mut recorded(program, &["alternate_stack"], &path, options)).quiet();
        assert_eq!(finished.numbers(), [0], "with `{options}`");
        assert_eq!(History::read(&path).trails(64_000, 500), 200, "with `{options}`");
    }
}

#[test]
fn a_handler_may_take_as_much_stack_as_the_program_has() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let finished = run(&mut recorded(OVER_POOL, &["large_handler"], &path, ",window=1M")).quiet();
    assert_eq!(finished.numbers(), [1], "no handler ran: a test of nothing");
    let history = History::read(&path);
    history.assert_whole();
    assert_eq!(history.trails(64_000, 500), 200);
}

#[test]
fn the_recorder_s_own_signals_may_be_what_a_forked_child_gets_first() {
    let directory = TempDir::new().expect("a directory");
    for option in ["signal", "snapshot-signal"] {
        let path = directory.path().join("recording");
        let number = format!("signal={}", libc::SIGUSR1);
        let arguments = ["forked_and_signalled", &number];
        let options = format!(",{option}={}", libc::SIGUSR1);
        let program = if option == "signal" { OVER_SYSTEM } else { OVER_CORE };
        let finished = run(&mut recorded(program, &arguments, &path, &options)).quiet();
        let &[child] = finished.numbers().as_slice() else { panic!("a number") };
        let history = History::read(&directory.path().join(format!("recording.{child}")));
        assert_eq!(history.trails(66_000, 100), 1, "{option}");
    }
}
