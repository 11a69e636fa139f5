//! In which span an event is, and which fields the span has.

use std::path::Path;

use alloc_trace_analysis::{Events, Options, Recording};
use tempfile::TempDir;

use crate::exact::record;
use crate::history::History;
use crate::program::{OVER_SYSTEM, SCENARIOS, run, scenario};

/// The spans, with the fields of the innermost, that the recording has for both events of the block of a
/// size.
fn spans_of(path: &Path, size: u64) -> String {
    let recording = Recording::open(path).expect("a recording");
    let mut events = Events::of(&recording, Options::default().symbols(false)).expect("readable");
    let mut found = Vec::new();
    while let Some(event) = events.next_row().expect("readable") {
        if event.size == size {
            found.push(event.span.map_or_else(String::new, |span| {
                let path: Vec<&str> = span.path.iter().map(|name| &**name).collect();
                format!("{} {}", path.join("/"), span.fields).trim_end().to_owned()
            }));
        }
    }
    assert_eq!(found.len(), 2, "{size}");
    assert_eq!(found[0], found[1], "{size}");
    found.swap_remove(0)
}

#[test]
fn a_thread_is_in_the_spans_that_it_entered_while_nothing_was_recorded() {
    let directory = TempDir::new().expect("a directory");
    let [first, second] = ["first", "second"].map(|name| directory.path().join(name));
    let second_argument = format!("second={}", second.display());
    for program in SCENARIOS {
        run(&mut scenario(program, &["span_turns", &record(&first), &second_argument])).quiet();
        History::read(&first).assert_sound();
        for (size, spans) in [
            (71_001, "before"),
            (71_002, ""),
            (71_003, "outer/within"),
            (71_004, "outer"),
            (71_005, ""),
            (72_001, "early"),
            (72_002, "paused"),
        ] {
            assert_eq!(spans_of(&first, size), spans, "{program} {size}");
        }
        for (size, spans) in [(73_001, "kept"), (73_002, "")] {
            assert_eq!(spans_of(&second, size), spans, "{program} {size}");
        }
    }
}

#[test]
fn fields_that_are_set_later_are_the_spans_from_then_on() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    run(&mut scenario(OVER_SYSTEM, &["span_fields", &record(&path)])).quiet();
    for (size, span) in [
        (74_001, "request id=7"),
        (74_002, "request id=7 user=anna"),
        (74_003, "request id=7 user=anna seat=12"),
        (74_004, "early late=true"),
    ] {
        assert_eq!(spans_of(&path, size), span, "{size}");
    }
}
