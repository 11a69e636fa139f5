//! Processes that come of a recorded one: each has a recording of its own.

use std::env;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use alloc_trace_format::EndReason;
use tempfile::TempDir;

use crate::exact::record;
use crate::history::History;
use crate::program::{OVER_POOL, OVER_SYSTEM, SCENARIOS, checked, recorded, run, scenario};

/// The recordings in a directory, by the ids that their names add to `recording`.
fn recordings(directory: &Path, expected: &[String]) -> Vec<History> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    let mut sorted = expected.to_vec();
    sorted.sort();
    assert_eq!(names, sorted);
    let paths = expected.iter().map(|name| directory.join(name));
    paths.map(|path: PathBuf| History::read(&path)).collect()
}

/// How often each of the trails of 65,000, 66,000, 67,000 and 68,000 is in a recording.
fn trails(history: &History) -> [u64; 4] {
    [65_000, 66_000, 67_000, 68_000].map(|base| history.trails(base, 100))
}

#[test]
fn a_child_forked_while_threads_run_records_for_itself_and_its_parent_stays_whole() {
    for (program, how, options) in [
        (SCENARIOS[0], "exit", ",check"),
        (SCENARIOS[0], "exit_now", ""),
        (SCENARIOS[1], "exit", ""),
        (SCENARIOS[1], "exit_now", ",check"),
    ] {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().join("recording");
        let argument = format!("how={how}");
        let finished = run(&mut recorded(program, &["fork", &argument], &path, options)).quiet();
        let child = finished.numbers()[0];
        let names = ["recording".into(), format!("recording.{child}")];
        let [parent, forked] = recordings(directory.path(), &names).try_into().expect("two");
        parent.assert_whole();
        assert_eq!(trails(&parent), [0, 0, 1, 0]);
        assert_eq!(parent.end.map(|(reason, _)| reason), Some(EndReason::Exited));
        assert_eq!(parent.process.pid, finished.pid);
        // The child frees what its parent had allocated.
        forked.assert_sound();
        assert_eq!(trails(&forked), [0, 1, 0, 0]);
        assert_eq!(u64::from(forked.process.pid), child);
        assert_eq!(forked.process.parent_pid, finished.pid);
        assert_eq!(forked.threads.len(), 1, "{:?}", forked.threads);
        let reason = (how == "exit").then_some(EndReason::Exited);
        assert_eq!(forked.end.map(|(reason, _)| reason), reason);
    }
}

#[test]
fn a_child_that_is_cloned_behind_the_c_librarys_back_records_for_itself() {
    // Only the pool's heap has no lock that another thread could have held.
    let programs = [(SCENARIOS[0], 0), (OVER_SYSTEM, 0), (OVER_POOL, 3)];
    let each_way = ["how=clone", "how=clone3"].map(|how| programs.map(|program| (how, program)));
    for (how, (program, threads)) in each_way.into_iter().flatten() {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().join("recording");
        let arguments = ["fork", how, &format!("threads={threads}")];
        let finished = run(&mut checked(program, &arguments, &path)).quiet();
        let child = finished.numbers()[0];
        let names = ["recording".into(), format!("recording.{child}")];
        let [parent, cloned] = recordings(directory.path(), &names).try_into().expect("two");
        parent.assert_whole();
        assert_eq!((trails(&parent), trails(&cloned)), ([0, 0, 1, 0], [0, 1, 0, 0]));
        assert_eq!(parent.end.map(|(reason, _)| reason), Some(EndReason::Exited));
        cloned.assert_sound();
        assert_eq!(u64::from(cloned.process.pid), child);
        assert_eq!(cloned.threads.len(), 1, "{:?}", cloned.threads);
    }
}

#[test]
fn a_child_that_may_not_make_a_file_says_so_and_its_parent_stays_whole() {
    // It becomes nobody, who may not write into the directory.
    let directory = TempDir::new().expect("a directory");
    if directory.path().metadata().expect("the directory").uid() != 0 {
        assert!(env::var_os("CI").is_none(), "no process can become somebody else");
        eprintln!("SKIPPED: no process can become somebody else, which takes the rights of root");
        return;
    }
    let path = directory.path().join("recording");
    let arguments = ["fork", "how=as_nobody"];
    let finished = run(&mut checked(OVER_SYSTEM, &arguments, &path)).success();
    let [said] = finished.complaints().try_into().expect("one line");
    assert!(said.contains("nothing is recorded: ") && said.contains("denied"), "{said}");
    let [parent] = recordings(directory.path(), &["recording".into()]).try_into().expect("one");
    parent.assert_whole();
    assert_eq!(trails(&parent), [0, 0, 1, 0]);
}

#[test]
fn children_that_handlers_fork_in_the_middle_of_a_hook_leave_the_parents_file_alone() {
    for how in ["how=fork", "how=clone"] {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().join("recording");
        let mut command = recorded(OVER_POOL, &["forks_in_handlers", how], &path, ",window=1M");
        let made = run(&mut command).quiet().numbers()[0];
        let parent = History::read(&path);
        parent.assert_whole();
        assert_eq!(parent.of_size(70_000).count() as u64, 2 * made, "{how}");
        assert_eq!(parent.of_trail(66_000).count(), 0, "{how}");
    }
}

#[test]
fn a_childs_recording_lies_beside_its_parents_wherever_the_program_went() {
    let directory = TempDir::new().expect("a directory");
    let mut command = recorded(SCENARIOS[0], &["fork", "how=elsewhere"], "recording".as_ref(), "");
    let finished = run(command.current_dir(directory.path())).quiet();
    let names = ["recording".into(), format!("recording.{}", finished.numbers()[0])];
    let [parent, forked] = recordings(directory.path(), &names).try_into().expect("two");
    assert_eq!((trails(&parent), trails(&forked)), ([0, 0, 1, 0], [0, 1, 0, 0]));
}

#[test]
fn a_child_of_a_program_that_began_its_recording_itself_records_for_itself() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let finished = run(&mut scenario(OVER_SYSTEM, &["fork", &record(&path)])).quiet();
    let names = ["recording".into(), format!("recording.{}", finished.numbers()[0])];
    let [parent, forked] = recordings(directory.path(), &names).try_into().expect("two");
    assert_eq!((trails(&parent), trails(&forked)), ([0, 0, 1, 0], [0, 1, 0, 0]));
    assert_eq!(parent.end.map(|(reason, _)| reason), Some(EndReason::Stopped));
    assert_eq!(forked.end.map(|(reason, _)| reason), Some(EndReason::Exited));
}

#[test]
fn a_child_of_a_child_records_for_itself() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let finished = run(&mut checked(OVER_SYSTEM, &["fork_again"], &path)).quiet();
    let [grandchild, child] = finished.numbers()[..] else { panic!("two ids") };
    let names = [
        "recording".into(),
        format!("recording.{child}"),
        format!("recording.{child}.{grandchild}"),
    ];
    let found: Vec<_> = recordings(directory.path(), &names).iter().map(trails).collect();
    assert_eq!(found, [[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]);
}

#[test]
fn a_program_that_a_recorded_one_starts_records_for_itself() {
    for how in ["how=spawn", "how=fork_and_exec"] {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().join("recording");
        let finished = run(&mut checked(OVER_SYSTEM, &["spawn", how], &path)).quiet();
        let child = finished.numbers()[0];
        let names = ["recording".into(), format!("recording.{child}")];
        let [parent, started] = recordings(directory.path(), &names).try_into().expect("two");
        parent.assert_whole();
        started.assert_whole();
        assert_eq!((trails(&parent), trails(&started)), ([0, 0, 1, 0], [1, 0, 0, 0]));
        assert_eq!(started.process.parent_pid, finished.pid);
        assert_eq!(started.end.map(|(reason, _)| reason), Some(EndReason::Exited));
    }
}

#[test]
fn what_a_child_asks_for_before_it_becomes_another_program_is_in_a_recording_of_its_own() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let mut command = checked(OVER_SYSTEM, &["spawn", "how=allocate_before_exec"], &path);
    let finished = run(&mut command).quiet();
    let child = finished.numbers()[0];
    let names = ["", &format!(".{child}"), &format!(".{child}.1")];
    let names = names.map(|suffix| format!("recording{suffix}"));
    let [parent, before, after] = recordings(directory.path(), &names).try_into().expect("three");
    parent.assert_whole();
    before.assert_sound();
    after.assert_whole();
    let found = [&parent, &before, &after].map(trails);
    assert_eq!(found, [[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]]);
    assert_eq!((before.end, before.process.pid), (None, after.process.pid));
}

#[test]
fn a_program_that_becomes_another_keeps_both_recordings() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let finished = run(&mut checked(OVER_SYSTEM, &["exec"], &path)).quiet();
    let names = ["recording".into(), format!("recording.{}", finished.pid)];
    let [before, after] = recordings(directory.path(), &names).try_into().expect("two");
    before.assert_whole();
    after.assert_whole();
    assert_eq!((trails(&before), trails(&after)), ([0, 0, 1, 0], [1, 0, 0, 0]));
    assert_eq!(before.process.pid, after.process.pid);
    assert_eq!(before.end, None);
}
