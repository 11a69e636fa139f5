//! Counts, bytes, peak and what is live at the end, exactly: of the program, of each thread and of
//! each span.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alloc_trace_analysis::{Options, Summary};
use alloc_trace_format::{EndReason, Event, EventKind, Recording};
use serde_json::Value;
use tempfile::TempDir;

use crate::history::History;
use crate::program::{SCENARIOS, alloc_trace, checked, run, scenario};

/// What `alloc-trace report --json` says, which must be what the library says.
#[track_caller]
pub(crate) fn report(path: &Path, options: &[&str]) -> Value {
    let finished = run(alloc_trace().args(["report", "--json"]).args(options).arg(path)).success();
    let said: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let recording = Recording::open(path).expect("a recording");
    let has = |option| options.contains(&option);
    let analysis = Options::default().span_fields(has("--span-fields"));
    let analysis = analysis.symbols(!has("--no-symbols"));
    let summary = Summary::of(&recording, analysis).expect("read");
    assert_eq!(said, serde_json::to_value(&summary).expect("JSON"));
    said
}

/// What `alloc-trace events --json` says, an object an event.
#[track_caller]
pub(crate) fn events(path: &Path) -> Vec<Value> {
    let finished = run(alloc_trace().args(["events", "--json"]).arg(path)).success();
    let lines = finished.stdout.lines();
    let events: Vec<Value> =
        lines.map(|line| serde_json::from_str(line).expect("a JSON object")).collect();
    for (event, seq) in events.iter().zip(1u64..) {
        assert_eq!(event["seq"], seq);
    }
    events
}

/// The figures of an object, in a fixed order.
fn figures<const N: usize>(of: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| of[name].as_u64().unwrap_or_else(|| panic!("no {name} in {of:#}")))
}

const COUNTS: [&str; 6] =
    ["events", "allocations", "zeroed_allocations", "reallocations", "frees", "failed_requests"];
const BYTES: [&str; 5] =
    ["allocated_bytes", "freed_bytes", "peak_bytes", "live_bytes_at_end", "live_blocks_at_end"];

/// The row of a list whose `name` is as given.
#[track_caller]
fn row<'a>(list: &'a Value, name: &str) -> &'a Value {
    let mut rows = list.as_array().expect("a list").iter().filter(|row| row["name"] == name);
    let found = rows.next().unwrap_or_else(|| panic!("no {name} in {list:#}"));
    assert!(rows.next().is_none(), "{name} twice in {list:#}");
    found
}

/// The events between the markers, and the bytes live where they begin.
fn known_part(history: &History) -> (&[Event], u64) {
    let [(begin, first), (end, last)] = history.markers.as_slice() else {
        panic!("two markers, not {:?}", history.markers);
    };
    assert_eq!((begin.as_str(), end.as_str()), ("begin", "end"));
    let mut live = BTreeMap::new();
    for event in history.events.iter().take(*first).filter(|event| !event.failed) {
        let left = if event.kind == EventKind::Free { event.address } else { event.old_address };
        live.remove(&left);
        if event.kind != EventKind::Free {
            live.insert(event.address, event.size);
        }
    }
    (&history.events[*first..*last], live.values().sum())
}

#[track_caller]
fn assert_known(path: &Path, from_its_first_request: bool) {
    let history = History::read(path);
    if from_its_first_request {
        history.assert_whole();
    } else {
        history.assert_sound();
    }
    let (known, live_before) = known_part(&history);
    let kinds = |kind| known.iter().filter(|event| event.kind == kind).count();
    let kinds =
        [EventKind::Alloc, EventKind::AllocZeroed, EventKind::Realloc, EventKind::Free].map(kinds);
    assert_eq!((known.len(), kinds), (21, [11, 2, 1, 7]), "{known:#?}");
    let layouts: Vec<(u64, u64)> = known
        .iter()
        .filter(|event| event.kind != EventKind::Free)
        .map(|event| (event.size, event.align()))
        .collect();
    let huge = isize::MAX as u64 - 15;
    let (three, zeroed, five) = ([(1013, 16); 3], [(4099, 64); 2], [(3001, 8); 5]);
    let main_first = [&three[..], &zeroed, &[(2027, 16), (555, 1), (huge, 16)]].concat();
    assert_eq!(layouts, [main_first, five.to_vec(), vec![(777, 2048)]].concat());
    assert_eq!(known.iter().filter(|event| event.failed).count(), 1);

    let said = report(path, &[]);
    assert_eq!(said["complete"], true);
    assert_eq!(said["lost_records"], 0);
    assert_eq!(said["inferred_frees"], 0);
    assert_eq!(said["internal_events"], 0);
    let end = if from_its_first_request { "exited" } else { "stopped" };
    assert_eq!(said["end"], end);
    assert_eq!(figures(&said, ["events", "failed_requests"]), [history.events.len() as u64, 1]);
    let [allocated, freed, peak, live, _] = figures(&said, BYTES);
    assert_eq!(live, allocated - freed);
    // In the known part 25,230 bytes were live at once over what was live before.
    if !from_its_first_request {
        assert_eq!(peak, live_before + 25_230);
    }

    let thread = row(&said["by_thread"], "known-thread");
    assert_eq!(figures(thread, COUNTS), [11, 5, 0, 0, 6, 0]);
    assert_eq!(figures(thread, BYTES), [15_005, 12_004, 15_005, 3_001, 1]);
    assert_eq!(thread["temporary_allocations"], 0);
    assert_eq!(thread["exited"], true);
    let outer = row(&said["by_span"], "outer");
    assert_eq!(figures(outer, COUNTS), [6, 5, 0, 0, 1, 1]);
    assert_eq!(figures(outer, BYTES), [3_594, 3_594, 3_039, 0, 0]);
    assert_eq!(outer["temporary_allocations"], 1);
    assert_eq!(outer["spans"], 1);
    let inner = row(&said["by_span"], "inner");
    assert_eq!(figures(inner, COUNTS), [3, 0, 2, 1, 0, 0]);
    assert_eq!(figures(inner, BYTES), [10_225, 0, 10_225, 10_225, 3]);
    assert_eq!(inner["level"], 3);
    let threads = said["by_thread"].as_array().expect("a list");
    let sum = |name: &str| threads.iter().filter_map(|thread| thread[name].as_u64()).sum::<u64>();
    for name in COUNTS.iter().chain(&["allocated_bytes", "freed_bytes", "live_bytes_at_end"]) {
        assert_eq!(sum(name), said[*name].as_u64().expect("a number"), "{name} of all threads");
    }
    // Of a span that is older than the recording the fields are not known any more.
    let fields = if from_its_first_request { "id=7" } else { "" };
    assert_known_events(&events(path), fields);
}

/// The same by `alloc-trace events --json`.
#[track_caller]
fn assert_known_events(events: &[Value], fields: &str) {
    let of = |size: u64| events.iter().filter(move |event| event["size"] == size);
    let spans = |size: u64, kind: &str| -> Vec<&Value> {
        of(size).filter(|event| event["kind"] == kind).map(|event| &event["span_path"]).collect()
    };
    let outer = serde_json::json!(["outer"]);
    let inner = serde_json::json!(["outer", "inner"]);
    let none = serde_json::json!([]);
    assert_eq!(spans(1013, "alloc"), [&outer, &outer, &outer]);
    assert_eq!(spans(1013, "free"), [&none, &none]);
    assert_eq!(spans(4099, "alloc_zeroed"), [&inner, &inner]);
    assert_eq!(spans(2027, "realloc"), [&inner]);
    assert_eq!(spans(555, "free"), [&outer]);
    let grown = of(2027).next().expect("the realloc");
    let first = of(1013).next().expect("the first block");
    assert_eq!((&grown["old_addr"], &grown["old_size"]), (&first["addr"], &1013.into()));
    assert_eq!(first["span_fields"], fields);
    let last = of(777).next().expect("the last block");
    assert_eq!((&last["align"], &last["span"]), (&2048.into(), &Value::Null));
    assert!(of(3001).all(|event| event["thread_name"] == "known-thread"));
    let failed: Vec<&Value> = events.iter().filter(|event| event["failed"] == true).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["addr"], "0x0");
    let site = first["site"].as_str().expect("a site");
    assert!(site.contains("tests::block::Block::"), "{site}");
}

#[test]
fn events_known_by_construction_are_reported_exactly() {
    let directory = TempDir::new().expect("a directory");
    for (index, program) in SCENARIOS.iter().enumerate() {
        let path = directory.path().join(format!("environment-{index}"));
        run(&mut checked(program, &["known"], &path)).quiet();
        assert_known(&path, true);
        let path = directory.path().join(format!("builder-{index}"));
        run(&mut scenario(program, &["known", &record(&path)])).quiet();
        assert_known(&path, false);
    }
}

/// The argument that makes a scenario begin a recording itself.
pub(crate) fn record(path: &Path) -> String {
    format!("record={}", path.display())
}

#[test]
fn every_request_of_a_program_from_its_first_to_its_last_is_counted() {
    let directory = TempDir::new().expect("a directory");
    for (index, program) in SCENARIOS.iter().enumerate() {
        for options in ["", ",stacks=off", ",stacks=3", ",check"] {
            let path: PathBuf =
                directory.path().join(format!("{index}{options}").replace(',', "-"));
            let mut command = crate::program::recorded(program, &["counted"], &path, options);
            let finished = run(&mut command).quiet();
            let history = History::read(&path);
            history.assert_whole();
            assert_eq!(history.end.map(|(reason, _)| reason), Some(EndReason::Exited));
            let said = report(&path, &["--no-symbols"]);
            let names = [
                "allocations",
                "zeroed_allocations",
                "reallocations",
                "frees",
                "failed_requests",
                "allocated_bytes",
                "freed_bytes",
            ];
            assert_eq!(figures(&said, names).to_vec(), finished.numbers(), "{program} {options}");
            assert_eq!(said["unmatched_frees"], 0);
        }
    }
}

#[test]
fn each_thread_is_in_its_own_spans() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("spans");
    run(&mut checked(SCENARIOS[0], &["spans"], &path)).quiet();
    History::read(&path).assert_whole();
    let events = events(&path);
    for id in 0..4 {
        let of = |base: u64| {
            let size = base + id;
            let events: Vec<&Value> = events.iter().filter(|event| event["size"] == size).collect();
            assert!(events.iter().all(|event| event["thread_name"] == format!("span-{id}")));
            events
        };
        let fields = format!("id={id}");
        let in_request = of(10_000);
        assert_eq!(in_request.len() as u64, 2 * (id + 1));
        for event in in_request {
            assert_eq!(event["span_path"], serde_json::json!(["request"]));
            assert_eq!(event["span_fields"], fields);
        }
        assert_eq!(of(20_000).len(), 2);
        for event in of(20_000) {
            assert_eq!(event["span_path"], serde_json::json!(["request", "step"]));
        }
        assert_eq!(of(30_000).len(), 2);
        assert!(of(30_000).iter().all(|event| event["span"] == Value::Null));
    }
    let said = report(&path, &["--no-symbols", "--span-fields"]);
    let requests = said["by_span"].as_array().expect("a list").iter();
    let mut requests: Vec<&Value> = requests.filter(|span| span["name"] == "request").collect();
    requests.sort_by_key(|span| span["fields"].as_str());
    let fields: Vec<&Value> = requests.iter().map(|span| &span["fields"]).collect();
    assert_eq!(fields, ["id=0", "id=1", "id=2", "id=3"]);
    let said = report(&path, &["--no-symbols"]);
    assert_eq!(row(&said["by_span"], "request")["spans"], 4);
    assert_eq!(row(&said["by_span"], "step")["spans"], 4);
}
