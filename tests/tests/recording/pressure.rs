//! Where there is no memory, and how much of it the recorder takes.

use std::os::unix::process::ExitStatusExt;

use alloc_trace_format::EventKind;
use tempfile::TempDir;

use crate::history::History;
use crate::program::{OVER_CORE, OVER_SYSTEM, recorded, run};

#[test]
fn without_memory_the_recording_is_whole_and_says_which_requests_failed() {
    let directory = TempDir::new().expect("a directory");
    for program in [OVER_CORE, OVER_SYSTEM] {
        let path = directory.path().join("recording");
        let finished = run(&mut recorded(program, &["out_of_memory"], &path, "")).quiet();
        let &[answered, refused] = finished.numbers().as_slice() else { panic!("two numbers") };
        assert!(answered > 0 && refused > 1, "{answered} and {refused}: a test of nothing");
        let history = History::read(&path);
        history.assert_whole();
        let asked = |failed| {
            let sizes = [1 << 40, 1 << 20, 64 << 10, 4 << 10];
            let events = history.events.iter().filter(|event| event.kind == EventKind::Alloc);
            let events = events.filter(|event| event.failed == failed && event.align() == 8);
            events.filter(|event| sizes.contains(&event.size)).count() as u64
        };
        assert_eq!((asked(false), asked(true)), (answered, refused));
        assert_eq!((history.trails(65_000, 100), history.trails(67_000, 100)), (1, 1));

        let finished = run(&mut recorded(program, &["out_of_memory", "how=die"], &path, ""));
        assert_eq!(finished.status.signal(), Some(libc::SIGABRT), "{}", finished.stderr);
        assert_eq!(finished.complaints(), Vec::<&str>::new());
        let history = History::read(&path);
        history.assert_whole();
        assert_eq!(history.trails(65_000, 100), 1);
        let enormous = history.events.iter().filter(|event| event.size == 1 << 40);
        assert_eq!(enormous.filter(|event| event.failed).count(), 2);
    }
}
