//! What is recorded is what was asked for.

use tempfile::TempDir;

use crate::exact::record;
use crate::history::History;
use crate::program::{OVER_SYSTEM, recorded, run, scenario};

#[test]
fn a_paused_recording_has_what_was_done_in_its_turns() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let usr1 = format!("signal={}", libc::SIGUSR1);
    let by_signal = format!(",paused,{usr1}");
    for mut command in [
        scenario(OVER_SYSTEM, &["in_turn", &record(&path)]),
        recorded(OVER_SYSTEM, &["in_turn"], &path, ",paused"),
        recorded(OVER_SYSTEM, &["in_turn", &usr1], &path, &by_signal),
    ] {
        run(&mut command).quiet();
        let history = History::read(&path);
        let found = [65_000, 66_000, 67_000, 68_000].map(|base| history.of_trail(base).count());
        assert_eq!(found, [0, 200, 0, 200], "{command:?}");
        let markers: Vec<_> = history.markers.iter().map(|(text, _)| text.as_str()).collect();
        let (paused, resumed) = ("alloc-trace: paused", "alloc-trace: resumed");
        assert_eq!(markers, [resumed, paused, resumed]);
    }
}

#[test]
fn threads_are_taken_and_left_out_by_their_names() {
    let directory = TempDir::new().expect("a directory");
    for (options, expected) in [
        (",threads=worker-*", [200, 200, 200, 200, 0]),
        (",not-threads=worker-*", [0, 0, 0, 0, 400]),
        (",threads=*-1", [0, 200, 0, 0, 0]),
        (",threads=worker-*,not-threads=*-2", [200, 200, 0, 200, 0]),
    ] {
        let path = directory.path().join("recording");
        run(&mut recorded(OVER_SYSTEM, &["workers"], &path, options)).quiet();
        let history = History::read(&path);
        let bases = [65_000, 66_000, 67_000, 68_000, 70_000];
        assert_eq!(bases.map(|base| history.of_trail(base).count()), expected, "{options}");
        assert!(history.end.is_some(), "{options}");
    }
}

#[test]
fn the_programs_name_and_id_are_put_into_the_path() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let mut command = recorded(OVER_SYSTEM, &["nothing"], &path, "");
    command.env("ALLOC_TRACE", format!("{}/{{name}}.{{pid}}", directory.path().display()));
    let finished = run(&mut command).quiet();
    let name = format!("over_system.{}", finished.pid);
    assert_eq!(History::read(&directory.path().join(name)).of_trail(65_000).count(), 200);
    // The same from code.
    let path = directory.path().join("{pid}-{name}");
    let finished = run(&mut scenario(OVER_SYSTEM, &["nothing", &record(&path)])).quiet();
    let name = format!("{}-over_system", finished.pid);
    assert_eq!(History::read(&directory.path().join(name)).of_trail(65_000).count(), 200);
    assert!(!path.exists());
}

#[test]
fn the_resident_memory_is_recorded_at_the_beginning_now_and_then_and_at_the_end() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    run(&mut scenario(OVER_SYSTEM, &["growing", &record(&path)])).quiet();
    let resident = History::read(&path).resident;
    assert!(resident.len() > 2, "{resident:?}");
    let (first, last) = (resident[0], resident[resident.len() - 1]);
    assert!(first > 1 << 20 && last >= first + (64 << 20), "{resident:?}");
}
