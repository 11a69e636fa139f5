//! Heap events as `tracing` events: each one once, none of the emitter's own, through subscribers
//! that allocate, format, take locks, and hand their lines to other threads.

use std::fs;
use std::path::Path;

use alloc_trace_analysis::{Events, Options, Recording};
use alloc_trace_format::EventKind;
use tempfile::TempDir;

use crate::exact::record;
use crate::history::History;
use crate::program::{OVER_CORE, OVER_SYSTEM, SCENARIOS, checked, run, scenario};

/// The fields of each heap event that the recording says the program made, as the scenario's
/// subscriber writes them; `site` apart.
fn expected(path: &Path) -> Vec<String> {
    let recording = Recording::open(path).expect("a recording");
    let mut events = Events::of(&recording, Options::default().symbols(false)).expect("readable");
    let mut lines = Vec::new();
    while let Some(event) = events.next_row().expect("readable") {
        let (address, size) = match (event.old_address, event.old_size) {
            (Some(address), Some(size)) => (address, size),
            _ => (event.address, event.size),
        };
        let mut line = format!("kind={};addr={address:#x};size={size};", event.kind.name());
        line.push_str(&format!("align={};", event.align));
        if event.kind == EventKind::Realloc {
            let (address, size) = (event.address, event.size);
            line.push_str(&format!("new_addr={address:#x};new_size={size};"));
        }
        line.push_str(&format!("thread={};", event.thread));
        if let Some(span) = event.span {
            line.push_str(&format!("span={};", span.name));
        }
        lines.push(line);
    }
    lines
}

#[test]
fn a_subscriber_that_allocates_formats_and_locks_is_given_every_event_once() {
    let directory = TempDir::new().expect("a directory");
    for program in SCENARIOS {
        let [path, lines] = ["recording", "lines"].map(|name| directory.path().join(name));
        let lines_argument = format!("lines={}", lines.display());
        let arguments = ["hostile_subscriber", &record(&path), &lines_argument];
        run(&mut scenario(program, &arguments)).quiet();
        let history = History::read(&path);
        history.assert_sound();
        let internal = history.threads.values().filter(|thread| thread.internal).count();
        assert_eq!(internal, 1, "{:?}", history.threads);

        let said = fs::read_to_string(&lines).expect("lines");
        let (mut in_spans, mut without_parent) = (0, 0);
        let mut said: Vec<String> = said
            .lines()
            .map(|line| {
                let (fields, site) = line.split_once("site=").expect("a site");
                let (site, parent) = site.split_once(";parent=").expect("a parent");
                assert!(site.contains('+') || site.starts_with("0x"), "{line}");
                assert!(matches!(parent, "-;" | "brief;"), "{line}");
                let in_span = fields.contains("span=brief;");
                in_spans += usize::from(in_span);
                assert!(in_span || parent == "-;", "{line}");
                // The program has left the span, which is open still, unless its thread was stopped in
                // the middle of a request: the event's own field has the name.
                without_parent += usize::from(in_span && parent == "-;");
                fields.to_owned()
            })
            .collect();
        let mut expected = expected(&path);
        let thread_of = |line: &String| {
            let thread = line.split("thread=").nth(1).expect("a thread");
            thread.split(';').next().and_then(|number| number.parse::<u32>().ok())
        };
        // The order of one thread is kept; that of different threads is compared in the recording.
        said.sort_by_key(thread_of);
        expected.sort_by_key(thread_of);
        assert_eq!(said.len(), expected.len());
        for (number, (said, expected)) in said.iter().zip(&expected).enumerate() {
            assert_eq!(said, expected, "event {number} by thread");
        }
        assert!(in_spans >= 4 * 100 * 2);
        assert!(without_parent * 10 < in_spans, "{without_parent} of {in_spans}");
        for number in 0..4 {
            for (kind, size) in [("alloc", 81_000), ("realloc", 81_000), ("free", 82_000)] {
                let is_one = |line: &&String| {
                    line.starts_with(&format!("kind={kind};"))
                        && line.contains(&format!(";size={};", size + number))
                };
                assert_eq!(said.iter().filter(is_one).count(), 100, "{kind} of {number}");
            }
        }
    }
}

#[test]
fn a_program_that_parks_everywhere_neither_hangs_nor_loses_an_event() {
    let directory = TempDir::new().expect("a directory");
    for program in SCENARIOS {
        let path = directory.path().join("recording");
        let finished = run(&mut checked(program, &["parking_lot"], &path)).quiet();
        assert_eq!(finished.stdout, "done\n");
        History::read(&path).assert_whole();
        let arguments = ["parking_lot", "rounds=40", &record(&path)];
        let finished = run(&mut scenario(program, &arguments)).quiet();
        assert_eq!(finished.stdout, "done\n");
        let history = History::read(&path);
        history.assert_sound();
        assert_eq!(history.of_size(83_000).count(), 2 * 6 * 40);
    }
}

#[test]
fn events_through_a_non_blocking_writer_come_to_rest() {
    let directory = TempDir::new().expect("a directory");
    for program in [OVER_CORE, OVER_SYSTEM] {
        let [path, lines] = ["recording", "lines"].map(|name| directory.path().join(name));
        let lines_argument = format!("lines={}", lines.display());
        let arguments = ["appender", &record(&path), &lines_argument];
        let finished = run(&mut scenario(program, &arguments)).quiet();
        let [at_rest, at_end] = finished.numbers()[..] else { panic!("two numbers") };
        // What `stop` asks for itself may be told.
        assert!(at_end.abs_diff(at_rest) < 10, "{at_rest} at rest, {at_end} at the end");
        let expected = expected(&path);
        assert_eq!(expected.len() as u64, at_end);
        let text = fs::read_to_string(&lines).expect("lines");
        assert_eq!(text.lines().count() as u64, at_end);
        let in_span = |line: &&str| line.contains("work: alloc_trace::heap: kind=\"alloc\" addr=");
        let trail = text.lines().filter(in_span).count();
        let told = text.lines().filter(|line| line.contains("span=\"work\"")).count();
        assert!(told >= 2000, "{told}");
        assert!((900..=1000 + 100).contains(&trail), "{trail}");
    }
}

#[test]
fn filters_decide_over_heap_events_as_over_any_others() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let given = |filter: &str, how: &str| {
        let filter = format!("filter={filter}");
        let arguments = ["filter", &filter, how, &record(&path)];
        let said = run(&mut scenario(OVER_SYSTEM, &arguments)).quiet().numbers()[0];
        let history = History::read(&path);
        history.assert_sound();
        assert_eq!(history.trails(85_000, 100), 1);
        (said, expected(&path).len() as u64)
    };
    for filter in ["trace", "alloc_trace::heap=trace", "info,alloc_trace=trace"] {
        for late in ["late=0", "late=1"] {
            let (said, recorded) = given(filter, late);
            assert_eq!(said, recorded, "{filter} {late}");
            assert!(said >= 200);
        }
    }
    // By the span that they happened in, which has closed by then.
    let (said, _) = given("off,[work]=trace", "span=1");
    assert!((180..=220).contains(&said), "{said}");
    let (said, _) = given("off,[other]=trace", "span=1");
    assert_eq!(said, 0);
    for filter in ["info", "debug", "trace,alloc_trace::heap=off", "alloc_trace::heap=debug"] {
        let (said, recorded) = given(filter, "late=0");
        assert_eq!(said, 0, "{filter}");
        assert!(recorded >= 200);
    }
}
