//! Many threads, threads that end in odd ways, and signal handlers.

use std::env;

use std::collections::BTreeSet;

use alloc_trace_format::{Event, EventKind};
use tempfile::TempDir;

use crate::exact::{record, report};
use crate::history::History;
use crate::program::{
    OVER_POOL, OVER_SYSTEM, SCENARIOS, checked, optimised_merge_order, recorded, run, scenario,
};

/// How many times longer the stress tests run than by default: `ALLOC_TRACE_SOAK=100` takes minutes.
fn soak() -> u64 {
    env::var("ALLOC_TRACE_SOAK").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

fn assert_eight_threads(history: &History, said: &[u64]) {
    let kinds = |kind: EventKind| {
        history.events.iter().filter(|event| event.kind == kind && event.size >= 16).count() as u64
    };
    let &[made, resized] = said else { panic!("{said:?}") };
    // Whatever the runtime asks for comes on top.
    let (allocs, reallocs) = (kinds(EventKind::Alloc), kinds(EventKind::Realloc));
    assert!((made..made + 500).contains(&allocs), "{allocs} of {made}");
    assert!((resized..resized + 100).contains(&reallocs), "{reallocs} of {resized}");
    let remote = {
        let mut owners = std::collections::HashMap::new();
        let mut remote = 0;
        for event in &history.events {
            if event.kind == EventKind::Free {
                let owner = owners.remove(&event.address);
                remote += u64::from(owner.is_some_and(|owner| owner != event.thread));
            } else {
                owners.insert(event.address, event.thread);
            }
        }
        remote
    };
    assert!(remote > made / 16, "only {remote} remote frees");
}

#[test]
fn eight_threads_that_free_each_others_blocks_are_merged_in_order() {
    let directory = TempDir::new().expect("a directory");
    let rounds = format!("rounds={}", 6_000 * soak());
    for (index, program) in SCENARIOS.iter().enumerate() {
        let path = directory.path().join(format!("builder-{index}"));
        let arguments = ["eight_threads", &rounds, &record(&path)];
        let finished = run(&mut scenario(program, &arguments)).quiet();
        let history = History::read(&path);
        history.assert_sound();
        assert_eight_threads(&history, &finished.numbers());

        for options in [",stacks=off", ",check"] {
            let path = directory.path().join(format!("environment-{index}"));
            let mut command = recorded(program, &["eight_threads", &rounds], &path, options);
            let finished = run(&mut command).quiet();
            let history = History::read(&path);
            history.assert_whole();
            assert_eight_threads(&history, &finished.numbers());
        }
        let path = directory.path().join(format!("environment-{index}"));
        let said = report(&path, &["--no-symbols"]);
        assert_eq!((&said["unmatched_frees"], &said["inferred_frees"]), (&0.into(), &0.into()));
        assert_eq!(said["complete"], true);
    }
}

#[test]
fn of_five_million_events_of_eight_threads_no_address_is_live_twice() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let mut command = scenario(optimised_merge_order(), &[]);
    command.arg(&path).arg("5000000");
    let finished = run(&mut command).quiet();
    let &[events, remote, handed_on] = finished.numbers().as_slice() else { panic!("three") };
    assert!(remote > events / 32 && handed_on > events / 32, "{remote} {handed_on} of {events}");
}

#[test]
fn ten_thousand_short_threads_are_all_recorded() {
    assert_short_threads(10_000 * soak(), "");
    assert_short_threads(500, ",check");
}

#[track_caller]
fn assert_short_threads(count: u64, options: &str) {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let arguments = ["many_threads", &format!("count={count}")];
    run(&mut recorded(OVER_SYSTEM, &arguments, &path, options)).quiet();
    let history = History::read(&path);
    history.assert_whole();
    assert_eq!(history.threads.len() as u64, count + 1);
    assert_eq!(history.threads.values().filter(|thread| thread.exited).count() as u64, count);
    let mut seen = vec![(0, 0); count as usize];
    for event in &history.events {
        let number = event.size.checked_sub(100_000).filter(|&number| number < count);
        if let Some(number) = number {
            let (allocs, frees) = &mut seen[number as usize];
            match event.kind {
                EventKind::Alloc => *allocs += 1,
                _ => *frees += 1,
            }
        }
    }
    assert!(seen.iter().all(|&counts| counts == (1, 1)));
}

#[test]
fn more_threads_live_at_once_than_the_window_has_chunks_at_first() {
    let directory = TempDir::new().expect("a directory");
    for options in ["", ",check"] {
        let path = directory.path().join("recording");
        run(&mut recorded(OVER_SYSTEM, &["live_threads"], &path, options)).quiet();
        let history = History::read(&path);
        history.assert_whole();
        assert_eq!(history.threads.len(), 301);
        for number in 0..300 {
            assert_eq!(history.trails(200_000 + 10 * number, 10), 2, "of thread {number}");
        }
    }
}

#[test]
fn what_destructors_of_thread_locals_ask_for_is_recorded() {
    let directory = TempDir::new().expect("a directory");
    for program in SCENARIOS {
        let path = directory.path().join("recording");
        run(&mut checked(program, &["late_destructors"], &path)).quiet();
        let history = History::read(&path);
        history.assert_whole();
        for base in [61_500, 62_000, 63_000, 63_010, 63_020] {
            assert_eq!(history.trails(base, 10), 1, "the trail of {base}");
        }
        let thread = history.of_size(63_020).next().expect("the last trail").thread;
        assert_eq!(history.of_size(61_500).next().map(|event| event.thread), Some(thread));
    }
}

#[test]
fn a_thread_that_is_gone_has_no_slot_though_its_last_destructor_asked_for_memory() {
    let directory = TempDir::new().expect("a directory");
    for program in SCENARIOS {
        let path = directory.path().join("recording");
        // As many rounds as the C library has. With a slot each they would need a third part of the window.
        let file = format!("file={}", path.display());
        let arguments = ["late_destructors", "rounds=4", "count=60", &file];
        let finished = run(&mut recorded(program, &arguments, &path, "")).quiet();
        assert_eq!(finished.numbers(), [1], "pieces of the window");
        let history = History::read(&path);
        history.assert_whole();
        for base in [61_500, 62_000, 63_000, 63_010, 63_020, 63_030] {
            assert_eq!(history.trails(base, 10), 60, "the trail of {base}");
        }
        let threads: BTreeSet<_> = history.of_size(63_030).map(|event| event.thread).collect();
        assert_eq!(threads.len(), 60);
        assert!(threads.iter().all(|thread| history.threads[thread].exited));
    }
}

#[test]
fn a_thread_that_exits_in_c_code_is_recorded_to_its_end() {
    let directory = TempDir::new().expect("a directory");
    for program in SCENARIOS {
        let path = directory.path().join("recording");
        run(&mut checked(program, &["exit_in_c"], &path)).quiet();
        let history = History::read(&path);
        history.assert_whole();
        let thread = history.thread("exits-in-c");
        assert!(history.threads[&thread].exited);
        for base in [60_000, 60_500, 61_000] {
            assert_eq!(history.trails(base, 10), 1, "the trail of {base}");
        }
    }
}

#[test]
fn a_thread_that_is_cancelled_is_recorded_to_its_end_and_not_ended_within_a_hook() {
    let directory = TempDir::new().expect("a directory");
    for program in SCENARIOS {
        let path = directory.path().join("recording");
        // Small chunks: what the first thread makes when it was cancelled already goes to the log.
        run(&mut recorded(program, &["cancelled"], &path, ",window=1M")).quiet();
        let history = History::read(&path);
        history.assert_whole();
        assert_eq!(history.trails(60_000, 900), 60);
        assert_eq!(history.of_size(63_000).count(), 0);
        assert!(history.threads[&history.thread("cancels-itself")].exited);
        for number in 0..8 {
            let thread = history.thread(&format!("cancelled-{number}"));
            assert!(history.threads[&thread].exited, "{number}");
        }
        assert!(history.trails(61_000, 10) >= 8);
        assert_eq!(history.trails(62_000, 10), 1);
    }
}

#[test]
fn signal_handlers_that_allocate_lose_nothing_and_keep_the_order() {
    let directory = TempDir::new().expect("a directory");
    let wanted = format!("alarms={}", 300 * soak());
    for options in ["", ",stacks=off", ",check"] {
        let path = directory.path().join("recording");
        let arguments = ["alarms", "every=2000", &wanted];
        let finished = run(&mut recorded(OVER_POOL, &arguments, &path, options)).quiet();
        let history = History::read(&path);
        let &[alarms, short] = finished.numbers().as_slice() else { panic!("two numbers") };
        assert!(alarms >= 300);
        let count = |size: u64| history.of_size(size).count() as u64;
        let made = (count(64_000), count(64_001), count(70_000));
        assert_eq!(made, (2 * alarms, 2 * alarms, 2 * short), "with `{options}`");
        history.assert_whole();
    }
}

#[test]
fn a_handler_that_takes_what_an_interrupted_reallocation_left_comes_after_it() {
    let directory = TempDir::new().expect("a directory");
    for options in ["", ",stacks=off", ",check"] {
        let path = directory.path().join("recording");
        let arguments = ["interrupted_reallocations"];
        run(&mut recorded(OVER_POOL, &arguments, &path, options)).quiet();
        let history = History::read(&path);
        history.assert_whole();
        assert_eq!(history.trails(64_000, 1), 100);
        let resized: Vec<&Event> =
            history.events.iter().filter(|event| event.old_size == 40_000).collect();
        assert_eq!(resized.len(), 100);
        let taken = history.of_size(64_000).filter(|event| event.kind == EventKind::Alloc);
        assert!(taken.zip(resized).all(|(taken, resized)| taken.address == resized.old_address));
    }
}

#[test]
fn what_a_storm_of_signals_loses_is_counted() {
    let directory = TempDir::new().expect("a directory");
    let wanted = format!("alarms={}", 3_000 * soak());
    for options in ["", ",check"] {
        let path = directory.path().join("recording");
        let arguments = ["alarms", "every=100", &wanted];
        let finished = run(&mut recorded(OVER_POOL, &arguments, &path, options)).quiet();
        let history = History::read(&path);
        let &[alarms, short] = finished.numbers().as_slice() else { panic!("two numbers") };
        // Only the handlers' events can find the recorder busy.
        let of_handlers: Vec<&Event> =
            history.of_size(64_000).chain(history.of_size(64_001)).collect();
        let found = of_handlers.len() as u64;
        assert_eq!(found + history.lost, 4 * alarms, "with `{options}`");
        assert_eq!(history.of_size(70_000).count() as u64, 2 * short);
        // One that did so passed through the allocator twice: its leaves are what others have inside.
        let backtraces = of_handlers.iter().map(|event| history.backtrace(event.node).0);
        let backtraces: Vec<Vec<u64>> = backtraces.collect();
        let leaves: BTreeSet<u64> = history
            .events
            .iter()
            .filter_map(|event| history.backtrace(event.node).0.first().copied())
            .collect();
        let is_within = |backtrace: &&Vec<u64>| {
            backtrace.iter().skip(1).any(|address| leaves.contains(address))
        };
        let (interrupted, others): (Vec<_>, Vec<_>) = backtraces.iter().partition(is_within);
        assert!(!interrupted.is_empty(), "no handler interrupted the recorder: a test of nothing");
        // The handler's own frames.
        let inner = |backtrace: &&Vec<u64>| backtrace.get(..5).map(<[u64]>::to_vec);
        let known: BTreeSet<_> = others.iter().map(inner).collect();
        for backtrace in interrupted {
            assert!(known.contains(&inner(&backtrace)), "{backtrace:x?} with `{options}`");
        }
        assert!(backtraces.iter().all(|backtrace| backtrace.len() > 5), "with `{options}`");
    }
}
